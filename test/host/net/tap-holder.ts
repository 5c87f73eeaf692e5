/**
 * A process that has a slot's tap open, as a VMM does, until its input ends. With "tamper" it leaves on the tap what such a
 * process can: a program that drops every packet, and another hardware address. Started in the slot's namespace.
 */
import { openFd } from "../../../ffi/files.ts";
import { address, call, holding, memory } from "../../../ffi/native.ts";

const [TUNSETIFF, TUNATTACHFILTER, SIOCSIFHWADDR] = [0x400454ca, 0x401054d5, 0x8924];

const fd = openFd("/dev/net/tun", "write");
const request = memory(40);
const view = new DataView(request.buffer);
new TextEncoder().encodeInto("tap0", request);
view.setUint16(16, 0x5002, true);
call("ioctl", fd, TUNSETIFF, request);
if (process.argv.includes("tamper")) {
  const program = memory(8); // return 0: of every packet, nothing
  program[0] = 6;
  const filter = memory(16);
  const filterView = new DataView(filter.buffer);
  filterView.setUint16(0, 1, true);
  holding([program], () => {
    filterView.setBigUint64(8, address(program), true);
    call("ioctl", fd, TUNATTACHFILTER, filter);
  });
  request.fill(0, 16);
  view.setUint16(16, 1, true);
  request.set([2, 0, 0, 0, 0, 9], 18);
  call("ioctl", fd, SIOCSIFHWADDR, request);
}
console.log("open");
for await (const _ of Bun.stdin.stream());

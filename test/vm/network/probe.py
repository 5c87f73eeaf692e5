# Runs in a guest: tries every target at once and prints, as one JSON object by id, how each ended and after how many
# milliseconds: {"reached": what it said}, {"refused": errno's name} or {"silent": true}.
import errno, json, os, selectors, socket, struct, sys, time

RAW_PROTOCOL = 253  # for experiments (RFC 3692): nobody speaks it, so a host that is reached says so
SAYS_NOBODY_SPEAKS_IT = ("ENOPROTOOPT", "EPROTO")

asked = json.loads(sys.argv[1])
ends = {}
watch = selectors.DefaultSelector()


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo_request(family, number):
    body = struct.pack("!HH", os.getpid() & 0xFFFF, number) + b"warren!!"
    kind = 8 if family == socket.AF_INET else 128
    head = struct.pack("!BBH", kind, 0, 0)
    return struct.pack("!BBH", kind, 0, checksum(head + body)) + body, body


def opened(target, family, number):
    kind = target["kind"]
    if kind == "tcp":
        return socket.socket(family, socket.SOCK_STREAM), None, None
    if kind == "udp":
        return socket.socket(family, socket.SOCK_DGRAM), b"probe", None
    if kind == "raw":
        return socket.socket(family, socket.SOCK_RAW, RAW_PROTOCOL), b"warren!!", None
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    first, body = echo_request(family, number)
    return socket.socket(family, socket.SOCK_RAW, protocol), first, body


class Try:
    def __init__(self, target, number):
        self.id, self.kind, self.begun = target["id"], target["kind"], time.monotonic()
        self.family = socket.AF_INET6 if ":" in target["address"] else socket.AF_INET
        try:
            self.socket, first, self.expected = opened(target, self.family, number)
            self.socket.setblocking(False)
            if target["address"] == "255.255.255.255":
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            code = self.socket.connect_ex((target["address"], target["port"] if self.kind in ("tcp", "udp") else 0))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, "connect")
            if first is not None:
                self.socket.send(first)
            watch.register(self.socket, selectors.EVENT_READ, self)
        except OSError as error:
            self.end({"refused": errno.errorcode.get(error.errno, str(error.errno))})

    def end(self, how):
        how["ms"] = round((time.monotonic() - self.begun) * 1000)
        ends[self.id] = how
        if getattr(self, "socket", None) is not None:
            if self.socket in watch.get_map():
                watch.unregister(self.socket)
            self.socket.close()

    def ready(self):
        try:
            said = self.socket.recv(2048)
        except BlockingIOError:
            return
        except OSError as error:
            name = errno.errorcode.get(error.errno, str(error.errno))
            if self.kind == "raw" and name in SAYS_NOBODY_SPEAKS_IT:
                return self.end({"reached": name})
            return self.end({"refused": name})
        if self.kind in ("tcp", "udp"):
            return self.end({"reached": said.decode(errors="replace").strip()} if said else {"refused": "closed"})
        if self.expected is not None and said.endswith(self.expected):
            reply = said[20] == 0 if self.family == socket.AF_INET else said[0] == 129
            if reply:
                self.end({"reached": "echo"})


tries = [Try(target, number) for number, target in enumerate(asked["targets"])]
# As long as there is news: what has not answered so long after the last that did will not.
while watch.get_map():
    news = watch.select(asked["quiet"])
    if not news:
        break
    for key, _ in news:
        key.data.ready()
for one in tries:
    if one.id not in ends:
        one.end({"silent": True})
print(json.dumps(ends))

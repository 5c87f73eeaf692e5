/** The one WebSocket handler of a server: each socket has its own end, which it is passed on to. Bounds are the runtime's. */
import { BOUNDS } from "../bounds.ts";
import type { SocketEnd } from "../parts.ts";

export const websocketHandler: Bun.WebSocketHandler<SocketEnd> = {
  open: (socket) => socket.data.open(socket),
  message: (socket, message) => socket.data.message(socket, message),
  drain: (socket) => socket.data.drain(socket),
  close: (socket, code, reason) => socket.data.close(socket, code, reason),
  maxPayloadLength: BOUNDS.socketFrameBytes,
  // What waits to be sent is bounded by who sends: each looks at the buffer first. One message of a program's always fits.
  backpressureLimit: 16 * 1024 * 1024,
  closeOnBackpressureLimit: false,
  idleTimeout: 120,
  sendPings: true,
  perMessageDeflate: false,
};

/** Ports of a sandbox as its handle has them: HTTP, WebSockets, streams and forwards, all through the sandbox's agent. */
export { connectPort, type PortConnection } from "./ports/connect.ts";
export { fetchPort, type PortRequest } from "./ports/fetch.ts";
export { type ForwardOptions, forwardPort, type PortForward } from "./ports/forward.ts";
export { openWebSocket, type WebSocketOptions } from "./ports/websocket.ts";

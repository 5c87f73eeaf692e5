/** Servers for real guests, in Python, without a single quote: they travel in a command line. The port is their argument. */

/** Sends back what it gets, ends when its client does; 127.0.0.1 only. */
export const ECHO = `
import socket, sys, threading
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
def serve(peer):
    with peer:
        while data := peer.recv(65536):
            peer.sendall(data)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
`;

/** An HTTP/1.1 server with connections that are kept. */
export const SERVER = `
import hashlib, http.server, json, socketserver, sys, time
connections = 0
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def setup(self):
        global connections
        connections += 1
        super().setup()
    def log_message(self, *args):
        pass
    def answer(self, status, body, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
    def do_POST(self):
        body = self.body()
        if self.path == "/sha":
            return self.answer(200, hashlib.sha256(body).hexdigest().encode())
        said = {"body": len(body), "own": self.headers.get("x-own"), "method": self.command}
        self.answer(200, json.dumps(said).encode())
    do_PUT = do_POST
    def do_GET(self):
        if self.path.startswith("/bytes?"):
            return self.answer(200, b"a" * int(self.path[7:]))
        if self.path == "/missing":
            return self.answer(404, b"nothing here")
        if self.path == "/empty":
            return self.answer(204, b"")
        if self.path == "/moved":
            return self.answer(302, b"", {"Location": "/hello"})
        if self.path == "/out":
            return self.answer(302, b"", {"Location": "http://example.com/"})
        if self.path == "/ticks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while True:
                self.wfile.write(b"5\\r\\ntick\\n\\r\\n")
                time.sleep(0.02)
        said = {"path": self.path, "host": self.headers["Host"], "connections": connections}
        self.answer(200, json.dumps(said).encode())
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    def handle_error(self, *args):
        pass
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
`;

/** Sends back each message; just enough of RFC 6455 for frames that are not fragmented. */
export const WEBSOCKET = `
import base64, hashlib, socket, struct, sys, threading
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve(peer):
    with peer, peer.makefile("rb") as stream:
        key = b""
        while (line := stream.readline().strip()):
            if line.lower().startswith(b"sec-websocket-key:"):
                key = line.split(b":")[1].strip()
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        head = b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
        peer.sendall(head + b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
        while head := stream.read(2):
            size = head[1] & 127
            if size == 126:
                size = struct.unpack(">H", stream.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", stream.read(8))[0]
            mask = stream.read(4)
            data = stream.read(size)
            data = bytes(b ^ mask[i % 4] for i, b in enumerate(data))
            size = bytes([size]) if size < 126 else b"\\x7e" + struct.pack(">H", size) if size < 65536 else b"\\x7f" + struct.pack(">Q", size)
            peer.sendall(head[:1] + size + data)
            if head[0] & 15 == 8:
                return
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
`;

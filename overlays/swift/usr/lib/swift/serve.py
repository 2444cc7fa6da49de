"""Answers HTTP at a Unix socket, and leaves a file where others see it."""

import os
import signal
import socketserver
from http.server import BaseHTTPRequestHandler

SOCKET = "/run/swift/http.sock"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"swift was here: " + self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "the proxy"


signal.signal(signal.SIGHUP, signal.SIG_IGN)
with open("/var/lib/swift/greeting", "w") as file:
    file.write("chirp")
with socketserver.ThreadingUnixStreamServer(SOCKET, Handler) as server:
    os.chmod(SOCKET, 0o666)
    server.serve_forever()

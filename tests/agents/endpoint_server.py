"""An OpenAI-compatible endpoint that says what it is told to."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """An endpoint that gives `replies`, completions or (status, text), one after another."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.replies: list[Any] = []
        self.connections = 0  # that are open
        asked, replies, server = self.asked, self.replies, self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # which keeps a connection open, unless the client closes it

            def handle(self) -> None:
                server.connections += 1
                super().handle()
                server.connections -= 1

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
                reply = replies.pop(0)
                status, reply = reply if isinstance(reply, tuple) else (200, reply)
                data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/v1/"

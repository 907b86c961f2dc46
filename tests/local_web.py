"""A web server on this machine, for the tools that read the web or ask a model."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    body: bytes
    kind: str = "text/plain"
    status: int = 200
    location: str = ""


@contextmanager
def serving(
    answer: Callable[[str, Mapping[str, str]], Reply],
    posted: Callable[[str, Mapping[str, str], bytes], Reply] | None = None,
) -> Iterator[str]:
    """Its address, while it serves what `answer` makes of a request's path, with its query, and headers.

    `posted` is the same for POST, and gets the body too.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(answer(self.path, self.headers))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(posted(self.path, self.headers, body) if posted else Reply(b"", status=405))

        def reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.location:
                self.send_header("Location", reply.location)
            with suppress(ConnectionError):  # who asked has given up
                self.end_headers()
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

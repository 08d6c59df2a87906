"""An HTTP server on this machine that fails on demand, for tests of downloads."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """How to answer one request; the default is a correct answer.

    Attributes:
        status: Anything but 200 is answered with `headers` and `page` alone.
        content: What the file holds now, None for the server's own.
        ranges: Whether the header Range is understood.
        align: A range begins at the last multiple of this, which the standard allows.
        skip: A range begins this many bytes too late, and says so.
        content_range: Sent instead of the right Content-Range.
        length: Whether the answer has a Content-Length.
        cut: Bytes of the body after which the connection ends.
        reset: The connection ends with a reset instead of in good order.
        stall: After `cut` bytes nothing comes until the server closes, or `go_on` is set: then the rest.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    page: bytes = b""
    content: bytes | None = None
    ranges: bool = True
    align: int = 1
    skip: int = 0
    content_range: str | None = None
    length: bool = True
    cut: int | None = None
    reset: bool = False
    stall: bool = False


class FlakyServer:
    """Serves `content` at every path; the first requests are answered by `replies`, all others correctly.

    Attributes:
        url: Address of the file.
        asked: The value of the header Range of every request, None where it had none.
        headers: All headers of every request.
        go_on: Set it to let stalled answers go on.
    """

    def __init__(self, content: bytes, replies: list[Reply], context: ssl.SSLContext | None = None):
        self.content, self.replies = content, list(replies)
        self.headers: list[Mapping[str, str]] = []
        self.asked: list[str | None] = []
        self.paths: list[str] = []
        self.go_on = threading.Event()
        self.closing = False
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self)

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # clients that hang up are part of these tests

        self._server = Server(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._server.server_address[1]}/file.h5"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.closing = True
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler):
        asked = handler.headers["Range"]
        with self._lock:
            self.headers.append(dict(handler.headers))
            self.asked.append(asked)
            self.paths.append(handler.path)
            reply = self.replies.pop(0) if self.replies else Reply()
        if reply.status != 200:
            return self._send(handler, reply.status, {"Content-Length": str(len(reply.page)), **reply.headers}, reply)
        content = self.content if reply.content is None else reply.content
        if not (asked and reply.ranges):
            return self._send(handler, 200, dict(reply.headers), reply, content)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) // reply.align * reply.align + reply.skip
        if start >= len(content):
            return self._send(handler, 416, {"Content-Range": f"bytes */{len(content)}"}, reply, b"no such bytes")
        right = f"bytes {start}-{len(content) - 1}/{len(content)}"
        span = right if reply.content_range is None else reply.content_range
        return self._send(handler, 206, {**reply.headers, "Content-Range": span}, reply, content[start:])

    def _send(self, handler, status, headers, reply, body=None):
        if body is None:
            body = reply.page
        if reply.length:
            headers.setdefault("Content-Length", str(len(body)))
        headers.setdefault("Content-Type", "application/octet-stream")
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body[: reply.cut])
        if reply.stall:
            self.go_on.wait(30)
            if not self.closing:
                handler.wfile.write(body[reply.cut :])
        if reply.reset:  # without waiting time, closing tells the client at once that the connection is lost
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

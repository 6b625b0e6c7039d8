"""A server of files on loopback as RFC 9110 has them, with Range, If-Range and entity tags, that can be made to fail."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stages.panelling.release import Piece


class Origin(ThreadingHTTPServer):
    """Serves the `files` by their names. `cuts` are the numbers of bytes after which coming connections break, `asked` the Range headers
    that came; with `heeds` False it takes no notice of If-Range, with `tags` False it sends no entity tag."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.ranges = self.tags = self.heeds = self.lengths = True
        self.status, self.kind = 200, "application/octet-stream"
        self.cuts: list[int] = []
        self.asked: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def publish(self, name: str, content: bytes) -> Piece:
        """Have a file there from now on."""
        self.files[name] = content
        return Piece(name, len(content), hashlib.sha256(content).hexdigest(), self.url(name), f"{self.url(name)}.html")


class _Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        origin, content = self.server, self.server.files[self.path[1:]]
        wanted = self.headers.get("Range")
        origin.asked.append(wanted)
        tag = f'"{hashlib.md5(content).hexdigest()}"' if origin.tags else ""
        same = not origin.heeds or self.headers.get("If-Range", tag) == tag
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and origin.ranges and same else 0
        if origin.status != 200 or (begin and begin >= len(content)):
            self.send_error(origin.status if origin.status != 200 else 416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Type", origin.kind)
        if origin.lengths:
            self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        end = begin + origin.cuts.pop(0) if origin.cuts else len(content)
        self.wfile.write(content[begin:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving_files() -> Iterator[Origin]:
    """An origin that answers until the block ends."""
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving_files() as server:
        yield server

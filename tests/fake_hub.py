"""A model hub on loopback, with one model of some commit: what the hub's own client library asks of it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

MODEL = "someone/tiny"
COMMIT = "c0ffee" * 6 + "cafe"


class Hub(ThreadingHTTPServer):
    """Serves the files of `folder` as `MODEL`; `asked` are the requests that came, `status` what is
    answered to all if it is not 200, with the hub's name of the `error`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.status, self.asked = folder, 200, list[str]()
        self.commit, self.error = COMMIT, ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir())}

    def fetched(self) -> list[str]:
        """The names of the files that were sent, in the order of names."""
        return sorted(
            path.rpartition("/")[2]
            for verb, _, path in (a.partition(" ") for a in self.asked)
            if verb == "GET" and "/resolve/" in path
        )


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if self.server.status != 200:
            return self._say(self.server.status, b"{}", {"X-Error-Code": self.server.error})
        begin = f"/api/models/{MODEL}"
        if path in (begin, f"{begin}/revision/main", f"{begin}/revision/{self.server.commit}"):
            files = [{"rfilename": name, "size": len(content)} for name, content in self.server.files().items()]
            return self._json({"id": MODEL, "sha": self.server.commit, "siblings": files})
        if path.startswith(f"{begin}/revision/"):
            return self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path == f"{begin}/tree/{self.server.commit}":
            return self._json([self._entry(*file) for file in self.server.files().items()])
        name = path.removeprefix(f"/{MODEL}/resolve/").removeprefix("main/").removeprefix(f"{self.server.commit}/")
        content = self.server.files().get(name)
        if content is None:
            return self._say(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        return self._say(200, content, {"ETag": f'"{_etag(name, content)}"', "X-Repo-Commit": self.server.commit})

    def _entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        large = {"oid": _etag(name, content), "size": len(content), "pointerSize": 130}
        return {**entry, "lfs": large} if name.endswith(".safetensors") else entry

    def _json(self, content: Any) -> None:
        self._say(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _say(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _etag(name: str, content: bytes) -> str:
    """As on the hub: a large file goes by its SHA-256, another one by git's hash."""
    return (hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1)(content).hexdigest()


@contextmanager
def hub(folder: Path, cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub that serves `folder`, as the one that is asked, with a cache of its own."""
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        ask(server.url, cache, patch)
        yield server
        server.shutdown()
        thread.join()


def ask(url: str, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the hub's client library ask at this address, and keep what comes in `cache`."""
    patch.setenv("no_proxy", "127.0.0.1")
    patch.setattr("huggingface_hub.constants.ENDPOINT", url)
    patch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

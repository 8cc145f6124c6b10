"""A hub of one's own: enough of the Hugging Face hub's routes for its library to fetch files from a folder.

Serves `/api/models/ORG/NAME` and `/ORG/NAME/resolve/REVISION/FILE` with ranges, ETags and the commit in a header.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves ROOT/ORG/NAME/FILE. `asked` are the requests so far: "HEAD /path"."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.asked = root, []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fetched(self) -> list[str]:
        """The files whose contents were fetched."""
        return [
            line.rpartition("/resolve/main/")[2]
            for line in self.asked
            if line.startswith("GET") and "/resolve/" in line
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        match path.strip("/").split("/"):
            case ["api", "models", org, name, *_] if (folder := self.server.root / org / name).is_dir():
                files = sorted(one for one in folder.rglob("*") if one.is_file())
                siblings = [{"rfilename": str(one.relative_to(folder)), "size": one.stat().st_size} for one in files]
                body = {
                    "_id": "0",
                    "id": f"{org}/{name}",
                    "modelId": f"{org}/{name}",
                    "sha": COMMIT,
                    "siblings": siblings,
                }
                self.send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})
            case [org, name, "resolve", _, *file] if (found := self.server.root.joinpath(org, name, *file)).is_file():
                self.send_file(found.read_bytes())
            case ["api", "models", *_]:
                self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            case _:
                self.send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def send_file(self, content: bytes) -> None:
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if wanted and self.command == "GET":
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send(206, content[start:], headers)
        else:
            self.send(200, content, headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests look at `asked` instead."""


@contextlib.contextmanager
def serve(root: Path):
    """A hub that runs while the block does."""
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join(10)
        hub.server_close()

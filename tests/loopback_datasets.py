# ruff: noqa: N802 - the names are http.server's
"""A Hub on this machine that `datasets` streams from: `with hub(folder) as served`, for a process of its own.

Each folder below `folder` named owner--name is a dataset. What was sent is counted: streaming reads only what it needs.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

from loopback_hub import Hub, etag


class DatasetsHub(Hub):
    """The part of the Hub's protocol that streaming needs: the one for models, under other names, and ranges."""

    sent = 0
    environment: dict[str, str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """As for models."""
        self.path = self.path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        super().do_GET()

    def do_POST(self) -> None:
        """What is known of some paths of a repository."""
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}").get("paths", [])
        _, _, owner, name, *_ = self.path.strip("/").split("/")
        folder = self.root / f"{owner}--{name}"
        found = [
            {"type": "file", "path": each, "size": (folder / each).stat().st_size, "oid": etag(folder / each)}
            for each in wanted
            if (folder / each).is_file()
        ]
        self.answer(200, json.dumps(found).encode())

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send an answer, or the part of it that is asked for."""
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if asked and status == 200:
            first, last = (int(end or len(body)) for end in asked.split("-"))
            headers = {**(headers or {}), "Content-Range": f"bytes {first}-{last}/{len(body)}"}
            status, body = 206, body[first : last + 1]
        type(self).sent += len(body) if self.command == "GET" else 0
        super().answer(status, body, headers)


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[type["DatasetsHub"]]:
    """A Hub that serves a folder; its `environment` is that of a process that should find it."""

    class Server(DatasetsHub):
        root = folder

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "cache"),
    }
    try:
        yield Server
    finally:
        server.shutdown()
        server.server_close()

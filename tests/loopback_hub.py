"""A Hub on this machine that huggingface_hub downloads models from: `python loopback_hub.py FOLDER COMMAND…`.

Each folder below FOLDER named owner--name is a repository. For every line on stdin, a JSON list of arguments, it runs
`ip2p` and prints the exit status, stdout and stderr as a line of JSON. The line "offline" shuts the Hub down first.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" * 6 + "c0de"


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's protocol that downloading needs."""

    root: Path

    def do_HEAD(self) -> None:
        """Headers only."""
        self.do_GET()

    def do_GET(self) -> None:
        """A repository's description, its list of files, or a file."""
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        folder = self.root / f"{owner}--{name}"
        if not folder.is_dir():
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        if api and rest[:1] == ["tree"]:
            tree = [
                {"type": "file", "path": n, "size": (folder / n).stat().st_size, "oid": etag(folder / n)} for n in names
            ]
            return self.answer(200, json.dumps(tree).encode())
        if api:
            siblings = [{"rfilename": n} for n in names]
            about = {"id": f"{owner}/{name}", "modelId": f"{owner}/{name}", "sha": COMMIT, "siblings": siblings}
            return self.answer(200, json.dumps(about).encode())
        file = folder.joinpath(*rest[2:])
        if not file.is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self.answer(200, file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(file)}"'})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def main() -> None:
    Hub.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Read when huggingface_hub is imported.
    os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_DISABLE_XET": "1"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    from ip2p.cli import main as ip2p

    for line in sys.stdin:
        arguments = json.loads(line)
        if arguments == "offline":
            server.shutdown()
            server.server_close()
            continue
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = ip2p(arguments)
        print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)


if __name__ == "__main__":
    main()

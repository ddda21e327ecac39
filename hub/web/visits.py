"""A visit's files are its own: a picture is given only to the browser that the page told of it."""

import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Rate

COOKIE = "ip2p_visit"
VISITS, FILES = 10_000, 2_000  # that are remembered: visits, and files of each
MOST_BYTES = 1_000_000  # of a request that is no upload
# Gradio keeps each file in a folder that has the hash of its content for a name.
FOLDER = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
UPLOAD = "/gradio_api/upload"
FILE = re.compile(r"/file[=/](.*)", re.DOTALL)  # at both addresses Gradio also fetches from other servers
NO_PICTURE = "There is no such picture in this visit."


class Visits:
    """Around the page's server: which visit, known by its cookie, was told of which files.

    A visit is told of a file by an answer that has its path. No request can name the folder of another visit's file, so
    no answer can be made to repeat it.

    cache:   where Gradio keeps files
    uploads: how many files a visitor may send in a minute
    """

    def __init__(self, app: ASGIApp, cache: Path, uploads: Rate) -> None:
        self.app, self.uploads = app, uploads
        # A whole text begins with its path; within a text the quotes would be escaped.
        start = re.escape(json.dumps(str(cache), ensure_ascii=False)[1:-1].encode())
        self.told = re.compile(rb'(?<!\\)"' + start + rb"[/\\]+([0-9a-f]{64})[/\\]")
        self.kept = re.compile(re.escape(str(cache)) + r"[/\\]+([0-9a-f]{64})[/\\]")
        self.folders: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        known = visit_of(scope)
        visit = known or secrets.token_urlsafe(24)
        is_upload = scope["path"] == UPLOAD
        refused = self.refused(visit, scope, is_upload)
        if refused is None and scope["method"] == "POST" and not is_upload:
            body = await whole(receive)
            refused = self.refused_body(visit, body)
            receive = again(body, receive)
        if refused is not None:
            status, sentence = refused
            return await JSONResponse({"detail": sentence}, status)(scope, receive, send)
        # Answers are read here, so they come uncompressed.
        scope = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"accept-encoding"]}
        kind = ""

        async def watched(message: Message) -> None:
            nonlocal kind
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                kind = answered.get("content-type", "")
                if known is None:
                    scheme = headers.get("x-forwarded-proto", scope["scheme"]).split(",")[0]
                    answered.append("set-cookie", cookie(visit, scheme.strip() == "https"))
            elif kind.startswith(("text/event-stream", "application/json", "text/html")):
                for folder in self.told.findall(message.get("body", b"")):
                    self.remember(visit, folder.decode())
            await send(message)

        await self.app(scope, receive, watched)

    def refused(self, visit: str, scope: Scope, is_upload: bool) -> tuple[int, str] | None:
        """Why a request can't be answered, from its address; None where it can."""
        asked = FILE.search(scope["path"])
        if asked and not self.owns(visit, asked[1]):
            return 404, NO_PICTURE
        if is_upload and self.uploads.wait(scope["client"][0] if scope.get("client") else ""):
            return 429, "That were many files in a minute: wait a little."
        return None

    def refused_body(self, visit: str, body: bytes | None) -> tuple[int, str] | None:
        """Why a request can't be answered, from its content; None where it can."""
        if body is None:
            return 413, "That is too much at once."
        try:
            asked = json.loads(body) if body else None
        except (ValueError, RecursionError):
            return 400, "That is no JSON."
        named = {name for text in texts(asked) for name in FOLDER.findall(text)}
        return (403, NO_PICTURE) if named - self.folders.get(visit, {}).keys() else None

    def owns(self, visit: str, path: str) -> bool:
        """Whether a visit was told of a file."""
        folder = self.kept.match(path)
        return folder is not None and ".." not in path and folder[1] in self.folders.get(visit, ())

    def remember(self, visit: str, folder: str) -> None:
        """A visit is told of a file."""
        folders = self.folders.setdefault(visit, OrderedDict())
        self.folders.move_to_end(visit)
        folders[folder] = None
        folders.move_to_end(folder)
        if len(folders) > FILES:
            folders.popitem(last=False)
        if len(self.folders) > VISITS:
            self.folders.popitem(last=False)


def visit_of(scope: Scope) -> str | None:
    """The visit that a browser names, whatever cookies other servers of this host gave it."""
    told = HTTPConnection(scope).cookies.get(COOKIE, "")
    return told if len(told) == 32 else None


def cookie(visit: str, is_secure: bool) -> str:
    """What makes a browser name its visit, also where the page is a frame of the Hub's."""
    return f"{COOKIE}={visit}; Path=/; HttpOnly; " + (
        "Secure; SameSite=None; Partitioned" if is_secure else "SameSite=Lax"
    )


async def whole(receive: Receive) -> bytes | None:
    """A request's content; None where it is too much."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def again(body: bytes | None, receive: Receive) -> Receive:
    """A request's content to be received once more, and then what follows it."""
    waiting = [body or b""]

    async def received() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return received


def texts(asked: Any) -> Iterator[str]:
    """The texts of a request, wherever in it."""
    if isinstance(asked, str):
        yield asked
    elif isinstance(asked, dict):
        for name, value in asked.items():
            yield name
            yield from texts(value)
    elif isinstance(asked, list):
        for each in asked:
            yield from texts(each)

"""A visitor of the page that does as a browser does, and what a hostile one tries."""

import io
import json
import secrets
from pathlib import Path

import httpx
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet
from PIL import Image

API = "/gradio_api"
EDITS = [open_triplet(number).edit for number in range(7)]
STEPS = 4


class PoliteError(Exception):
    """The page asks to come back later."""


class Visitor:
    """A browser at the page."""

    def __init__(self, address: str, number: int) -> None:
        headers = {"x-forwarded-for": f"198.51.{number // 250}.{number % 250 + 1}"}
        self.client = httpx.AsyncClient(base_url=address, headers=headers, timeout=600)
        self.session = secrets.token_hex(8)
        self.function = -1

    async def open(self) -> None:
        """Look at the page, and find out which of its functions edits."""
        await self.get("/")
        config = (await self.get("/config")).json()
        self.function = next(each["id"] for each in config["dependencies"] if each["api_name"] == "edit")

    async def get(self, path: str) -> httpx.Response:
        """An answer that is none of an error."""
        return (await self.client.get(path)).raise_for_status()

    async def upload(self, content: bytes) -> str:
        """Send a picture; where the page keeps it."""
        files = {"files": ("scene.png", content, "image/png")}
        return str((await self.client.post(f"{API}/upload", files=files)).raise_for_status().json()[0])

    async def join(self, path: str, instruction: str) -> httpx.Response:
        """Ask for an edit."""
        background = {"path": path, "meta": {"_type": "gradio.FileData"}}
        editor = {"background": background, "layers": [], "composite": None}
        asked = [editor, instruction, 1.5, 1.2, STEPS, 7, False, "", 0, None]
        told = {"data": asked, "fn_index": self.function, "session_hash": self.session, "trigger_id": None}
        return await self.client.post(f"{API}/queue/join", json=told)

    async def edit(self, number: int, leaves: bool = False) -> bytes | None:
        """An edit's result; None where it is left in the middle. Raises PoliteError, or what went wrong."""
        edit = EDITS[number]
        file = io.BytesIO()
        Image.fromarray(render(edit.source)).save(file, "PNG")
        joined = await self.join(await self.upload(file.getvalue()), edit.edit_prompt)
        if joined.status_code == 503 and "full" in joined.text:
            raise PoliteError
        joined.raise_for_status()
        async with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            async for line in stream.aiter_lines():
                word = json.loads(line[6:]) if line.startswith("data: ") else {}
                if leaves and word.get("msg") == "process_generating":
                    return None
                if word.get("msg") == "process_completed":
                    break
        if not word["success"]:
            if "in a minute" in json.dumps(word):
                raise PoliteError
            raise RuntimeError(json.dumps(word)[:300])
        status, _, (_, after), *_ = word["output"]["data"]
        assert status == "Done, seed 7.", status
        return (await self.get(f"{API}/file={after['path']}")).content


async def taken(address: str) -> dict[str, bool]:
    """Of all that must be refused, whether it was not."""
    owner, stranger = Visitor(address, 2000), Visitor(address, 2001)
    for visitor in (owner, stranger):
        await visitor.open()
    mine = await owner.upload(png((64, 64)))
    assert (await owner.get(f"{API}/file={mine}")).content == png((64, 64))
    bomb = await stranger.upload(png((20_000, 20_000), "1"))
    noise = secrets.token_bytes(21_000_000)
    post, get = stranger.client.post, stranger.client.get
    answers = {
        "another's file": await get(f"{API}/file={mine}"),
        "another's file by another way": await get(f"{API}/file=/tmp/../{mine}"),
        "another's file by its old address": await get(f"{API}/file/{mine}"),
        "an edit of another's file": await stranger.join(mine, "make it red"),
        "the passwords": await get(f"{API}/file=/etc/passwd"),
        "a path out": await get(f"{API}/file={bomb}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
        "the source": await get(f"{API}/file={Path(__file__).resolve()}"),
        "a page elsewhere": await get(f"{API}/file=http://127.0.0.1:1/x.png"),
        "a page elsewhere by the old address": await get(f"{API}/file/http://127.0.0.1:1/x.png"),
        "too large a file": await post(f"{API}/upload", files={"files": ("x.png", noise, "image/png")}),
        "too large a request": await post(f"{API}/queue/join", content=b'"' + b"x" * 2_000_000 + b'"'),
        "too large a call": await post(f"{API}/run/upload", content=b'"' + b"x" * 2_000_000 + b'"'),
        "no JSON": await post(f"{API}/queue/join", content=b"\x89PNG"),
        "blobs without end": await post(f"{API}/component_server", files={"files": ("x", b"x" * 1000)}),
    }
    assert (await stranger.join(bomb, "make it red")).status_code == 200
    async with stranger.client.stream("GET", f"{API}/queue/data", params={"session_hash": stranger.session}) as stream:
        words = [json.loads(line[6:]) async for line in stream.aiter_lines() if line.startswith("data: ")]
    is_made = any(word.get("success") and word["msg"] == "process_completed" for word in words)
    return {name: answer.status_code < 400 for name, answer in answers.items()} | {"a bomb": is_made}


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    """A picture of one colour as a file."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()

"""A real ComfyUI server on loopback with our nodes, and a client that talks to it as the browser does."""

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Server:
    """`with Server(comfyui, folder) as server`: models, inputs and results are in `folder`."""

    def __init__(self, comfyui: str, folder: Path, *flags: str) -> None:
        self.folder = folder
        for name in ("custom_nodes", "input", "output", "models"):
            (folder / name).mkdir()
        (folder / "custom_nodes" / "ip2p").symlink_to(ROOT)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "log").open("w")
        command = ["main.py", "--cpu", "--port", str(self.port), "--base-directory", str(folder)]
        command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", *flags]
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=comfyui, stdout=self.log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> "Server":
        end = time.monotonic() + 180
        while time.monotonic() < end:
            try:
                self.get("/queue")
                return self
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
                if self.process.poll() is not None:
                    break
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def ask(self, path: str, data: Any = None) -> Any:
        """The answer, decoded where it is JSON; also an error's."""
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body)
        try:
            text = urllib.request.urlopen(request, timeout=60).read().decode()
        except urllib.error.HTTPError as error:
            text = error.read().decode()
        return json.loads(text) if text[:1] in ("{", "[") else text

    get = ask

    def run(self, graph: dict[str, Any], interrupt_after: int | None = None) -> dict[str, Any]:
        """Queue a workflow and wait for its end.

        Returns its `history`; what was told on the way as `events`; and how many previews came. `refused` where it was
        not even queued.
        """
        return asyncio.run(self._run(graph, interrupt_after))

    async def _run(self, graph: dict[str, Any], interrupt_after: int | None) -> dict[str, Any]:
        import aiohttp  # ComfyUI brings it: where there is none, these tests are skipped

        events: list[dict[str, Any]] = []
        previews = steps = 0
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{self.port}/ws?clientId=test", max_msg_size=0) as socket,
        ):
            queued = await asyncio.to_thread(self.ask, "/prompt", {"prompt": graph, "client_id": "test"})
            if "prompt_id" not in queued or queued.get("node_errors"):
                return {"refused": queued}
            while True:
                message = await asyncio.wait_for(socket.receive(), 300)
                if message.type == aiohttp.WSMsgType.BINARY:
                    previews += 1
                    continue
                event = json.loads(message.data)
                if event["data"].get("prompt_id") != queued["prompt_id"]:
                    continue
                events.append(event)
                if event["type"] == "progress":
                    steps += 1
                    if steps == interrupt_after:
                        await asyncio.to_thread(self.ask, "/interrupt", {})
                if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        history: dict[str, Any] = {}
        while queued["prompt_id"] not in history:
            history = self.get(f"/history/{queued['prompt_id']}")
        return {"history": history[queued["prompt_id"]], "events": events, "previews": previews}

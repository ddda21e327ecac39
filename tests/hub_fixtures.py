"""A Hub on loopback for tests, and commands run against it in Pythons of their own."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hub_runner
import hub_server
import pytest


class HubHere:
    """The server's address, a cache of its own, and `ip2p` and Python run with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, hub_server.__file__, str(folder / "hub")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        self.runner: subprocess.Popen[str] | None = None

    def environment(self, token: str | None = hub_server.TOKEN, offline: bool = False) -> dict[str, str]:
        """What huggingface_hub reads when it is imported."""
        told = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        told |= {"HF_ENDPOINT": self.address, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(self.folder / "home")}
        told |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return told | ({"HF_TOKEN": token} if token else {}) | ({"HF_HUB_OFFLINE": "1"} if offline else {})

    def start(self, *arguments: object, **environment: Any) -> subprocess.Popen[str]:
        """Start `ip2p` with the Hub."""
        command = [sys.executable, "-m", "ip2p.cli", *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, text=True, env=self.environment(**environment), cwd=self.folder, **pipes)

    def ip2p(self, *arguments: object, token: str | None = hub_server.TOKEN) -> tuple[int, str, str]:
        """Exit status, stdout and stderr, of a command in a Python that has imported what it needs."""
        if self.runner is None:
            command = [sys.executable, hub_runner.__file__]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self.runner = subprocess.Popen(command, text=True, env=self.environment(), cwd=self.folder, **pipes)
        assert self.runner.stdin is not None and self.runner.stdout is not None
        told = {"arguments": [str(each) for each in arguments], "token": token}
        self.runner.stdin.write(json.dumps(told) + "\n")
        self.runner.stdin.flush()
        code, out, err = json.loads(self.runner.stdout.readline())
        return code, out, err

    def stop(self) -> None:
        """End all processes."""
        for process in (self.process, self.runner):
            if process is not None:
                process.terminate()
                process.wait()

    def forget(self) -> None:
        """Begin anew: no repositories, no faults, nothing in the cache."""
        self.post("/_forget", {})
        self.clear_cache()

    def clear_cache(self) -> None:
        """Remove all that was fetched."""
        shutil.rmtree(self.folder / "home", ignore_errors=True)

    def python(self, program: str, **environment: Any) -> str:
        """What a program prints, without ip2p on its path."""
        isolated = [sys.executable, "-c", program]
        run = subprocess.run(isolated, capture_output=True, text=True, env=self.environment(**environment), cwd="/")
        assert run.returncode == 0, run.stderr
        return run.stdout

    def post(self, path: str, told: dict[str, Any]) -> None:
        """Set faults, or make a repository as no client would."""
        urllib.request.urlopen(urllib.request.Request(self.address + path, data=json.dumps(told).encode()))

    def get(self, path: str) -> Any:
        """An answer's JSON."""
        return json.load(urllib.request.urlopen(self.address + path))

    def get_text(self, path: str) -> str:
        """An answer's text."""
        return self.get_bytes(path).decode()

    def get_bytes(self, path: str) -> bytes:
        """An answer's content."""
        return urllib.request.urlopen(self.address + path).read()

    def files(self, repo: str, kind: str = "models", revision: str = "main") -> dict[str, str]:
        """The files of a repository with their hashes."""
        told = self.get(f"/api/{kind}/{repo}/revision/{revision}?blobs=true")
        return {file["rfilename"]: file["blobId"] for file in told["siblings"]}


@pytest.fixture(scope="module")
def hub_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubHere]:
    here = HubHere(tmp_path_factory.mktemp("hub"))
    yield here
    here.stop()


@pytest.fixture(name="hub")
def a_hub(hub_of_module: HubHere) -> HubHere:
    """An empty Hub."""
    hub_of_module.forget()
    return hub_of_module

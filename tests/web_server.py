"""The page served by the command, in a process of its own, and a browser that looks at it."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Served(NamedTuple):
    """A page that is served: where, and by which process."""

    address: str
    pid: int


@contextmanager
def serve(log: Path, *flags: str) -> Iterator[Served]:
    """`ip2p web` with these flags."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ip2p.cli", "web", "--port", str(port), *flags]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait(address, process, log)
        yield Served(address, process.pid)
    finally:
        process.terminate()
        process.wait()


def wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the page answers."""
    for _ in range(3000):
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if process.poll() is not None:
                break
            time.sleep(0.2)
    raise RuntimeError(log.read_text()[-3000:])

"""Runs the command in this process, in a folder of its own with a tiny model and a few pictures."""

import logging
import os
import subprocess
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
from accelerate.state import AcceleratorState
from cli_runner import Ip2p, Result
from ip2p import InstructPix2PixPipeline
from ip2p.cli import main


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipe = InstructPix2PixPipeline(
        **tiny_models.sd_components(),
        text_encoder_2=None,
        tokenizer_2=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: cat.jpg, 48 by 32 pixels, and dog.png, 32 by 32 and partly transparent."""
    monkeypatch.chdir(tmp_path)
    tiny_models.picture(1, 48, 32).save("cat.jpg")
    dog = tiny_models.picture(2, 32, 32).convert("RGBA")
    dog.putalpha(tiny_models.picture(3, 32, 32).convert("L"))
    dog.save("dog.png")
    return tmp_path


@pytest.fixture
def ip2p(folder: Path, capsys: pytest.CaptureFixture[str]) -> Ip2p:
    """Runs `ip2p …` in that folder."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def edit(ip2p: Ip2p, tiny_model: Path) -> Ip2p:
    """Runs `ip2p edit … --model TINY --steps 2`."""
    return lambda *arguments: ip2p("edit", *arguments, "--model", tiny_model, "--steps", 2)


class StageHere:
    """A stage of a recipe that was run in this process, which has its imports already, as a process that has ended."""

    def __init__(self, argv: list[str], *, stdout: int, stderr: int, env: dict[str, str]) -> None:
        assert argv[1:3] == ["-m", "ip2p.cli"] and (stdout, stderr) == (subprocess.DEVNULL, subprocess.PIPE)
        ours = logging.getLogger("ip2p")
        handlers = ours.handlers
        AcceleratorState._reset_state(reset_partial_state=True)
        self.stderr = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (it is read after this)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(self.stderr):
            try:
                self.code = main(argv[3:])
            except SystemExit as stop:
                self.code = int(stop.code or 0)
            finally:
                ours.handlers = handlers
        self.stderr.seek(0)

    def poll(self) -> int:
        return self.code

    wait = poll


@pytest.fixture
def stages_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ip2p recipe` runs its stages in this process."""
    here = SimpleNamespace(Popen=StageHere, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)
    monkeypatch.setattr("ip2p.commands.recipe.subprocess", here)

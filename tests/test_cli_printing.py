"""What is printed where the terminal lacks letters, or nobody reads: an edit that is written has not failed."""

import io
import os
import sys
from pathlib import Path

import pytest
from cli_runner import Ip2p, files
from ip2p.cli import main

pytest_plugins = ["cli_fixtures"]


def test_letters_that_the_terminal_lacks(folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cat.jpg").rename("고양이.jpg")
    out, err = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, "cp1252", write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(err, "ascii", write_through=True))
    assert main([]) == 0
    assert main(["edit", "고양이.jpg", "make it winter", "--model", str(tiny_model), "--steps", "1"]) == 0
    assert main(["edit", "멍멍.jpg", "make it winter"]) == 1
    assert b"\\uace0\\uc591\\uc774-edited.png  seed" in out.getvalue()
    assert err.getvalue() == b"ip2p: There is no picture at \\uba4d\\uba4d.jpg.\n"
    assert "고양이-edited.png" in files(folder)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_nobody_reads(edit: Ip2p, folder: Path, monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, stream, closed)
        result = edit("cat.jpg", "missing.png", "dog.png", "make it winter")
    assert {"cat-edited.png", "dog-edited.png"} <= files(folder)
    assert result.code == 1
    told = ["ip2p: There is no picture at missing.png.", "ip2p: 2 of 3 pictures edited."]
    assert result.err.splitlines() == (told if stream == "stdout" else [])

"""`ip2p dataset pairs`: from triplets to a dataset that opens, and what is told on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Ip2p, Result
from datasets import load_dataset
from ip2p.training.pairs.maker import PairMaker
from tiny_runs import TRIPLETS, files, rows

pytest_plugins = ["cli_fixtures", "pairs_fixtures"]

PASSING = ("--min-caption-similarity=-1", "--min-image-similarity=-1", "--min-directional-similarity=-1")
FEW = ("--steps", 2, "--seeds", 2, "--per-seed", 2, "--device", "cpu", "--max-per-triplet", 1)
Make = Callable[..., Result]


@pytest.fixture
def flags(models: dict[str, str], folder: Path) -> list[str]:
    """What makes a small run of triplets.jsonl, which has three triplets and a line that is none."""
    lines = [
        json.dumps({"input": t.original_prompt, "edit": t.edit_prompt, "output": t.edited_prompt}) for t in TRIPLETS
    ]
    (folder / "triplets.jsonl").write_text("\n".join([*lines[:2], "{", lines[2]]) + "\n")
    own = ("--model", models["model"], "--clip-model", models["clip_model"])
    return [str(flag) for flag in ("triplets.jsonl", *own, *FEW, *PASSING)]


@pytest.fixture
def make(ip2p: Ip2p, flags: list[str]) -> Make:
    """Runs `ip2p dataset pairs` with them."""
    return lambda *arguments: ip2p("dataset", "pairs", *flags, *arguments)


def test_triplets_become_a_dataset(make: Make) -> None:
    result = make("-o", "made")
    assert result.code == 0, result.err
    assert result.out.startswith("made  3 pairs of 12 candidates, for 3 of 4 triplets; see made/report.json")
    assert "1 triplets failed, 1 of them so: The triplet has no original_prompt." in result.err
    made = load_dataset("made", split="train")
    assert made["edit_prompt"] == [triplet.edit_prompt for triplet in TRIPLETS[:3]]
    assert made[0]["original_image"].size == made[0]["edited_image"].size == (64, 64)
    assert "triplet/s" in result.err and "kept 25%" in result.err

    again = make("-o", "made")
    assert again.code == 0 and again.out == result.out


def test_ctrl_c_ends_it_with_how_to_go_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = PairMaker.make

    def stop(self: PairMaker, place: int, *work: Any) -> Any:
        if place == 1:
            raise KeyboardInterrupt
        return whole(self, place, *work)

    with monkeypatch.context() as patched:
        patched.setattr(PairMaker, "make", stop)
        result = make("-o", "made")
    assert result.code == 130
    assert "stopped: the triplets that are done are in made" in result.err and "Traceback" not in result.err
    assert {row["triplet"] for row in rows(Path("made"))} == {0}
    assert make("-o", "made").code == 0


def test_dry_run_tells_what_it_takes_and_makes_nothing(make: Make) -> None:
    result = make("--dry-run", "--steps", 100, "--per-seed", 10, "--seeds", 10, "--resolution", 512)
    assert result.code == 0
    assert result.out.startswith("4 triplets, 400 candidates: about ")
    assert "times fewer than one candidate at a time), and at most 838.9 kB of pictures at 512 pixels" in result.out
    assert not Path("pairs").exists()


def test_candidates_are_judged_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make("-o", "made").code == 0
    monkeypatch.setattr(PairMaker, "renderer", None)
    result = make("-o", "stricter", "--refilter", "made", "--min-directional-similarity", 1)
    assert result.code == 0, result.err
    assert result.out.startswith("stricter  0 pairs of 12 candidates")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--steps", 1), "--steps is at least 2"),
        (("--limit", 0), "--limit is at least 1"),
        (("--workers", 2), "give --engine ray"),
        (("--gpus-per-worker", -1), "--gpus-per-worker is at least 0"),
        (("--nsfw-check", "spelling"), "There is no NSFW check spelling"),
        (("--model", "/nowhere"), "There is no model folder /nowhere"),
        (("--device", "nonsense"), "--device nonsense can't be used here"),
        (("--refilter", "nowhere"), "There is no run of `ip2p dataset pairs` in nowhere"),
    ],
)
def test_bad_settings_get_a_sentence(make: Make, arguments: tuple[object, ...], sentence: str) -> None:
    result = make("-o", "made", *arguments)
    assert result.code == 1
    assert sentence in result.err and "Traceback" not in result.err


def test_without_ray_it_says_how_to_get_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.commands.pairs.find_spec", lambda name: None)
    result = make("--engine", "ray")
    assert result.code == 1 and 'pip install "ip2p[ray]"' in result.err


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(make: Make, flags: list[str]) -> None:
    command = [sys.executable, "-m", "ip2p.cli", "dataset", "pairs", *flags, "--seeds", "8", "-o", "killed/made"]
    for parts in (1, 2):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while len(list(Path("killed/made").glob("parts/*.parquet"))) < parts and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not Path("killed/made/report.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert make("--seeds", 8, "-o", "whole/made").code == 0
    assert files(Path("killed/made")) == files(Path("whole/made"))

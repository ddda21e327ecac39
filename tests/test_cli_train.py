"""`ip2p train`: recipes, a whole training by command, and what is told of bad input."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_runner import Ip2p
from finetune_data import lines, write_pairs
from ip2p.commands.arguments import parse_settings
from ip2p.commands.train_settings import TrainSettings
from pairs_models import base_pipeline

pytest_plugins = ["cli_fixtures"]
RECIPES = sorted(path for path in TrainSettings.recipes.glob("*.yaml") if "train" in yaml.safe_load(path.read_text()))


@pytest.fixture
def flags(folder: Path) -> list[str]:
    """A training of two steps."""
    base_pipeline().save_pretrained(folder / "base")
    write_pairs(folder / "pairs.parquet", 8)
    return [
        "--model", "base", "--data", "pairs.parquet", "--resolution", "32", "--resize-max", "32", "--batch-size", "2",
        "--steps", "2", "--validate-every", "0", "--tracker", "none", "--cpu",
    ]  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_found_by_name_and_flags_override_it(path: Path) -> None:
    told = yaml.safe_load(path.read_text())["train"]
    given: Any = parse_settings("train", TrainSettings, "", ["--recipe", path.stem, "--steps", "7"])
    assert given.steps == 7 and told["steps"] != 7
    read = vars(given)
    assert {name: read[name] for name in told} == {**told, "steps": 7}


def test_the_papers_recipe_is_the_papers() -> None:
    given: Any = parse_settings("train", TrainSettings, "", ["--recipe", "sd15"])
    assert given.batch_size * given.accumulation * 8 == 1024 and given.steps == 10_000
    assert (given.learning_rate, given.schedule, given.warmup) == (1e-4, "constant", 0)
    assert (given.resolution, given.resize_max, given.flip) == (256, 288, 0.5)
    assert given.drop_text == given.drop_image == given.drop_both == 0.05


def test_an_editor_is_trained_and_edits(ip2p: Ip2p, flags: list[str], folder: Path) -> None:
    result = ip2p("train", *flags, "-o", "out", "--single-file")
    assert result.code == 0, result.err
    assert result.out.split() == ["out/pipeline", "out/model.safetensors"]
    assert [row["step"] for row in lines(folder / "out" / "log.jsonl")] == [2]
    again = ip2p("train", *flags, "-o", "out", "--steps", "3")
    assert again.code == 0 and "going on from step 2" in again.err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--recipe", "sd16"], "sd16"),
        (["--data", "nowhere/at/all"], "There is no file or folder nowhere/at/all"),
        (["--edit-prompt-column", "instruction"], "has no column instruction"),
        (["--learning-rate", "0"], "--learning-rate is a number above 0"),
        (["--model", "nothing/"], "nothing"),
        (["--train", "layers", "--layers", "attn7"], "--layers attn7 is in the name of no layer"),
    ],
)
def test_bad_input_is_a_sentence(wrong: list[str], told: str, ip2p: Ip2p, flags: list[str]) -> None:
    result = ip2p("train", *flags, "-o", "out", *wrong)
    assert result.code in (1, 2) and told in result.err
    assert "Traceback" not in result.err


def test_the_memory_of_a_training_is_told_without_training(ip2p: Ip2p, flags: list[str], folder: Path) -> None:
    result = ip2p("train", *flags, "-o", "out", "--dry-run")
    assert result.code == 0 and "GiB" in result.out and not (folder / "out").exists()


@pytest.mark.slow
def test_ctrl_c_ends_it_with_how_to_go_on(flags: list[str], folder: Path) -> None:
    command = [sys.executable, "-m", "ip2p.cli", "train", *flags, "--steps", "100000", "-o", "out"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    while not (folder / "out" / "log.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on from there" in told
    assert (folder / "out" / "state.safetensors").exists()

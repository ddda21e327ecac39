"""Trainings in processes of their own: two as one, and killed at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from finetune_data import lines, write_pairs
from pairs_models import base_pipeline
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
STEPS = 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    base_pipeline().save_pretrained(folder / "base")
    write_pairs(folder / "pairs.parquet", count=40)
    return folder


def start(data: Path, output: Path, processes: int, *flags: str) -> subprocess.Popen[bytes]:
    launcher = [sys.executable, "-m", "ip2p.cli"]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        launcher += ["-m", "ip2p.cli"]
    settings = [
        "train", "--model", data / "base", "--data", data / "pairs.parquet", "-o", output, "--resolution", "32",
        "--resize-max", "32", "--batch-size", "2", "--steps", str(STEPS), "--save-every", "3", "--validate-every", "0",
        "--tracker", "none", "--learning-rate", "1e-3", "--cpu", *flags,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *map(str, settings)], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def run(*arguments: object) -> None:
    assert start(*arguments).wait() == 0  # type: ignore[arg-type]


def same(one: Path, other: Path) -> bool:
    states = [load_file(path / "state.safetensors") for path in (one, other)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_two_processes_learn_as_one_with_twice_the_accumulation(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "two", 2)
    run(data, tmp_path / "one", 1, "--accumulation", "2")
    losses = [[row["loss"] for row in lines(tmp_path / name / "log.jsonl")] for name in ("two", "one")]
    assert len(losses[0]) == STEPS / 10 and losses[0] == pytest.approx(losses[1], abs=1e-5)
    states = [load_file(tmp_path / name / "state.safetensors") for name in ("two", "one")]
    assert all(torch.allclose(tensor, states[1][name], atol=1e-3) for name, tensor in states[0].items())


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_moments_it_ends_with_the_same_weights(processes: int, data: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    run(data, tmp_path / "whole", processes)
    lasts = time.monotonic() - began
    rng = random.Random(processes)
    kills = 0
    for _ in range(60):
        process = start(data, tmp_path / "cut", processes)
        try:
            process.wait(rng.uniform(0.5, 1.0) * lasts)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert process.returncode == 0 and kills >= 1
    assert same(tmp_path / "whole", tmp_path / "cut")

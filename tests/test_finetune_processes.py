"""Trainings in processes of their own: two as one, and killed at any moment."""

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from finetune_data import lines, write_pairs
from ip2p.commands.train_settings import TrainSettings
from pairs_models import base_pipeline
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
STEPS = 40
UNET = Path("pipeline", "unet", "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    base_pipeline().save_pretrained(folder / "base")
    write_pairs(folder / "pairs.parquet", count=40)
    return folder


def start(data: Path, output: Path, processes: int, *flags: str, fsdp: bool = False) -> subprocess.Popen[bytes]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launcher += [str(Path(__file__).with_name("fsdp_on_cpu.py"))] if fsdp else ["-m", "ip2p.cli"]
    settings = [
        "train", "--model", data / "base", "--data", data / "pairs.parquet", "-o", output, "--resolution", "32",
        "--resize-max", "32", "--batch-size", "2", "--steps", str(STEPS), "--save-every", "3", "--validate-every", "0",
        "--tracker", "none", "--learning-rate", "1e-3", "--cpu", *flags,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(fsdp_environment() if fsdp else {})}
    return subprocess.Popen(
        [*launcher, *map(str, settings)], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def fsdp_environment() -> dict[str, str]:
    """What `accelerate launch` tells of the configuration that is shipped."""
    told = yaml.safe_load((TrainSettings.recipes / "accelerate" / "fsdp.yaml").read_text())["fsdp_config"]
    named = {name.upper().replace("LAYER_CLS", "CLS"): str(value) for name, value in told.items()}
    return {"ACCELERATE_USE_FSDP": "true", **named}


def kill(process: subprocess.Popen[bytes]) -> None:
    """With its workers, which torchrun starts in sessions of their own."""
    for each in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # torchrun ends the others where it finds one gone
            each.kill()
    process.kill()
    process.wait()


def run(*arguments: Any, **options: bool) -> None:
    assert start(*arguments, **options).wait() == 0


def same(one: Path, other: Path) -> bool:
    states = [load_file(path / "state.safetensors") for path in (one, other)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_learn_as_one_with_twice_the_accumulation(optimizer: str, data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "two", 2, "--optimizer", optimizer)
    run(data, tmp_path / "one", 1, "--optimizer", optimizer, "--accumulation", "2")
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
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
            continue
        if kills:
            break
        shutil.rmtree(tmp_path / "cut")  # the machine has been busier before: nothing is proved without a kill
        lasts *= 0.8
    assert process.returncode == 0 and kills >= 1
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_workers_end_with_their_launcher(data: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path / "run", 2, "--steps", "100000")
    while not (tmp_path / "run" / "state.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.2)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()  # alone
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert len(workers) >= 2 and not alive


def test_where_the_model_is_shared_out_it_learns_the_same_and_goes_on_exactly(data: Path, tmp_path: Path) -> None:
    looks = ["--max-grad-norm", "1", "--validate-every", "20", "--validation-edits", "1"]
    run(data, tmp_path / "whole", 2, *looks, fsdp=True)
    run(data, tmp_path / "each", 2, *looks)
    seen = [
        [row["validation_loss"] for row in lines(tmp_path / name / "validation.jsonl")] for name in ("whole", "each")
    ]
    assert seen[0] == pytest.approx(seen[1], rel=1e-3) and len(seen[0]) == 2
    weights = [load_file(tmp_path / name / UNET) for name in ("whole", "each")]
    assert all(torch.allclose(tensor, weights[1][name], atol=1e-3) for name, tensor in weights[0].items())
    run(data, tmp_path / "cut", 2, "--max-grad-norm", "1", "--steps", "20", fsdp=True)
    run(data, tmp_path / "cut", 2, "--max-grad-norm", "1", fsdp=True)
    states = [sorted(tmp_path.glob(f"{name}/state-*/*.safetensors")) for name in ("whole", "cut")]
    assert len(states[0]) == 2
    for one, other in zip(*states, strict=True):
        expected = load_file(other)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(one).items())

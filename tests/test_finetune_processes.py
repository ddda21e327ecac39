"""Trainings in processes of their own: two as one, and killed at any step."""

import json
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
from safetensors import safe_open
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
STEPS, SAVE_EVERY, BATCH_SIZE = 20, 3, 2
ALIKE = {1: ["--accumulation", "2"], 2: []}  # so many processes, and what lets their steps be of the same examples
LOOKS = [
    "--max-grad-norm", "1", "--validate-every", str(STEPS // 2), "--validation-edits", "1", "--validation-steps", "2",
]  # fmt: skip
UNET = Path("pipeline", "unet", "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    base_pipeline().save_pretrained(folder / "base")
    write_pairs(folder / "pairs.parquet", count=40)
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same training by one process and by two."""
    folders = {processes: tmp_path_factory.mktemp("undisturbed") for processes in ALIKE}
    for processes, folder in folders.items():
        run(data, folder, processes, *ALIKE[processes], *LOOKS)
    return folders


def start(data: Path, output: Path, processes: int, *flags: str, fsdp: bool = False) -> subprocess.Popen[bytes]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    launcher += [str(Path(__file__).with_name("fsdp_on_cpu.py"))] if fsdp else ["-m", "ip2p.cli"]
    settings = [
        "train", "--model", data / "base", "--data", data / "pairs.parquet", "-o", output, "--resolution", "32",
        "--resize-max", "32", "--batch-size", BATCH_SIZE, "--steps", STEPS, "--save-every", SAVE_EVERY,
        "--validate-every", "0", "--tracker", "none", "--learning-rate", "1e-3", "--cpu", *flags,
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


def copy_as_if_killed(process: subprocess.Popen[bytes], output: Path, copy: Path) -> None:
    """Copy what would be left of a run if its processes were killed now; it goes on."""
    workers = psutil.Process(process.pid).children(recursive=True)
    for each in workers:
        each.suspend()
    shutil.copytree(output, copy)
    for each in workers:
        each.resume()


def run(*arguments: Any, **options: bool) -> None:
    assert start(*arguments, **options).wait() == 0


def same(one: Path, other: Path) -> bool:
    states = [load_file(path / "state.safetensors") for path in (one, other)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def saved(folder: Path) -> int:
    """The step that a run would go on from."""
    if not (folder / "state.safetensors").exists():
        return 0
    with safe_open(folder / "state.safetensors", framework="pt") as file:
        return int(file.metadata()["step"])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_two_processes_learn_as_one_with_twice_the_accumulation(
    optimizer: str, data: Path, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    folders = undisturbed
    if optimizer == "muon":
        folders = {processes: tmp_path / str(processes) for processes in ALIKE}
        for processes, folder in folders.items():  # nothing is clipped, so the moments tell how large gradients are
            run(data, folder, processes, *ALIKE[processes], "--optimizer", "muon")
    losses = [[row["loss"] for row in lines(folders[processes] / "log.jsonl")] for processes in (2, 1)]
    assert len(losses[0]) == STEPS / 10 and losses[0] == pytest.approx(losses[1], abs=1e-5)
    states = [load_file(folders[processes] / "state.safetensors") for processes in (2, 1)]
    assert all(torch.allclose(tensor, states[1][name], atol=1e-3) for name, tensor in states[0].items())


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_steps_it_ends_with_the_same_weights(
    processes: int, data: Path, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    whole, cut = undisturbed[processes], tmp_path / "cut"
    step_lasts = 2 * BATCH_SIZE / lines(whole / "log.jsonl")[0]["images_per_second"]
    rng = random.Random(processes)
    for _ in range(2):
        goal = saved(cut) + rng.randint(1, 2 * SAVE_EVERY)
        process = start(data, cut, processes, *ALIKE[processes], *LOOKS)
        while saved(cut) < goal:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(rng.uniform(0, SAVE_EVERY) * step_lasts)
        kill(process)
        assert process.returncode  # it had more to do
    run(data, cut, processes, *ALIKE[processes], *LOOKS)
    assert same(whole, cut)


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


def test_where_the_model_is_shared_out_it_learns_the_same_and_goes_on_exactly(
    data: Path, undisturbed: dict[int, Path], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(data, whole, 2, *LOOKS, fsdp=True)
    while not (whole / "state.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    copy_as_if_killed(process, whole, cut)
    assert process.wait() == 0
    folders = whole, undisturbed[2]
    seen = [[row["validation_loss"] for row in lines(folder / "validation.jsonl")] for folder in folders]
    assert seen[0] == pytest.approx(seen[1], rel=1e-3) and len(seen[0]) == 2
    weights = [load_file(folder / UNET) for folder in folders]
    assert all(torch.allclose(tensor, weights[1][name], atol=1e-3) for name, tensor in weights[0].items())
    assert json.loads((cut / "state.json").read_text())["step"] < STEPS
    run(data, cut, 2, "--max-grad-norm", "1", fsdp=True)
    states = [sorted(folder.glob("state-*/*.safetensors")) for folder in (whole, cut)]
    assert len(states[0]) == 2
    for one, other in zip(*states, strict=True):
        expected = load_file(other)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(one).items())

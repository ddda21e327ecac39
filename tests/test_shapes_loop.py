"""The training loop: a run that was killed and resumed ends with the weights of one that was not, bit for bit."""

import dataclasses
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ip2p.training.shapes.loop import Draw, Plan, learning_rate, train
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook


class Tiny(nn.Module):
    """A model whose forward is its loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.SiLU(), nn.Conv2d(5, 7, 3), nn.Flatten(), nn.Linear(28, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.layers(x)[:, 0] - y).square().mean()


def make_batch(draw: Draw) -> tuple[Tensor, Tensor]:
    x = torch.randn(draw.count, 3, 6, 6, generator=draw.generator)
    return x, x.mean(dim=(1, 2, 3))


def plan(folder: Path, **changes: Any) -> Plan:
    return dataclasses.replace(Plan(folder, 12, 4, 1e-2, warmup=3, save_every=4), **changes)


def run(folder: Path, batches: Callable[[Draw], tuple] = make_batch, model: Tiny | None = None) -> dict[str, Tensor]:
    return train(plan(folder), model or Tiny(), batches).state_dict()


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert all(torch.equal(one[name], two[name]) for name in one | two)


def dying_at(step: int) -> Callable[[Draw], tuple]:
    """Batches of a run that dies at a step."""

    def batches(draw: Draw) -> tuple:
        if draw.step == step:
            raise RuntimeError("killed")
        return make_batch(draw)

    return batches


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("step", [2, 7, 11])
def test_a_killed_run_resumed_equals_an_undisturbed_one(
    step: int, memory_format: torch.memory_format, tmp_path: Path
) -> None:
    def model() -> Tiny:
        return Tiny().to(memory_format=memory_format)

    expected = run(tmp_path / "whole", model=model())
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "cut", dying_at(step), model())
    assert_same(run(tmp_path / "cut", model=model()), expected)
    assert_same(
        load_file(tmp_path / "cut/checkpoint.safetensors"), load_file(tmp_path / "whole/checkpoint.safetensors")
    )


@pytest.mark.parametrize("when", ["before the step", "within the step"])
def test_ctrl_c_keeps_the_work_and_the_run_goes_on_exactly(when: str, tmp_path: Path) -> None:
    expected = run(tmp_path / "whole")
    steps = 0

    def interrupt_after(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            os.kill(os.getpid(), signal.SIGINT)

    def interrupting(draw: Draw) -> tuple:
        if draw.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return make_batch(draw)

    hook = register_optimizer_step_post_hook(interrupt_after) if when == "within the step" else None
    try:
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path / "cut", make_batch if hook else interrupting)
    finally:
        if hook:
            hook.remove()
    assert stopped.value.code == 130
    drawn: list[int] = []

    def noting(draw: Draw) -> tuple:
        drawn.append(draw.step)
        return make_batch(draw)

    assert_same(run(tmp_path / "cut", noting), expected)
    assert drawn[0] >= 5  # not from the last regular checkpoint, at step 4


def test_a_finished_run_trains_no_more_and_gives_the_same(tmp_path: Path) -> None:
    expected = run(tmp_path)
    assert_same(run(tmp_path, dying_at(0)), expected)


def test_a_run_gives_the_averaged_weights(tmp_path: Path) -> None:
    given = list(run(tmp_path).values())
    kept = load_file(tmp_path / "checkpoint.safetensors")
    for i, tensor in enumerate(given):
        assert torch.equal(tensor, kept[f"ema.{i}"]) and not torch.equal(tensor, kept[f"weight.{i}"])


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    model = Tiny()
    batch = make_batch(Draw(0, 256, 0, torch.Generator().manual_seed(9)))
    before = float(model(*batch).detach())
    train(plan(tmp_path, steps=100), model, make_batch)
    assert float(model(*batch).detach()) < before / 2


def test_frozen_weights_stay_as_they_are(tmp_path: Path) -> None:
    model = Tiny()
    model.layers[0].requires_grad_(False)
    before = model.layers[0].weight.clone()
    run(tmp_path, model=model)
    assert torch.equal(model.layers[0].weight, before)
    assert len([name for name in load_file(tmp_path / "checkpoint.safetensors") if name.startswith("weight.")]) == 4


def test_a_checkpoint_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, dying_at(6))
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.partial").mkdir()  # the next checkpoint cannot be written
    with pytest.raises(Exception, match="directory"):
        run(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept
    (tmp_path / "checkpoint.partial").rmdir()
    (tmp_path / "checkpoint.partial").write_bytes(b"half a file")
    assert_same(run(tmp_path), run(tmp_path / "whole"))


def test_draws_follow_the_seed_and_the_step(tmp_path: Path) -> None:
    def draws(folder: str, seed: int) -> list[tuple[int, int, int]]:
        seen: list[Draw] = []

        def noting(draw: Draw) -> tuple:
            seen.append(draw)
            return make_batch(draw)

        train(plan(tmp_path / folder, seed=seed), Tiny(), noting)
        return [(draw.step, draw.count, draw.seed) for draw in seen]

    first = draws("a", 0)
    assert first == draws("b", 0)
    assert [draw[:2] for draw in first] == [(step, 4) for step in range(12)]
    assert len({seed for *_, seed in first} | {seed for *_, seed in draws("c", 1)}) == 24


def test_the_learning_rate_rises_holds_and_falls_to_zero(tmp_path: Path) -> None:
    long = plan(tmp_path, steps=1000, warmup=100, decay=0.4, learning_rate=2.0)
    rates = [learning_rate(long, step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.02) and rates[49] == pytest.approx(1.0)
    assert rates[99:601] == [2.0] * 502
    assert rates[800] == pytest.approx(1.0) and 0 < rates[999] < 0.01 and rates[1000] == 0


def test_the_log_tells_step_loss_and_speed(tmp_path: Path) -> None:
    run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert all(row["loss"] > 0 and row["samples_per_second"] > 0 for row in rows)


def work(rank: str, port: str, folder: Path, dies: int) -> None:
    """What one of two processes does, told as a launcher would tell it."""
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)

    def batches(draw: Draw) -> tuple:
        assert draw.count == 2  # of four, over two processes
        if draw.step == dies:
            os._exit(9)
        return make_batch(draw)

    model = train(plan(folder), Tiny(), batches)
    save_file(model.state_dict(), folder / f"result-{rank}.safetensors")


@pytest.mark.slow
def test_two_processes_agree_and_resume_exactly(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # all processes share what is imported

    def launch(folder: str, dies: int = -1) -> list[int | None]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        workers = [context.Process(target=work, args=(rank, port, tmp_path / folder, dies)) for rank in ("0", "1")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=300)
            worker.kill()  # one whose other is gone may wait for it
        return [worker.exitcode for worker in workers]

    assert launch("whole") == [0, 0]
    assert 9 in launch("cut", dies=7) and not (tmp_path / "cut/result-0.safetensors").exists()
    assert launch("cut") == [0, 0]
    whole, other, resumed = (
        load_file(tmp_path / name) for name in ("whole/result-0.safetensors", "whole/result-1.safetensors",
                                                "cut/result-0.safetensors")
    )  # fmt: skip
    assert_same(whole, other)
    assert_same(whole, resumed)
    assert not torch.equal(whole["layers.0.weight"], run(tmp_path / "alone")["layers.0.weight"])

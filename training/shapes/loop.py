"""The loop that every model of the shapes world is trained with: steps, EMA, checkpoints, exact resume.

A run is a folder. `torchrun --nproc_per_node 2 -m ip2p.training.shapes.<model> --folder runs/<model>`
runs it on two cores; started again it goes on from its last checkpoint. What a step draws depends on (seed, step,
process) only, so a run that was killed and resumed ends with the weights of one that was not.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from ..checkpoints import load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    folder: Path
    """Folder of the run: its checkpoint, its log and its result."""
    steps: int
    """Optimizer steps in all."""
    batch_size: int
    """Samples a step, over all processes."""
    learning_rate: float
    """Peak learning rate of AdamW: reached after `warmup` steps, falling to zero over the last `decay` of the run."""
    warmup: int = 200
    """Steps of linear warm-up."""
    decay: float = 0.8
    """Share of the run, at its end, over which the learning rate falls linearly to zero."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights, which is what a run gives."""
    save_every: int = 500
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of everything drawn."""


@dataclass(frozen=True)
class Draw:
    """What one process draws its part of a step's batch with."""

    step: int
    count: int
    seed: int
    generator: torch.Generator


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate at a step, of the plan's peak."""
    fall = plan.steps * plan.decay
    return plan.learning_rate * min(1.0, (step + 1) / plan.warmup, max(plan.steps - step, 0) / fall)


def train(plan: Plan, model: nn.Module, make_batch: Callable[[Draw], tuple]) -> nn.Module:
    """Train `model`, whose forward maps a batch to a loss, and return it with its averaged weights.

    Only parameters that require gradients are trained, averaged and kept in checkpoints. Ctrl-C ends the step,
    writes a checkpoint and exits with 130.
    """
    accelerator = Accelerator(cpu=True)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema = EMAModel(parameters, decay=plan.ema_decay, foreach=True)
    checkpoint = plan.folder / "checkpoint.safetensors"
    start = 0
    if checkpoint.exists():
        start = int(load_checkpoint(checkpoint, parameters, ema, optimizer)["step"])
    wrapped = accelerator.prepare(model)
    main = accelerator.is_main_process
    plan.folder.mkdir(parents=True, exist_ok=True)
    count = plan.batch_size // accelerator.num_processes
    average, since = None, time.monotonic()
    bar = tqdm(total=plan.steps, initial=start, disable=not main, desc=plan.folder.name, mininterval=5)
    # Ctrl-C waits for the end of the step: a checkpoint from within one would not resume exactly.
    stop = threading.Event()
    earlier = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        for step in range(start, plan.steps):
            seed = (plan.seed * 1_000_003 + step) * 64 + accelerator.process_index
            generator = torch.Generator().manual_seed(seed)
            torch.manual_seed(seed)  # of what the model draws itself, as dropout does
            loss = wrapped(*make_batch(Draw(step, count, seed, generator)))
            accelerator.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.step(parameters)
            value = float(loss.detach())
            average = value if average is None else 0.99 * average + 0.01 * value
            bar.update()
            bar.set_postfix(loss=f"{average:.4f}", refresh=False)
            if main and (step + 1) % plan.save_every == 0:
                save_checkpoint(checkpoint, step + 1, parameters, ema, optimizer)
                speed = plan.save_every * plan.batch_size / (time.monotonic() - since)
                since = time.monotonic()
                with (plan.folder / "log.jsonl").open("a") as log:
                    row = {"step": step + 1, "loss": round(average, 5), "samples_per_second": round(speed, 1)}
                    log.write(json.dumps(row) + "\n")
            if stop.is_set():
                if main:
                    save_checkpoint(checkpoint, step + 1, parameters, ema, optimizer)
                    print(f"\nstopped at step {step + 1}; the same command goes on from there", file=sys.stderr)
                sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, earlier)
    bar.close()
    if main and start < plan.steps:
        save_checkpoint(checkpoint, plan.steps, parameters, ema, optimizer)
    accelerator.wait_for_everyone()  # one that ended now could cut off what another is still being sent
    ema.copy_to(parameters)
    return model

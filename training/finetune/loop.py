"""The steps of a training, from a checkpoint on if there is one."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from torch import Tensor
from tqdm import tqdm

from ..checkpoints import local
from ..files import add_line
from .batches import Batch
from .muon import Muon, matrices_of
from .order import seed_of
from .settings import FinetuneSettings
from .state import SHARED_OUT, is_shared_out, load_state, save_state
from .trainee import Loss, Trainee

LOG_EVERY = 10


class StoppedError(Exception):
    """The user stopped the training; what is done is saved."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step:,}")
        self.step = step


def learning_rate(settings: FinetuneSettings, step: int) -> float:
    """The learning rate at a step, counted from 0."""
    factor = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule != "constant":
        left = min(1.0, (settings.steps - step) / max(1.0, settings.steps * settings.fall))
        factor = min(factor, left if settings.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)
    return settings.learning_rate * factor


def check_optimizer(settings: FinetuneSettings, accelerator: Accelerator) -> None:
    """Raise ValueError for an optimizer that is not installed, or can't share the work out so."""
    if settings.optimizer == "muon" and accelerator.distributed_type in SHARED_OUT:
        raise ValueError("--optimizer muon takes whole matrices: not with FSDP or DeepSpeed, which cut them up.")
    if settings.optimizer == "adamw8bit":
        try:
            import bitsandbytes.optim  # noqa: F401
        except ImportError:
            raise ValueError("--optimizer adamw8bit needs bitsandbytes: pip install bitsandbytes.") from None


def new_optimizer(settings: FinetuneSettings, trainee: Trainee) -> torch.optim.Optimizer:
    """AdamW, its 8-bit form or Muon."""
    parameters = [parameter for parameter in trainee.parameters() if parameter.requires_grad]
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
    }
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **options)
    if settings.optimizer == "muon":
        return Muon(parameters, matrices_of(trainee), **options)
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(parameters, **options)


def tell_deepspeed(accelerator: Accelerator, settings: FinetuneSettings) -> None:
    """Tell DeepSpeed, which accumulates and clips by itself, what the settings say of it."""
    accelerator.state.deepspeed_plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "gradient_clipping": settings.max_grad_norm or 0.0,
    }


class Training:
    """A model, its optimizer and the average of its weights, on their way through the steps.

    folder: of the run; the state in it is what a stopped one goes on from
    """

    def __init__(
        self, accelerator: Accelerator, trainee: Trainee, loss: Loss, settings: FinetuneSettings, folder: Path
    ):
        self.accelerator, self.loss, self.settings, self.folder = accelerator, loss, settings, folder
        if accelerator.device.type == "cuda" and not accelerator.is_fsdp2:  # which takes no other
            trainee.to(memory_format=torch.channels_last)
        if settings.compile:
            trainee.unet.compile()
        if accelerator.distributed_type == DistributedType.DEEPSPEED:
            tell_deepspeed(accelerator, settings)
        optimizer = new_optimizer(settings, trainee)
        self.wrapped, self.optimizer = accelerator.prepare(trainee, optimizer)
        self.trainee: Trainee = accelerator.unwrap_model(self.wrapped)
        self.parameters = [p for p in self.trainee.parameters() if p.requires_grad]  # FSDP has put others in place
        self.ema: EMAModel | None = None
        if settings.ema_decay:
            device = torch.device("cpu") if settings.ema_on_cpu else accelerator.device
            # In float32 whatever the weights are: DeepSpeed makes them half as wide, too coarse to average in. All at
            # once they need as much memory again for a moment, and on a CPU that is no faster.
            self.ema = EMAModel(
                [p.detach().float() for p in self.parameters],
                decay=settings.ema_decay,
                foreach=device.type != "cpu" and not accelerator.is_fsdp2,
            )
            self.ema.to(device)
        self.step = self.saved = 0

    def resume(self) -> None:
        """Go on from the state, where there is one. Raises ValueError where it is damaged or of another model."""
        notes = load_state(self)
        if notes is None:
            return
        self.step = self.saved = int(notes["step"])
        if self.accelerator.scaler is not None and notes.get("scaler"):
            self.accelerator.scaler.load_state_dict(json.loads(notes["scaler"]))

    def save(self) -> None:
        """Write the state in place of the one before.

        Raises OSError where the disk is full, and ValueError where the weights are no numbers: a good state stays.
        """
        good = torch.tensor(float(all(bool(local(p.detach()).isfinite().all()) for p in self.parameters)))
        if self.accelerator.reduce(good.to(self.accelerator.device), "mean") < 1:
            raise ValueError(f"The weights after step {self.step:,} are no numbers. {self._advice()}")
        scaler = self.accelerator.scaler
        save_state(self, {} if scaler is None else {"scaler": json.dumps(scaler.state_dict())})
        self.saved = self.step

    def _advice(self) -> str:
        """What to do where training went astray."""
        kept = f" What was learnt up to step {self.saved:,} is kept: the same command with --steps {self.saved} "
        kept += "publishes it."
        return (
            "Begin anew in another --output, with a lower --learning-rate, --max-grad-norm 1 or --mixed-precision bf16."
            + (kept if self.saved else "")
        )

    def run(self, batches: Iterator[Batch], after: Callable[["Training"], object]) -> None:
        """Take the steps that are left; `after` is called after each.

        Raises StoppedError after Ctrl-C and ValueError where the loss is no number; the checkpoint that lies there
        then is good.
        """
        settings, accelerator = self.settings, self.accelerator
        main = accelerator.is_main_process
        log = Log(self)
        bar = tqdm(total=settings.steps, initial=self.step, disable=not main, desc="training", unit="step")
        with stoppable() as stop, bar:
            while self.step < settings.steps:
                torch.manual_seed(seed_of(settings.seed, "step", self.step, accelerator.process_index))  # of dropout
                for group in self.optimizer.param_groups:  # before the gradients: with them DeepSpeed moves the weights
                    group["lr"] = learning_rate(settings, self.step)
                total = self._accumulate(batches)
                told = torch.stack([total, torch.tensor(float(stop.is_set()), device=total.device)])
                value, stopped = accelerator.reduce(told, "mean").tolist()
                if not math.isfinite(value):
                    raise ValueError(f"The loss at step {self.step + 1:,} is {value}. {self._advice()}")
                self._move()
                self.step += 1
                bar.update()
                log.add(value, bar)
                if self.step % settings.save_every == 0 or self.step == settings.steps or stopped:
                    self.save()
                if stopped:
                    raise StoppedError(self.step)
                after(self)

    def _accumulate(self, batches: Iterator[Batch]) -> Tensor:
        """Add up the gradients of a step; its mean loss, in this process."""
        total = torch.zeros((), device=self.accelerator.device)
        for number in range(self.settings.accumulation):
            batch = next(batches)
            with self.accelerator.accumulate(self.wrapped):
                loss = (self.loss(self.wrapped, batch) * batch.weight).mean()
                self.accelerator.backward(loss)
            total += loss.detach() / self.settings.accumulation
            if self.settings.ema_update == "batch" and number < self.settings.accumulation - 1:
                self._average()
        return total

    def _move(self) -> None:
        """Let the gradients change the weights."""
        if self.settings.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()  # after each batch, too, the last one's is after the weights moved

    def _average(self) -> None:
        """Let the averages follow the weights, where these are averaged."""
        if self.ema is not None:
            on_cpu = self.settings.ema_on_cpu
            self.ema.step([p.detach().cpu().requires_grad_() for p in self.parameters] if on_cpu else self.parameters)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it, the weights are their averages."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def finish(self) -> None:
        """Let the weights be their averages for good, and let go of all else: it is on disk, and larger than they."""
        if self.ema is not None:
            self.ema.copy_to(self.parameters)
            self.ema = None
        if not is_shared_out(self):
            self.optimizer.optimizer.state.clear()


class Log:
    """What is told of the steps: the bar, log.jsonl and the trackers."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.losses: list[float] = []
        self.since = time.monotonic()

    def add(self, loss: float, bar: tqdm) -> None:
        """Tell of a step."""
        training, settings = self.training, self.training.settings
        self.losses.append(loss)
        if training.step % LOG_EVERY and training.step != settings.steps:
            return
        mean, seconds = sum(self.losses) / len(self.losses), time.monotonic() - self.since
        processes = training.accelerator.num_processes
        speed = len(self.losses) * settings.batch_size * settings.accumulation * processes / seconds
        row = {"loss": mean, "learning_rate": learning_rate(settings, training.step - 1), "images_per_second": speed}
        bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
        training.accelerator.log(row, step=training.step)
        if training.accelerator.is_main_process:
            add_line(training.folder / "log.jsonl", json.dumps({"step": training.step, **row}))
        self.losses, self.since = [], time.monotonic()


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Within it, Ctrl-C sets an event: a step is ended before the training is, so that it can go on exactly."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, earlier)

"""A training from its settings to what it gives: a fine-tuning, or by another method on the same loop."""

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    parse_flag_from_env,
)
from safetensors.torch import load_file

from ...ip2p_pipeline.devices import emulates
from ...ip2p_pipeline.distilled import is_distilled
from ...ip2p_pipeline.text import Text
from ..files import write_whole
from ..pairs.run_folder import claimed, read_settings, refuse_other
from .batches import Batches
from .cache import build
from .draws import Scales
from .editor import editor_with, gathered
from .encode import Encoder
from .examples import Example, Examples
from .export import export
from .loop import Training, check_optimizer
from .material import Pictures, readable
from .model import Pipeline, load_start
from .order import Order
from .settings import INDIFFERENT, FinetuneSettings, RecommendedSettings
from .sources import open_rows
from .state import has_state
from .stream import Stream
from .trainee import Loss, choose
from .validation import BEST, Validation

LONGEST_WAIT = timedelta(days=1)
"""Of processes for the main one, which may have a dataset to fetch, or a validation to finish."""
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
Say = Callable[[str], None]


class Method:
    """How an editor is trained: what it begins with, and by which loss. This one fine-tunes.

    told:   the settings that the run's folder keeps
    scales: of a distilled model, those that it learns; known when it has started
    """

    scales: Scales | None = None

    def __init__(self, settings: FinetuneSettings) -> None:
        self.settings = settings
        self.told: Any = settings
        self.kind: type = FinetuneSettings

    def start(self) -> Pipeline:
        """The editor that training begins with. Raises ValueError for one that is distilled."""
        pipe = load_start(self.settings.model, self.settings.vae)
        if is_distilled(pipe.unet):
            raise ValueError(
                f"{self.settings.model} is distilled, and fine-tuning would spoil what its scales do: start from the "
                "editor that it was distilled from, and distil what comes of that."
            )
        told = {each.name: getattr(self.settings, each.name) for each in fields(RecommendedSettings)}
        pipe.register_to_config(**{name: value for name, value in told.items() if value is not None})
        if pipe.is_xl:  # it is told the size of a picture, and knows no other than those that it was trained at
            pipe.unet.register_to_config(sample_size=self.settings.resolution // pipe.vae_scale_factor)
        if self.settings.prediction_type is not None:
            changed = {"prediction_type": self.settings.prediction_type}
            pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config, **changed)
        return pipe

    def loss(self, pipe: Pipeline, empty: Callable[[], Text], device: torch.device, dtype: torch.dtype) -> Loss:
        """The loss; `empty` gives the embeddings of ∅, one row."""
        return Loss(pipe.scheduler.config, self.settings, device)


def finetune(settings: FinetuneSettings, folder: Path, say: Say) -> list[Path]:
    """Fine-tune, see `train`."""
    return train(Method(settings), folder, say)


def train(method: Method, folder: Path, say: Say) -> list[Path]:
    """Train, from the checkpoint in the folder on if there is one; what was written.

    say: is told, in the main process, what a user should know

    Raises ValueError or OSError, in a sentence, for what can't be trained, and StoppedError after Ctrl-C; what is done
    is in the folder, and the same call goes on.
    """
    try:
        return trained(method, folder, say)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            "The GPU has too little memory: try --gradient-checkpointing, a lower --batch-size with --accumulation, or "
            "--train lora. With --dry-run it tells what takes how much."
        ) from error


def trained(method: Method, folder: Path, say: Say) -> list[Path]:
    """Train, see `train`."""
    settings = method.settings
    accelerator = new_accelerator(settings, folder)
    main = accelerator.is_main_process
    tell = say if main else lambda _: None
    with ExitStack() as stack:
        if main:
            stack.enter_context(claimed(folder))
            check_settings(method, folder)
        accelerator.wait_for_everyone()
        if asked_precision(settings) == "bf16" and accelerator.mixed_precision == "no":
            tell("This CPU has no arithmetic for bfloat16 and would take many times as long: float32 is taken instead.")
        check_optimizer(settings, accelerator)
        pipe = method.start()
        dtype = DTYPES.get(accelerator.mixed_precision, torch.float32)
        encoder = Encoder(pipe, accelerator.device, dtype, settings.train_text_encoder)
        with accelerator.main_process_first():
            rows = open_rows(settings, folder / "data", imports=main)
        torch.manual_seed(settings.seed)  # a LoRA begins with chance
        trainee = choose(pipe, settings, dtype)
        if not settings.streaming:
            rows = Examples(rows, settings.held_out, settings.share, settings.seed)
            if main:
                check_data(rows, folder)
        material, order, shown = prepare(rows, encoder, settings, folder, tell)
        loss = method.loss(pipe, partial(material.texts, [""]), accelerator.device, dtype)
        batches = Batches(
            material,
            order,
            settings,
            accelerator.device,
            scaling_factor=pipe.vae.config.scaling_factor,
            timesteps=loss.timesteps,
            encoder=encoder if settings.train_text_encoder else None,
            scales=method.scales,
        )
        if settings.cache:
            encoder.free()
        elif not settings.validate_every:
            encoder.free_decoder()
        training = Training(accelerator, trainee, loss, settings, folder)
        training.resume()
        if training.step:
            tell(f"going on from step {training.step:,}")
        if settings.tracker != "none":
            accelerator.init_trackers("ip2p")
            if not accelerator.trackers:
                tell(f"{settings.tracker} is not installed: the figures go to {folder / 'log.jsonl'} alone.")
        validation = Validation(batches, shown, pipe, method.start, settings)
        validation.catch_up(training)
        try:
            training.run(
                batches.of_process(training.step, accelerator.process_index, accelerator.num_processes), validation
            )
        finally:
            unread(material, tell)
        written: list[Path] = []
        training.finish()
        weights = gathered(training)
        if main:
            if settings.publish == "best" and not (folder / BEST).exists():
                tell("No validation found a loss that is a number: the last weights are published.")
            elif settings.publish == "best":
                weights = load_file(folder / BEST)
            editor, _ = editor_with(weights, method.start, settings)
            written = export(editor, folder, settings)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return written


def check_data(examples: Examples, folder: Path) -> None:
    """Keep in the folder what is trained on. Raises ValueError where the steps that were taken had other examples."""
    path, told = folder / "examples.json", {"rows": len(examples), "texts": examples.digest}
    if has_state(folder) and path.exists() and json.loads(path.read_text()) != told:
        raise ValueError(
            f"{folder} was trained on other data than these {len(examples):,} rows: give another --output; with "
            f"--model {folder / 'pipeline'} it begins with what was learnt."
        )
    write_whole(path, json.dumps(told).encode())


def unread(material: Any, tell: Say) -> None:
    """Tell of examples that could not be read when it was their turn."""
    problems: Counter[str] | None = getattr(material, "problems", None)
    if problems:
        tell(f"{problems.total():,} times an example could not be read, first because {next(iter(problems))}.")


def new_accelerator(settings: FinetuneSettings, folder: Path) -> Accelerator:
    """The processes and the precision that `accelerate launch` or the settings say.

    Raises ValueError for ways to share a model out that it can't be trained in.
    """
    on_cpu = settings.cpu or parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    asked = asked_precision(settings)
    emulated = asked == "bf16" and on_cpu and emulates(torch.bfloat16, torch.device("cpu"))
    accelerator = Accelerator(
        mixed_precision="no" if emulated else asked,
        # As a plugin: `accelerate launch` with DeepSpeed has a number of its own, and would overrule a plain one.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=settings.accumulation),
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "logs")),
        cpu=settings.cpu,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP's first version can't be used: say fsdp_version: 2, as the package's fsdp.yaml does.")
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        raise ValueError("DeepSpeed's ZeRO stage 3 can't be used: say zero_stage: 2, as deepspeed.yaml does.")
    return accelerator


def asked_precision(settings: FinetuneSettings) -> str | None:
    """What the settings say, else `accelerate launch`."""
    return settings.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION")


def check_settings(method: Method, folder: Path) -> None:
    """Keep the settings in the folder. Raises ValueError where it holds another run that has come to a checkpoint."""
    told = {each.name: getattr(method.told, each.name) for each in fields(method.kind)}
    told = json.loads(json.dumps(told))
    earlier = read_settings(folder) if has_state(folder) else None
    if earlier is None:
        (folder / BEST).unlink(missing_ok=True)  # of steps that are taken again, maybe otherwise
    else:
        deciding = [name for name in told if name not in INDIFFERENT]
        usual = json.loads(json.dumps({name: getattr(method.kind(), name) for name in deciding}))  # of older versions
        refuse_other(folder, *({name: each.get(name, usual[name]) for name in deciding} for each in (earlier, told)))
    write_whole(folder / "settings.json", json.dumps(told, indent=2).encode())


def prepare(
    examples: Any, encoder: Encoder, settings: FinetuneSettings, folder: Path, tell: Say
) -> tuple[Any, Any, list[Example]]:
    """What batches are made of, their order, and examples to look at.

    examples: `Examples`, or with --streaming rows
    """
    if settings.streaming:
        stream = Stream(examples, encoder, settings)
        return stream, stream, stream.kept_back[: settings.validation_edits]
    if examples.empty:
        tell(f"{examples.empty:,} rows have no instruction and are left out.")
    material: Any = build(folder / "cache", examples, encoder, settings) if settings.cache else None
    if material is None:
        material = Pictures(examples, encoder, settings)
    else:
        if material.skipped:
            why = next(iter(material.skipped.values()))
            tell(f"{len(material.skipped):,} rows are left out, the first because {why}.")
        if others := sorted({*(folder / "cache").glob("*.safetensors")} - {*material.files}):
            size = sum(path.stat().st_size for path in others) / 1e9
            tell(
                f"{folder / 'cache'} has {len(others):,} files ({size:.2f} GB) of another model, other data or other "
                "settings. They are not read: remove them if you like."
            )
    if not any(material.members.values()):
        raise ValueError("No example can be read: there is nothing to train on.")
    shown = readable(examples, examples.held_out[: settings.validation_edits])
    return material, Order(material.members, settings.batch_size, settings.seed), shown

"""What an evaluation is to make: its methods at every position of their dials, with every seed."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from .inversion import InvertedP2P
from .methods import Function, Ip2p, Method, NoEdit, check_on_hub
from .samples import Sample
from .sdedit import SDEdit
from .settings import SDEDITS, DialSettings, EvaluateSettings
from .store import Task
from .text2live import Text2LIVE
from .text2live_losses import Weights

PLAIN = Weights(templates=("{}",), screen=0.0, sparsity=15.0, views=4, distorted=False)
"""Of a CLIP that knows no word of photographs and screens, and captions that tell places, as in the shapes world. With
the paper's sparsity the layer leaves a haze there."""
CAPTIONS = {"original_prompt": "before", "edited_prompt": "after"}


def plan(settings: EvaluateSettings, device: torch.device, dtype: torch.dtype) -> list[Task]:
    """All that is to be made of each sample, the tasks of a method together.

    Raises ValueError or FileNotFoundError, in a sentence, for a model or a function that is not there.
    """
    tasks = [
        Task(method, setting, settings.seed * 1000 + seed)
        for method, dials in methods(settings, device, dtype)
        for setting in dials
        for seed in range(settings.seeds if method.by_chance else 1)
    ]
    # By their keys, so that what is asked for twice counts once, and a path without weights is told now.
    tasks = list({(task.method.name, task.key): task for task in tasks}.values())
    named = [method.identity().get("model") for method in {id(task.method): task.method for task in tasks}.values()]
    for model in sorted({each for each in named if isinstance(each, str)}):  # those here are told by their files
        check_on_hub(model)
    return tasks


def check_captions(tasks: Sequence[Task], samples: Sequence[Sample]) -> None:
    """Raise ValueError where a method needs a caption that a sample lacks, before hours are spent on others."""
    for method in {id(task.method): task.method for task in tasks}.values():
        for name in method.captions:
            for sample in samples:
                if not getattr(sample, name):
                    hint = " Or use sdedit-instruction." if method.name == "SDEdit" else ""
                    raise ValueError(
                        f"{method.name} needs the caption {CAPTIONS[name]} the edit, and {sample.id} has none: leave "
                        f"it out of --methods.{hint}"
                    )


def methods(
    settings: EvaluateSettings, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Method, list[dict[str, float]]]]:
    """The methods, each with the settings of its dials."""
    at: dict[str, Any] = {"device": str(device), "dtype": dtype, "resolution": settings.resolution}
    guided = {"guidance_scale": settings.base_guidance_scale}
    for name in settings.methods:
        if name == "ip2p":
            for called, model in named(settings.model):
                yield Ip2p(model, {}, name=called, **at), guidance_grid(settings)
        elif name in SDEDITS:
            prompt: Any = "instruction" if name.endswith("instruction") else "caption"
            called = "SDEdit" if prompt == "caption" else "SDEdit, instruction"
            yield (
                SDEdit(settings.base, guided, prompt, called, **at),
                grid(strength=settings.strengths, steps=settings.steps),
            )
        elif name in ("p2p-ddim", "p2p-null-text"):
            inversion: Any = "ddim" if name.endswith("ddim") else "null_text"
            for steps in settings.steps:
                method = InvertedP2P(settings.base, inversion, steps, settings.base_guidance_scale, **at)
                yield method, grid(self_replace_steps=settings.self_replace_steps, steps=[steps])
        elif name == "text2live":
            live = Text2LIVE(device=str(device))
            if settings.clip_model == "shapes":
                live = Text2LIVE("shapes", None, PLAIN, device=str(device))
            yield live, grid(iterations=settings.iterations)
        else:
            function = Function(name)
            yield function, grid(strength=settings.strengths) if function.dial else [{}]
    yield NoEdit(), [{}]


def named(models: Sequence[str]) -> list[tuple[str, str]]:
    """What the report calls each model, and the model. Raises ValueError where several have no name."""
    pairs = []
    for given in models:
        name, equals, model = given.partition("=")
        pairs.append((name, model) if equals and not Path(given).exists() else ("ip2p", given))
    if len(models) > 1 and any(model in models for _, model in pairs):
        raise ValueError(
            "Several models need names, such as --model theirs=timbrooks/instruct-pix2pix ours=run/pipeline; those of "
            "one name count as trainings that differ in their seed."
        )
    return pairs


def guidance_grid(settings: DialSettings) -> list[dict[str, float]]:
    """Every combination of ip2p's dials."""
    return grid(
        image_guidance_scale=settings.image_guidance_scales,
        guidance_scale=settings.guidance_scales,
        steps=settings.steps,
    )


def grid(**dials: list[Any]) -> list[dict[str, float]]:
    """Every combination of the dials."""
    return [dict(zip(dials, values, strict=True)) for values in product(*dials.values())]

"""What the stages of a recipe would take, before any is run: requests, evaluations of the U-Net, hours."""

import os
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..training.instructions.budget import estimate_bill
from ..training.instructions.seeds import load_seeds
from ..training.instructions.triplets import Caption, Request
from ..training.pairs.candidates import PairTriplet, draw_groups
from ..training.pairs.trajectories import count_evaluations

RATE = 100 * 3 / 9
"""Evaluations a second of an A100 at 512×512, from the paper's 9 seconds for an edit of 100 steps of three samples."""
XL = 2.0
"""What an evaluation of SDXL's U-Net takes, in SD 1.5's at as many pixels: 1.59 to 0.80 TFLOP at 512×512."""
BACKWARD = 2.0
"""What a gradient takes, in evaluations; once more where inner results are computed again."""
COUNTED = 200  # triplets whose evaluations are counted, and stand for all


def estimates(parsed: Mapping[str, Any], processes: int, rate: float | None) -> Iterator[str]:
    """A line for each stage, and one for all.

    parsed: the settings of each stage, by its name
    rate:   evaluations a second of a device, at 512 pixels, or in the shapes world at its own 64
    """
    total = 0.0
    names = [getattr(each, name, None) for each in parsed.values() for name in ("model", "base")]
    shapes = "shapes" in names
    xl = XL if any("xl" in Path(name).name.lower() for name in names if isinstance(name, str)) else 1.0
    for name, settings in parsed.items():
        if name == "instructions":
            yield f"{name:<13}{text_stage(settings)}"
            continue
        evaluations, side = counted(name, settings, parsed, processes)
        devices = settings.workers if name == "pairs" else processes
        if shapes:
            a_second = min(devices, os.cpu_count() or 1) * (rate or measured(dtype_of(settings)))
        else:
            a_second = devices * (rate or RATE / xl) * (512 / side) ** 2
        hours = evaluations / a_second / 3600
        total += hours
        yield f"{name:<13}{evaluations:,.0f} evaluations of the U-Net, {hours:,.2f} hours at {a_second:,.0f} a second"
    yield f"{'together':<13}{total:,.2f} hours, besides reading, encoding and scoring pictures"


def text_stage(settings: Any) -> str:
    """Requests and tokens, as the seeds' captions would take."""
    from .dataset import make_backend

    if settings.backend == "shapes":
        return f"{settings.num_captions:,} captions, edited by a grammar: seconds"
    backend = make_backend(settings)
    captions = [Caption(seed.original_prompt) for seed in load_seeds(settings.seeds)[0]][:COUNTED]
    bill = estimate_bill(backend.estimate, [Request(caption, 0) for caption in captions], {}, settings)  # type: ignore[arg-type]
    times = settings.num_captions * settings.per_caption / len(captions)
    cost = "" if bill.cost is None else f": about {bill.cost * times:,.2f}"
    return (
        f"{settings.num_captions * settings.per_caption:,} requests, about {bill.prompt_tokens * times:,.0f} prompt "
        f"tokens and at most {bill.completion_tokens * times:,.0f} completion tokens{cost}"
    )


def counted(name: str, settings: Any, parsed: Mapping[str, Any], processes: int) -> tuple[float, int]:
    """A stage's evaluations of the U-Net, a gradient being counted as some, and the side of its pictures."""
    if name == "pairs":  # by its workers, whatever the processes of the others
        groups = [draw_groups(PairTriplet(f"caption {at}", "edit", "edited"), settings) for at in range(COUNTED)]
        each = sum(count_evaluations(group, settings) for group in groups) / COUNTED
        side = settings.resolution or (64 if settings.model == "shapes" else 512)
        triplets = parsed["instructions"].num_captions * parsed["instructions"].per_caption
        return each * min(settings.limit or triplets, triplets), side
    if name == "evaluate":
        samples = settings.num_samples or 512
        runs = len(settings.image_guidance_scales) * len(settings.guidance_scales) * len(settings.model)
        edits = {"ip2p": 3.0 * runs, "sdedit": 2.0 * sum(settings.strengths)}
        branches = sum(edits.get(method, 0.0) for method in settings.methods)
        side = 64 if settings.base == "shapes" else settings.resolution or 512
        return samples * settings.seeds * sum(settings.steps) * branches, side
    teacher = 0.0
    if name != "train":
        # What the teacher is asked, and of few steps what the student should have come to, once more.
        branches = 1.0 if name == "distil" and "guidance" in parsed else 3.0
        teacher = branches * settings.teacher_steps + 1 if settings.stage == "steps" else branches
    examples = settings.steps * settings.batch_size * settings.accumulation * processes
    return examples * (1 + BACKWARD + float(settings.gradient_checkpointing) + teacher), settings.resolution


def dtype_of(settings: Any) -> str:
    """What a stage computes in, on the CPU."""
    half = getattr(settings, "mixed_precision", None) == "bf16"
    return getattr(settings, "dtype", None) or ("bfloat16" if half else "float32")


@cache
def measured(dtype_name: str) -> float:
    """Evaluations a second of the shapes world's U-Net on one core of this machine that has nothing else to do."""
    import torch
    from diffusers import UNet2DConditionModel

    from ..ip2p_pipeline.devices import find_dtype
    from ..training.shapes.models import SHAPES_BASE

    torch.set_num_threads(1)  # so that all of the work is this thread's
    dtype = find_dtype(dtype_name, torch.device("cpu"))
    unet = UNet2DConditionModel.from_pretrained(SHAPES_BASE / "unet", torch_dtype=dtype)
    given = torch.randn(16, 4, 16, 16, dtype=dtype), torch.zeros(16), torch.randn(16, 40, 128, dtype=dtype)
    taken: list[float] = []
    end = time.monotonic() + 1
    with torch.no_grad():
        unet(*given)
        while len(taken) < 5 or time.monotonic() < end:
            since = time.thread_time()
            unet(*given)
            taken.append(time.thread_time() - since)
    return 16 / min(taken)

"""Our pipeline against diffusers' own: the same weights, settings, pictures and noise, in turn.

    python benchmarks/edit.py [--quick] [--models shapes sd15-float32 sd15-bfloat16] [--rounds N] [--size N]
                              [--defaults]

`sd15` is Stable Diffusion 1.5's InstructPix2Pix configuration with random weights, at 128×128 pixels. Each round is
an edit by ours, two by stock and one more by ours, so that neither gains from what ran before it or from a machine
that slows down; the ratio is ours / stock, its median over the rounds. Besides: the ratio of the fastest runs, which a
busy machine disturbs least; samples that went through the U-Net; the process's peak memory; and the largest difference
between the two results' pixels (of 1) where both compute the same. The last line has the medians.

Stock always computes three branches, has no interval (it is timed at the full guidance) and one pair of scales a
call (it is timed as one call per picture).
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.ip2p_pipeline.single_file import SD, SD_NOISE
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROUNDS = {"shapes": 16, "sd15-float32": 5, "sd15-bfloat16": 5}
SD15_SIZE = 128  # pixels; where the runs are short enough for the median of many of them
INSTRUCTION = "make the red circle blue"


@dataclass
class Case:
    """One comparison: the settings of our one call, and of each call that stock needs for the same pictures."""

    name: str
    ours: dict[str, Any]
    stock: list[dict[str, Any]]
    same: bool = True
    """Whether both compute the same pictures."""


@dataclass
class Measured:
    """What the runs of one case took, in seconds, two of each a round."""

    ours: list[float] = field(default_factory=list)
    stock: list[float] = field(default_factory=list)
    samples: tuple[int, int] = (0, 0)
    memory: tuple[float, float] = (0.0, 0.0)
    difference: float = 0.0

    @property
    def ratios(self) -> list[float]:
        """Ours / stock, round by round."""
        return round_ratios(self.ours, self.stock)


def in_turn(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """The seconds of two runs of each a round, in the order first, second, second, first."""
    firsts, seconds = [], []
    for _ in range(rounds):
        a, b, c, d = first(), second(), second(), first()
        firsts += [a, d]
        seconds += [b, c]
    return firsts, seconds


def round_ratios(firsts: list[float], seconds: list[float]) -> list[float]:
    """First / second, round by round."""
    return [sum(firsts[at : at + 2]) / sum(seconds[at : at + 2]) for at in range(0, len(firsts), 2)]


def sd15(dtype: torch.dtype) -> dict[str, Any]:
    """The components of an SD 1.5 InstructPix2Pix checkpoint, with random weights."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        unet = UNet2DConditionModel.from_config(SD["unet"]).to(dtype).eval()
        vae = AutoencoderKL.from_config(SD["vae"]).to(dtype).eval()
        text_encoder = CLIPTextModel(CLIPTextConfig(**SD["text_encoder"])).to(dtype).eval()
    words = ["<|startoftext|>", "<|endoftext|>", *(chr(c) + end for c in range(97, 123) for end in ("", "</w>"))]
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77),
        "scheduler": EulerAncestralDiscreteScheduler(**SD_NOISE),
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }


def pipelines(model: str, shapes: Path) -> tuple[DiffusionPipeline, DiffusionPipeline]:
    """Ours and stock's pipeline over the same components."""
    if model == "shapes":
        ours = InstructPix2PixPipeline.from_pretrained(shapes)
        return ours, StableDiffusionInstructPix2PixPipeline.from_pipe(ours)
    parts = sd15(getattr(torch, model.removeprefix("sd15-")))
    ours = InstructPix2PixPipeline(**parts, text_encoder_2=None, tokenizer_2=None)
    return ours, StableDiffusionInstructPix2PixPipeline(**parts)


def cases(size: int, steps: int, scales: tuple[float, float], batch: int) -> list[Case]:
    """The comparisons, on a smooth random picture of `size` pixels."""
    s_text, s_image = scales
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((size, size)) for _ in range(batch)
    ]
    common = {"prompt": INSTRUCTION, "num_inference_steps": steps}
    one = {**common, "image": pictures[0], "seeds": [0], "guidance_scale": s_text, "image_guidance_scale": s_image}
    texts, images = ([s + 0.25 * i for i in range(batch)] for s in scales)
    mixed = {**common, "image": pictures, "seeds": list(range(batch))}
    each = [
        {**one, "image": picture, "seeds": [i], "guidance_scale": texts[i], "image_guidance_scale": images[i]}
        for i, picture in enumerate(pictures)
    ]
    neutral = {**one, "image_guidance_scale": 1.0}
    interval = {**one, "guidance_interval": (0.2, 0.8), "image_guidance_interval": (0.2, 0.8)}
    return [
        Case("defaults", one, [one]),
        Case("s_I = 1", neutral, [neutral]),
        Case("interval 0.2-0.8", interval, [one], same=False),
        Case(
            f"{batch} pictures, mixed scales", {**mixed, "guidance_scale": texts, "image_guidance_scale": images}, each
        ),
    ]


def edit(pipe: DiffusionPipeline, call: dict[str, Any]) -> np.ndarray:
    """The edited pictures, [N, H, W, 3] in 0..1."""
    call = dict(call)
    generators = [torch.Generator().manual_seed(seed) for seed in call.pop("seeds")]
    return pipe(**call, generator=generators, output_type="np", return_dict=False)[0]


def run(pipe: DiffusionPipeline, calls: list[dict[str, Any]]) -> tuple[float, np.ndarray]:
    """Seconds that the calls took, and their pictures."""
    start = time.perf_counter()
    pictures = [edit(pipe, call) for call in calls]
    return time.perf_counter() - start, np.concatenate(pictures)


def run_at_peak(pipe: DiffusionPipeline, calls: list[dict[str, Any]]) -> tuple[float, np.ndarray]:
    """MiB resident at the peak of the calls, the weights included, and the pictures.

    NaN where the system does not start that count anew for a process that asks, as Linux does.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return math.nan, run(pipe, calls)[1]
    pictures = run(pipe, calls)[1]
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024, pictures


def measure(ours: DiffusionPipeline, stock: DiffusionPipeline, case: Case, rounds: int) -> Measured:
    """Warm both up, counting what they compute, then time them in turn."""
    counted: list[int] = []
    hook = ours.unet.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    ours_peak, ours_made = run_at_peak(ours, [case.ours])
    ours_samples = sum(counted)
    stock_peak, stock_made = run_at_peak(stock, case.stock)
    hook.remove()
    found = Measured(
        samples=(ours_samples, sum(counted) - ours_samples),
        memory=(ours_peak, stock_peak),
        difference=float(np.abs(ours_made - stock_made).max()),
    )
    found.ours, found.stock = in_turn(lambda: run(ours, [case.ours])[0], lambda: run(stock, case.stock)[0], rounds)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=ROUNDS, default=list(ROUNDS))
    parser.add_argument("--shapes", type=Path, default=SHAPES_MODEL, help="folder of the shapes model")
    parser.add_argument("--rounds", type=int, help="16 for shapes and 5 for sd15 if not given")
    parser.add_argument("--size", type=int, default=SD15_SIZE, help="pixels of sd15's pictures; 128 if not given")
    parser.add_argument("--defaults", action="store_true", help="the first case only, where both compute the same")
    parser.add_argument("--quick", action="store_true", help="the shapes model only, 2 rounds")
    arguments = parser.parse_args()

    print("| model | case | ours, s | stock, s | ours / stock | fastest | U-Net samples | peak MiB | difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    medians = []
    for model in ["shapes"] if arguments.quick else arguments.models:
        rounds = 2 if arguments.quick else arguments.rounds or ROUNDS[model]
        ours, stock = pipelines(model, arguments.shapes)
        for pipe in (ours, stock):
            pipe.set_progress_bar_config(disable=True)
        if model == "shapes":
            scales = ours.recommended("guidance_scale"), ours.recommended("image_guidance_scale")
            setup = cases(64, ours.recommended("num_inference_steps"), scales, batch=4 if arguments.quick else 8)
        else:
            setup = cases(arguments.size, 3, (7.5, 1.5), batch=2)
        for case in setup[:1] if arguments.defaults else setup:
            found = measure(ours, stock, case, rounds)
            ratio, lowest, highest = statistics.median(found.ratios), min(found.ratios), max(found.ratios)
            fastest = min(found.ours) / min(found.stock)
            print(
                f"| {model} | {case.name} | {statistics.median(found.ours):.3f} | {statistics.median(found.stock):.3f} "
                f"| **{ratio:.3f}** ({lowest:.3f} to {highest:.3f}) | {fastest:.3f} "
                f"| {found.samples[0]} / {found.samples[1]} | {found.memory[0]:.0f} / {found.memory[1]:.0f} "
                f"| {f'{found.difference:.0e}' if case.same else 'other settings'} |",
                flush=True,
            )
            medians.append(f"{model}/{case.name.replace(' ', '_')}={ratio:.3f}")
    print("ours/stock:", " ".join(medians))


if __name__ == "__main__":
    main()

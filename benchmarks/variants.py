"""What could make our pipeline faster or slower without changing its pictures, each against the pipeline as it is.

    python benchmarks/variants.py [--quick] [--models shapes sd15-float32 sd15-bfloat16] [--pairs N]

Models and settings are those of edit.py's "defaults". Each pair of runs is one edit with the change and one without,
whichever first in turn; the ratio is changed / unchanged, its median over the pairs. "first" is what the first edit
with the change takes, as a ratio to the median without, where compiling shows. The last line has the medians.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from edit import PAIRS, SD15_SIZE, cases, pipelines, run
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline


def text_every_step(pipe: Any, call: dict[str, Any]) -> None:
    """Keys and values of the text computed at every step, as they are where a callback may change weights."""
    call["callback_on_step_end"] = lambda *_: {}


VARIANTS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "text keys and values at every step": text_every_step,
    "channels_last": lambda pipe, call: pipe.unet.to(memory_format=torch.channels_last),
    "plain attention instead of SDPA": lambda pipe, call: pipe.unet.set_attn_processor(AttnProcessor()),
    "torch.compile": lambda pipe, call: pipe.unet.compile(),
}


def measure(
    ours: Any, change: Callable[[Any, dict[str, Any]], object], call: dict[str, Any], pairs: int
) -> tuple[list[float], float, float]:
    """(the pairs' ratios, the first edit's, the largest difference between pixels)."""
    parts = {**ours.components, "unet": copy.deepcopy(ours.unet)}
    changed = InstructPix2PixPipeline(**parts, requires_safety_checker=False)
    changed.set_progress_bar_config(disable=True)
    changed_call = dict(call)
    change(changed, changed_call)
    calls = {ours: call, changed: changed_call}
    _, expected = run(ours, [call])
    first, made = run(changed, [changed_call])
    ratios, unchanged = [], []
    for pair in range(pairs):
        seconds = {pipe: run(pipe, [calls[pipe]])[0] for pipe in ((ours, changed) if pair % 2 else (changed, ours))}
        ratios.append(seconds[changed] / seconds[ours])
        unchanged.append(seconds[ours])
    return ratios, first / statistics.median(unchanged), float(np.abs(made - expected).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--shapes", type=Path, default=SHAPES_MODEL, help="folder of the shapes model")
    parser.add_argument("--pairs", type=int, help="pairs of runs; 31 for shapes and 9 for sd15 if not given")
    parser.add_argument("--quick", action="store_true", help="the shapes model only, 3 pairs, nothing compiled")
    arguments = parser.parse_args()

    print("| model | change | changed / unchanged | first | difference |\n|---|---|---|---|---|")
    medians = []
    for model in ["shapes"] if arguments.quick else arguments.models:
        ours = pipelines(model, arguments.shapes)[0]
        ours.set_progress_bar_config(disable=True)
        if model == "shapes":
            scales = ours.recommended("guidance_scale"), ours.recommended("image_guidance_scale")
            call = cases(64, ours.recommended("num_inference_steps"), scales, batch=1)[0].ours
        else:
            call = cases(SD15_SIZE, 3, (7.5, 1.5), batch=1)[0].ours
        for name, change in VARIANTS.items():
            if arguments.quick and name == "torch.compile":
                continue
            pairs = 3 if arguments.quick else arguments.pairs or PAIRS[model]
            ratios, first, difference = measure(ours, change, call, pairs)
            median = statistics.median(ratios)
            print(
                f"| {model} | {name} | **{median:.3f}** ({min(ratios):.3f} to {max(ratios):.3f}) | {first:.1f} "
                f"| {difference:.0e} |",
                flush=True,
            )
            medians.append(f"{model}/{name.replace(' ', '_')}={median:.3f}")
    print("changed/unchanged:", " ".join(medians))


if __name__ == "__main__":
    main()

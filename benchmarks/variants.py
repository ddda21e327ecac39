"""What could make our pipeline faster or slower without changing its pictures, each against the pipeline as it is.

    python benchmarks/variants.py [--quick] [--models shapes sd15-float32 sd15-bfloat16] [--rounds N]

Models, settings and rounds are those of edit.py's "defaults"; the ratio is changed / unchanged, its median over the
rounds. "first" is what the first edit
with the change takes, as a ratio to the median without, where compiling shows. For guidance's arithmetic the share
of an edit that it takes in all: the most that doing it in place could save. The last line has the medians.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from edit import ROUNDS, SD15_SIZE, cases, in_turn, pipelines, round_ratios, run
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.ip2p_pipeline.guidance import Guidance


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
    ours: Any, change: Callable[[Any, dict[str, Any]], object], call: dict[str, Any], rounds: int
) -> tuple[list[float], float, float]:
    """(the rounds' ratios, the first edit's, the largest difference between pixels)."""
    parts = {**ours.components, "unet": copy.deepcopy(ours.unet)}
    changed = InstructPix2PixPipeline(**parts, requires_safety_checker=False)
    changed.set_progress_bar_config(disable=True)
    changed_call = dict(call)
    change(changed, changed_call)
    _, expected = run(ours, [call])
    first, made = run(changed, [changed_call])
    with_change, without = in_turn(lambda: run(changed, [changed_call])[0], lambda: run(ours, [call])[0], rounds)
    difference = float(np.abs(made - expected).max())
    return round_ratios(with_change, without), first / statistics.median(without), difference


def arithmetic(ours: Any, call: dict[str, Any], runs: int) -> list[float]:
    """The share of each edit that guidance's arithmetic takes."""
    combine, spent = Guidance.combine, 0.0

    def timed(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal spent
        start = time.perf_counter()
        guided = combine(*args, **kwargs)
        spent += time.perf_counter() - start
        return guided

    shares = []
    with patch.object(Guidance, "combine", timed):
        for _ in range(runs):
            spent = 0.0
            seconds, _ = run(ours, [call])
            shares.append(spent / seconds)
    return shares


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=ROUNDS, default=list(ROUNDS))
    parser.add_argument("--shapes", type=Path, default=SHAPES_MODEL, help="folder of the shapes model")
    parser.add_argument("--rounds", type=int, help="16 for shapes and 5 for sd15 if not given")
    parser.add_argument("--quick", action="store_true", help="the shapes model only, 2 rounds, nothing compiled")
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
        rounds = 2 if arguments.quick else arguments.rounds or ROUNDS[model]
        for name, change in VARIANTS.items():
            if arguments.quick and name == "torch.compile":
                continue
            ratios, first, difference = measure(ours, change, call, rounds)
            median = statistics.median(ratios)
            print(
                f"| {model} | {name} | **{median:.3f}** ({min(ratios):.3f} to {max(ratios):.3f}) | {first:.1f} "
                f"| {difference:.0e} |",
                flush=True,
            )
            medians.append(f"{model}/{name.replace(' ', '_')}={median:.3f}")
        shares = arithmetic(ours, call, 2 * rounds)
        share, lowest, highest = statistics.median(shares), min(shares), max(shares)
        print(f"| {model} | guidance's arithmetic | **{share:.2%}** ({lowest:.2%} to {highest:.2%}) of it | | |")
        medians.append(f"{model}/arithmetic={share:.2%}")
    print("changed/unchanged:", " ".join(medians))


if __name__ == "__main__":
    main()

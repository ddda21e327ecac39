"""A distilled shapes editor against its teacher: accuracy in few steps, both dials, and what an edit costs.

    python benchmarks/few_step.py [--teacher FOLDER] [--distilled FOLDER] [--guided FOLDER] [--sheet PICTURE]
                                  [--compile] [--quick]

The editors are those inside the package, where no others are named: `--distilled` is what `ip2p distil --stage steps`
gave, `--guided` what `--stage guidance` gave. The oracle judges held-out edits (`training/shapes/judging.py`), made by
the teacher at 20 steps of three branches, and by each at 4, 2 and 1. Both dials are turned through five values, from
the lowest that was learnt to the one that the model recommends, the other one at what it recommends: over the same
edits, CLIP's image similarity shall rise with s_I, directional similarity with s_T; by how much from one value to the
next is told with its 95% interval over the edits. An edit's cost is the samples that
go through the U-Net, and the seconds of an edit against diffusers' own pipeline with the teacher at its defaults (100
steps), in turn; the ratio is stock / distilled, its median over the rounds: of an edit alone, and of eight in a batch,
where this small U-Net's work weighs more against the calls of its layers. `--compile` times an edit alone besides with
the distilled U-Net compiled, which takes minutes at first and is not counted. The last line has the figures; the exit
status is 1 where a bar is missed: within 3 points of the teacher's 20 steps at 4 and within 8 at 1, both dials rise,
and an edit alone is 40 times faster at 4, plain or compiled.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from edit import in_turn, round_ratios
from ip2p import SHAPES_FEW_MODEL, SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.training.evaluate.clip_scores import ClipJudge
from ip2p.training.evaluate.intervals import mean_interval
from ip2p.training.pairs.clip_filter import ClipScorer
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.judging import accuracy, make_edits, trial_edits
from ip2p.training.shapes.render import render
from PIL import Image
from sheets import sheet

TEACHER_STEPS = 20
FEW = (4, 2, 1)
BATCHES = (1, 8)
NEAR = {4: 0.03, 1: 0.08}  # the teacher's accuracy, at so many steps
FASTER = 40.0
DIALS = {"guidance_scale": "directional_similarity", "image_guidance_scale": "image_similarity"}


def opened(folder: str | Path) -> Any:
    """A pipeline that shows no progress."""
    pipe = InstructPix2PixPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def overall(pipe: Any, each: int, steps: int) -> float:
    """The share of held-out edits that are right, printed by kind."""
    right = accuracy(pipe, each, num_inference_steps=steps)
    mean = float(np.mean(list(right.values())))
    print(f"| {steps} | {mean:.1%} | " + " | ".join(f"{right[kind]:.0%}" for kind in KINDS) + " |", flush=True)
    return mean


def accuracies(models: dict[str, Any], each: int) -> dict[str, float]:
    """A table of each model's accuracy, and the figures by model and steps."""
    print(f"\n| model | steps | right | {' | '.join(KINDS)} |\n|{'---|' * (len(KINDS) + 3)}")
    found = {}
    for name, pipe in models.items():
        for steps in (TEACHER_STEPS, *FEW) if name == "teacher" else FEW:
            print(f"| {name} ", end="")
            found[f"{name}@{steps}"] = overall(pipe, each, steps)
    return found


def turned(pipe: Any, dial: str, values: list[float], each: int, judge: ClipJudge) -> np.ndarray:
    """The score that a dial is for at each of its values, of the same edits from the same noise, [values, edits]."""
    edits = [edit for kind in KINDS for edit in trial_edits(kind, each)]
    before = [render(edit.source) for edit in edits]
    captions = [(edit.original_prompt, edit.edited_prompt) for edit in edits]
    scores = []
    for value in values:
        setting: dict[str, Any] = {dial: value}
        rows = judge.score(before, make_edits(pipe, edits, **setting), captions)
        scores.append([row[DIALS[dial]] for row in rows])
    return np.array(scores)


def dials(name: str, pipe: Any, each: int, judge: ClipJudge) -> bool:
    """Both dials turned from the lowest value learnt to the one recommended; whether each does what it is for."""
    steers = True
    for dial, score in DIALS.items():
        lowest = pipe.config.distilled_scales[dial][0]
        values = [float(value) for value in np.linspace(lowest, pipe.recommended(dial), 5)]
        scores = turned(pipe, dial, values, each, judge)
        means = scores.mean(axis=1)
        rises = all(one < two for one, two in pairwise(means))
        steers &= rises
        told = ", ".join(f"{value:g}: {mean:.4f}" for value, mean in zip(values, means, strict=True))
        print(f"{name}: {score} by {dial}: {told} ({'rises' if rises else 'does NOT rise throughout'})")
        by = [mean_interval(two - one) for one, two in [*pairwise(scores), (scores[0], scores[-1])]]
        told = ", ".join(f"{each.mean:+.4f} ({each.low:+.4f} to {each.high:+.4f})" for each in by)
        print(f"    from each to the next, and from the first to the last: {told}", flush=True)
    return steers


def side_by_side(teacher: Any, few: Any) -> Image.Image:
    """The first held-out edit of each kind: before, asked for, and made from the same noise."""
    edits = [edit for kind in KINDS for edit in trial_edits(kind, 1)]
    rows = {"before": [render(edit.source) for edit in edits], "asked for": [render(edit.target) for edit in edits]}
    rows[f"teacher, {TEACHER_STEPS} steps"] = make_edits(teacher, edits, num_inference_steps=TEACHER_STEPS)
    for n in FEW:
        rows[f"distilled, {n} step{'s' * (n > 1)}"] = make_edits(few, edits, num_inference_steps=n)
    return sheet([edit.edit_prompt for edit in edits], rows)


def timed(work: Callable[[], object]) -> float:
    """The seconds that something takes."""
    since = time.perf_counter()
    work()
    return time.perf_counter() - since


def speeds(few: Any, stock: Any, count: int, rounds: int, compiled: bool = False) -> tuple[str, float]:
    """By how much few steps are faster than the stock pipeline at its defaults, `count` edits at once: the figures, and
    that at most steps."""
    told = "_compiled" if compiled else f"_{count}_at_once"
    edits = trial_edits("recolor", count)
    instructions, pictures = [edit.edit_prompt for edit in edits], [Image.fromarray(render(e.source)) for e in edits]
    theirs = partial(stock, instructions, pictures, generator=torch.Generator().manual_seed(0))
    at_stock = samples_of(stock, theirs) // count
    edit = {n: partial(few, instructions, pictures, num_inference_steps=n) for n in FEW}
    samples = {n: samples_of(few, ours) // count for n, ours in edit.items()}
    if compiled:
        few.unet.compile()
    ratios = []
    for n, ours in edit.items():
        ours()  # what the first takes longer is not counted
        seconds, stock_seconds = in_turn(partial(timed, ours), partial(timed, theirs), rounds)
        ratios.append(statistics.median(1 / ratio for ratio in round_ratios(seconds, stock_seconds)))
        print(
            f"{count} at once{', compiled' * compiled}, {n} steps: {samples[n]} samples through the U-Net and "
            f"{statistics.median(seconds) / count:.3f} s an edit; stock {at_stock} and "
            f"{statistics.median(stock_seconds) / count:.3f} s: {ratios[-1]:.1f} times",
            flush=True,
        )
    evaluations, times = "/".join(map(str, samples.values())), "/".join(f"{ratio:.1f}" for ratio in ratios)
    return f" evaluations={at_stock}->{evaluations} faster{told}={times}", ratios[0]


def samples_of(pipe: Any, work: Callable[[], object]) -> int:
    """How many samples go through a pipeline's U-Net."""
    counts: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    work()
    handle.remove()
    return sum(counts)


def main() -> None:
    """Print accuracies, dials and costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distilled", default=SHAPES_FEW_MODEL, help="folder of the editor that is to need few steps")
    parser.add_argument("--guided", help="folder of the editor with guidance distilled, before it learnt few steps")
    parser.add_argument("--teacher", default=SHAPES_MODEL, help="folder of the teacher")
    parser.add_argument("--each", type=int, default=32, help="edits of each kind")
    parser.add_argument("--rounds", type=int, default=8, help="of timing, two edits by each pipeline")
    parser.add_argument("--compile", action="store_true", help="time an edit alone with a compiled U-Net, too")
    parser.add_argument("--quick", action="store_true", help="2 edits of each kind, 1 round")
    parser.add_argument("--sheet", help="write an edit of each kind, by teacher and distilled, to this picture")
    arguments = parser.parse_args()
    each, rounds = (2, 1) if arguments.quick else (arguments.each, arguments.rounds)

    teacher, few = opened(arguments.teacher), opened(arguments.distilled)
    if arguments.sheet:
        side_by_side(teacher, few).save(arguments.sheet)
    models = {"teacher": teacher, "distilled": few}
    if arguments.guided:
        models["guided"] = opened(arguments.guided)
    right = accuracies(models, each)

    print()
    judge = ClipJudge(ClipScorer("shapes", None))
    steer = {name: dials(name, pipe, each, judge) for name, pipe in models.items() if name != "teacher"}

    stock = StableDiffusionInstructPix2PixPipeline.from_pipe(teacher)
    stock.set_progress_bar_config(disable=True)
    batches = BATCHES[:1] if arguments.quick else BATCHES
    faster = [speeds(few, stock, count, max(min(rounds, 4), rounds // count)) for count in batches]
    alone = [faster[0][1]]
    if arguments.compile:
        faster.append(speeds(few, stock, 1, rounds, compiled=True))
        alone.append(faster[-1][1])
    print(
        f"edits={each * len(KINDS)} "
        + " ".join(f"{name}={share:.3f}" for name, share in right.items())
        + "".join(f" steers_{name}={value}" for name, value in steer.items())
        + "".join(told for told, _ in faster)
    )
    near = all(right[f"teacher@{TEACHER_STEPS}"] - right[f"distilled@{n}"] <= points for n, points in NEAR.items())
    sys.exit(0 if arguments.quick or (near and steer["distilled"] and max(alone) >= FASTER) else 1)


if __name__ == "__main__":
    main()

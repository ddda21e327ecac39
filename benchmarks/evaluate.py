"""The evaluation: how long it takes, that a stopped one gives the same report, and Text2LIVE on the shapes world.

    python benchmarks/evaluate.py [--quick] [--only PART …] [--samples N] [--recolors N] [--iterations N]

`minutes`: N samples at 8 settings of the shapes editor, edited and scored in two processes of one thread; `cpu_minutes`
is the processor time of both together, starting and importing included. `for_1000`: the minutes that 1,000 samples take
on two cores of their own, by that processor time: what a start with nothing to do takes, and the rest by samples.
`same_report`: 1 where an evaluation that was killed at random moments and started again ends with the same report.html,
report.json and report.csv, to the byte, as one that was not; `kills` is how often it was killed.
`text2live_right`: the share of recolours that the oracle finds right, of pictures left as they are 0 (`no_edit_right`);
`loss_fell` is by how much Text2LIVE's loss fell, of what it was at first. The last line has the figures.

The exit status is 1 where a report differs or none was cut, where 1,000 samples take over 20 minutes, and where
Text2LIVE does no better than nothing; with `--quick` for the reports alone.

    python benchmarks/evaluate.py --right-pictures 128

scores nothing but the right pictures of the shapes world's first edits: as they are, and with every object pushed by
two pixels both across and down, which no caption tells.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ip2p.training.evaluate.clip_scores import ClipJudge
from ip2p.training.evaluate.metrics import Metrics
from ip2p.training.evaluate.plan import PLAIN
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sources import shapes_samples
from ip2p.training.evaluate.text2live import Text2LIVE, as_tensor
from ip2p.training.evaluate.text2live_losses import LayerLoss
from ip2p.training.pairs.clip_filter import ClipScorer
from ip2p.training.shapes.oracle import shows
from ip2p.training.shapes.render import render
from ip2p.training.shapes.scenes import Scene
from PIL import Image

PARTS = ("speed", "text2live")
LONGEST = 20  # minutes, of 1,000 samples
SETTINGS = ["0.8", "1", "1.2", "1.4", "1.6", "1.8", "2", "2.2"]


def start(report: Path, samples: int, *flags: str) -> subprocess.Popen[bytes]:
    """An evaluation of the shapes editor in two processes."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ip2p.cli",
            "evaluate", "--recipe", "shapes", "--methods", "ip2p", "--num-samples", str(samples),
            "--image-guidance-scales", *SETTINGS, "--report", str(report), *flags,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def measured(folder: Path, samples: int, *flags: str) -> tuple[float, float]:
    """How long an evaluation takes: minutes by the clock, and of processor time."""
    began, used = time.monotonic(), os.times()
    if start(folder / "whole", samples, *flags).wait():
        raise RuntimeError("the evaluation failed")
    now = os.times()
    spent = now.children_user + now.children_system - used.children_user - used.children_system
    return (time.monotonic() - began) / 60, spent / 60


def same_report(folder: Path, samples: int, most: int) -> tuple[bool, int]:
    """Whether an evaluation that is killed, `most` times at most, ends with the report of one that was not, and how
    often it was."""
    flags = ("--steps", "4")
    began = time.monotonic()
    start(folder / "alone", samples, *flags).wait()
    took = time.monotonic() - began
    kills = killed(folder / "cut", samples, flags, took, most)
    start(folder / "cut", samples, *flags).wait()
    files = ("report.html", "report.json", "report.csv")
    same = all((folder / "alone" / name).read_bytes() == (folder / "cut" / name).read_bytes() for name in files)
    return same, kills


def killed(report: Path, samples: int, flags: tuple[str, ...], took: float, most: int) -> int:
    """How often an evaluation was killed. One that ends before any kill begins anew, and is given less time."""
    rng, kills = random.Random(0), 0
    while kills < most and took > 0.1:
        process = start(report, samples, *flags)
        try:
            process.wait(rng.uniform(0.3, 0.9) * took)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        if kills:
            break
        shutil.rmtree(report, ignore_errors=True)
        took /= 2
    return kills


def text2live(count: int, steps: int) -> tuple[float, float, float]:
    """The shares of recolours that come out right, and that are without any edit, and how much the loss falls."""
    recolors = [sample for sample in shapes_samples(8 * count) if sample.kind == "recolor"]
    method = Text2LIVE("shapes", None, PLAIN)
    results = [one(method, sample, steps) for sample in recolors]
    left = [sample.edit is not None and shows(np.array(sample.picture()), sample.edit.target) for sample in recolors]
    return (
        float(np.mean([right for right, _ in results])),
        float(np.mean(left)),
        float(np.mean([f for _, f in results])),
    )


def one(method: Text2LIVE, sample: Sample, steps: int) -> tuple[bool, float]:
    """Whether an edit is right, and how much its loss falls."""
    assert sample.edit is not None
    loss = LayerLoss(method.clip(), sample.original_prompt, sample.edited_prompt, method.weights)
    made, history = method.train(as_tensor(sample.picture()), loss, steps, seed=0)
    picture = (made[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    losses = [row["loss"] for row in history]
    tenth = max(1, len(losses) // 10)
    right = shows(picture, sample.edit.target)
    print(f"Text2LIVE: {sample.edit_prompt}: {'right' if right else 'wrong'}", flush=True)
    return right, 1 - float(np.mean(losses[-tenth:]) / np.mean(losses[:tenth]))


def right_pictures(count: int) -> str:
    """The scores of right pictures, and of these with every object elsewhere in its quarter."""
    of = [(sample, sample.edit) for sample in shapes_samples(count) if sample.edit is not None]
    samples, before = [sample for sample, _ in of], [sample.picture() for sample, _ in of]
    metrics = Metrics(clip=ClipJudge(ClipScorer("shapes", None)))
    told = []
    for name, by in (("right", 0), ("pushed", 2)):
        after = [Image.fromarray(render(pushed(edit.target, by, random.Random(n)))) for n, (_, edit) in enumerate(of)]
        rows = metrics.score(samples, before, after, [None] * len(samples))
        for score in ("directional_similarity", "image_similarity", "kept"):
            told.append(f"{name}_{score}={np.mean([row[score] for row in rows]):.4f}")
    return " ".join(told)


def pushed(scene: Scene, by: float, rng: random.Random) -> Scene:
    """A scene with every object moved so far across and down, this way or that, as far as its quarter allows."""

    def moved(offset: float) -> float:
        return min(3.0, max(-3.0, offset + rng.choice((-by, by))))

    return replace(scene, things=tuple(replace(each, dx=moved(each.dx), dy=moved(each.dy)) for each in scene.things))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 samples, one kill, one short Text2LIVE")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--recolors", type=int, default=16, help="pictures that Text2LIVE edits")
    parser.add_argument("--iterations", type=int, default=200, help="of Text2LIVE")
    parser.add_argument("--right-pictures", type=int, metavar="N", help="only score the right pictures of N edits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.right_pictures:
        print(right_pictures(arguments.right_pictures))
        return
    told, proved = [], True
    if "speed" in arguments.only:
        with TemporaryDirectory() as aside:
            folder = Path(aside)
            samples, flags = (4, ("--steps", "4")) if arguments.quick else (arguments.samples, ())
            took, used = measured(folder, samples, *flags)
            # Where all is done, what is left is starting, importing and reporting.
            fixed = 0.0 if arguments.quick else measured(folder, samples, *flags)[1]
            same, kills = same_report(folder, 4 if arguments.quick else 48, 1 if arguments.quick else 4)
        told.append(f"samples={samples} minutes={took:.1f} cpu_minutes={used:.1f}")
        proved = same and kills > 0
        if not arguments.quick:
            for_1000 = (fixed + (used - fixed) * 1000 / samples) / 2
            told.append(f"for_1000={for_1000:.1f}")
            proved &= for_1000 <= LONGEST
        told.append(f"same_report={int(same)} kills={kills}")
    if "text2live" in arguments.only:
        count, iterations = (1, 20) if arguments.quick else (arguments.recolors, arguments.iterations)
        right, left, fell = text2live(count, iterations)
        told.append(f"text2live_right={right:.3f} no_edit_right={left:.3f} loss_fell={fell:.3f}")
        proved &= arguments.quick or (right > left and fell > 0)
    print(" ".join(told))
    sys.exit(0 if proved else 1)


if __name__ == "__main__":
    main()

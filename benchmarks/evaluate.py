"""The evaluation: how long it takes, that a stopped one gives the same report, and Text2LIVE on the shapes world.

    python benchmarks/evaluate.py [--quick] [--samples N]

`minutes`: 1,000 samples at 8 settings of the shapes editor, edited and scored in two processes of one thread.
`same_report`: 1 where one that was killed at random moments and started again ends with the same report.
`text2live_right`: the share of recolours that the oracle finds right, of pictures left as they are 0; `loss_fell` is by
how much its loss fell, of what it was at first. The last line has the figures.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ip2p.training.evaluate.run import PLAIN
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sources import shapes_samples
from ip2p.training.evaluate.text2live import Text2LIVE, as_tensor
from ip2p.training.evaluate.text2live_losses import LayerLoss
from ip2p.training.shapes.oracle import shows

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


def minutes(folder: Path, samples: int) -> float:
    """How long an evaluation takes."""
    began = time.monotonic()
    if start(folder / "whole", samples).wait():
        raise RuntimeError("the evaluation failed")
    return (time.monotonic() - began) / 60


def same_report(folder: Path, samples: int, kills: int) -> bool:
    """Whether killed evaluations end with the report of one that was not."""
    flags = ("--steps", "4")
    began = time.monotonic()
    start(folder / "alone", samples, *flags).wait()
    took = time.monotonic() - began
    rng, done = random.Random(0), 0
    while done < kills:
        process = start(folder / "cut", samples, *flags)
        try:
            process.wait(rng.uniform(0.3, 0.9) * took)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
    start(folder / "cut", samples, *flags).wait()
    one, other = (json.loads((folder / name / "report.json").read_text())["points"] for name in ("alone", "cut"))
    return one == other


def text2live(samples: int, steps: int) -> tuple[float, float]:
    """The share of recolours that come out right, and how much the loss falls."""
    recolors = [sample for sample in shapes_samples(8 * samples) if sample.kind == "recolor"]
    method = Text2LIVE("shapes", None, PLAIN)
    results = [one(method, sample, steps) for sample in recolors]
    return float(np.mean([right for right, _ in results])), float(np.mean([fell for _, fell in results]))


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


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 samples, one kill, one short Text2LIVE")
    parser.add_argument("--samples", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as aside:
        folder = Path(aside)
        took = minutes(folder, 8 if arguments.quick else arguments.samples)
        same = same_report(folder, 8 if arguments.quick else 64, 1 if arguments.quick else 5)
    right, fell = text2live(1 if arguments.quick else 16, 20 if arguments.quick else 300)
    print(f"minutes={took:.1f} same_report={int(same)} text2live_right={right:.3f} loss_fell={fell:.3f}")


if __name__ == "__main__":
    main()

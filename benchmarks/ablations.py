"""The paper's Fig. 10 in the shapes world, with Fig. 8 beside it: editors that learnt from all pairs, from 10% and from
1% of them, and from pairs that nothing was filtered out of, each trained several times.

    python benchmarks/ablations.py --pairs pairs/ --unfiltered unfiltered/ --folder ablations/
    python benchmarks/ablations.py --quick

The pairs are of `ip2p dataset pairs`; those without the filter are the same candidates, all kept:

    ip2p dataset pairs TRIPLETS [as before] --refilter pairs/ --min-caption-similarity -1 --min-image-similarity -1 \
        --min-directional-similarity -1 -o unfiltered/

Trainings are `ip2p train --recipe shapes`, and `ip2p evaluate --recipe shapes` compares them with each other and with
SDEdit: the report is in FOLDER/report. What is done is there, so a run that was stopped goes on. With `--gpu` all
trainings run at once on a GPU, each of fewer and larger batches, and so does the evaluation. `--quick` makes a few
pairs and trains a few steps on them: it shows that all of it works, and no more.

The last line has, of each, the share of edits that the oracle finds right at its best s_I, and by how much a curve is
above another at least and at most where both reach the same: `clip`, the image similarity at the same directional
similarity; `oracle`, the share of what has to stay that stayed, at the same share of right edits.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ip2p.cli import main as ip2p

ARMS = {"100%": 1.0, "10%": 0.1, "1%": 0.01, "no filter": 1.0}
AXES = {"clip": "directional_similarity", "oracle": "right"}
QUICK_TRAINING = ["--steps", "4", "--batch-size", "4", "--warmup", "1", "--oracle-edits", "0", "--held-out", "1"]
GPU_TRAINING = ["--no-cpu", "--batch-size", "128", "--learning-rate", "4e-3", "--cache-variants", "1"]
GPU_PROCESSES = 12  # that evaluate
ALONE = {"OMP_NUM_THREADS": "1"}
SWEEP = ["--image-guidance-scales", "1", "1.4", "1.8", "2.2", "3", "4"]
QUICK_SWEEP = ["--steps", "2", "--image-guidance-scales", "1", "2", "--strengths", "0.5", "1"]


def run(*arguments: object) -> None:
    """A command of `ip2p`, in this process."""
    told = [str(each) for each in arguments]
    if ip2p(told):
        raise SystemExit(f"ip2p {' '.join(told)} failed")


def together(commands: list[list[object]]) -> None:
    """Commands of `ip2p`, all at once, each a process with a log of its own beside its output."""
    processes = []
    for command in commands:
        log = Path(str(command[-1])).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as file:
            told = [sys.executable, *map(str, command)]
            processes.append((subprocess.Popen(told, stdout=file, stderr=file, env=os.environ | ALONE), log))
    failed = [str(log) for process, log in processes if process.wait()]
    if failed:
        raise SystemExit(f"failed, as these tell: {', '.join(failed)}")


def make_pairs(folder: Path) -> tuple[Path, Path]:
    """A few pairs, filtered and not."""
    triplets, pairs, unfiltered = (folder / name for name in ("triplets", "pairs", "unfiltered"))
    run("dataset", "instructions", "--backend", "shapes", "--num-captions", 16, "-o", triplets)
    drawn = ("dataset", "pairs", triplets, "--model", "shapes", "--clip-model", "shapes", "--steps", 4, "--seeds", 2,
             "--guidance", 1.5, 3, "--image-format", "png")  # fmt: skip
    # Of four steps nothing comes that a filter should keep.
    run(*drawn, "--min-caption-similarity", 0, "--min-image-similarity", 0.5, "--min-directional-similarity", -1,
        "-o", pairs)  # fmt: skip
    run(*drawn, "--refilter", pairs, "--min-caption-similarity", -1, "--min-image-similarity", -1,
        "--min-directional-similarity", -1, "-o", unfiltered)  # fmt: skip
    return pairs, unfiltered


def figures(report: dict[str, Any]) -> str:
    """What the last line says."""
    told = []
    for arm in ARMS:
        of_arm = [point["scores"]["right"] for point in report["points"] if point["method"] == arm]
        right = max(of_arm, key=lambda each: each["mean"])
        told.append(f"right[{arm}]={right['mean']:.3f} ({right['low']:.3f} to {right['high']:.3f})")
    gains = {(each["first"], each["second"], each["x"]): each["gain"] for each in report["comparisons"]}
    for one, other in [*pairwise(["100%", "10%", "1%"]), ("100%", "no filter"), ("100%", "SDEdit")]:
        for name, x in AXES.items():
            gain = gains[one, other, x]
            between = f"{min(gain):+.4f} to {max(gain):+.4f}" if gain else "none shared"
            told.append(f"{name}[{one} over {other}]={between}")
    return "  ".join(told)


def main() -> None:
    """Train, evaluate, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="folder of pairs")
    parser.add_argument("--unfiltered", type=Path, help="folder of the same candidates, all kept")
    parser.add_argument("--folder", type=Path, default=Path("ablations"), help="where trainings and the report go")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--steps", type=int, help="of each training; 6,000 of 32 pairs, or with --gpu 1,500 of 128")
    parser.add_argument("--gpu", action="store_true", help="all trainings at once on a GPU, of batches of 128")
    parser.add_argument("--samples", type=int, default=256, help="edits that each is evaluated on")
    parser.add_argument("--quick", action="store_true", help="a few pairs, made here, and one training of a few steps")
    arguments = parser.parse_args()
    with TemporaryDirectory() as aside:
        folder, pairs, unfiltered = arguments.folder, arguments.pairs, arguments.unfiltered
        seeds, samples = (1, 4) if arguments.quick else (arguments.seeds, arguments.samples)
        steps = arguments.steps or (1_500 if arguments.gpu else 6_000)
        training, sweep = (QUICK_TRAINING, QUICK_SWEEP) if arguments.quick else (["--steps", steps], SWEEP)
        if arguments.gpu:
            training, sweep = [*GPU_TRAINING, *training], [*sweep, "--device", "cuda"]
        if arguments.quick:
            folder = Path(aside)
            pairs, unfiltered = make_pairs(folder)
        elif not (pairs and unfiltered):
            parser.error("give --pairs and --unfiltered, or --quick")
        models, trainings = [], []
        for seed in range(seeds):
            for arm, share in ARMS.items():
                output = folder / f"{arm.replace('%', '-percent').replace(' ', '-')}-{seed}"
                data = unfiltered if arm == "no filter" else pairs
                given = ("--data", data, "--share", share, "--seed", seed, *training)
                trainings.append(
                    ["train", "--recipe", "shapes", "--validate-every", 0, "--tracker", "none", *given, "-o", output]
                )
                models.append(f"{arm}={output / 'pipeline'}")
        evaluation = ["evaluate", "--recipe", "shapes", "--model", *models, "--num-samples", samples, *sweep,
                      "--report", folder / "report"]  # fmt: skip
        if arguments.gpu:
            together([["-m", "ip2p.cli", *each] for each in trainings])
            workers = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", GPU_PROCESSES]
            together([[*workers, "-m", "ip2p.cli", *evaluation]])
        else:
            for each in [*trainings, evaluation]:
                run(*each)
        print(figures(json.loads((folder / "report" / "report.json").read_text())))


if __name__ == "__main__":
    main()

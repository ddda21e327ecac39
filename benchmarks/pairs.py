"""The image stage against the original's scheme: cost, wall time, memory, workers, kills.

    python benchmarks/pairs.py [--quick]

The parts can be had alone: benchmarks/pairs_cost.py (the curve, in runs/pairs_cost) and benchmarks/pairs_runs.py. Here
besides: the wall time of whole triplets, drawn, decoded, scored and filtered, by the division that the curve chooses
and by the original's 100 seeds with one p each: ours, original, original, ours. The ratios are of the cost of a kept
pair. The last line has the figures.
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pairs_cost
import pairs_runs
import torch
from ip2p.training.pairs.maker import PairMaker
from pairs_cost import DIVISIONS, QUICK, Division, triplet_of


def seconds(maker: PairMaker, index: int) -> float:
    """How long a triplet takes."""
    began = time.perf_counter()
    maker.make(index, triplet_of(index))
    return time.perf_counter() - began


def wall(division: Division, original_division: Division, triplets: int) -> float:
    """The original scheme's wall time, in ours: the median over triplets."""
    torch.set_num_threads(1)
    ours, original = (PairMaker(pairs_cost.settings(each)) for each in (division, original_division))
    for each in (ours, original):
        each.make(0, triplet_of(0))  # loads the models
    ratios = []
    for index in range(triplets):
        turns = [seconds(each, index) for each in (ours, original, original, ours)]
        ratios.append((turns[1] + turns[2]) / (turns[0] + turns[3]))
        print(f"wall: original {turns[1] + turns[2]:.1f} s, ours {turns[0] + turns[3]:.1f} s, of two each", flush=True)
    return float(np.median(ratios))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one triplet, one kill, nothing of Ray")
    parser.add_argument("--folder", type=Path, default=Path("runs/pairs_cost"))
    arguments = parser.parse_args()
    with TemporaryDirectory() as aside:
        folder = Path(aside)
        count, divisions = (1, QUICK) if arguments.quick else (48, DIVISIONS)
        drawn = folder / "cost" if arguments.quick else arguments.folder
        figures, best = pairs_cost.run(count, divisions, drawn, os.cpu_count() or 1)
        ratio = wall(best, divisions[0], 1 if arguments.quick else 5)
        runs = pairs_runs.run(folder, arguments.quick)
    original, ours = figures[divisions[0]], figures[best]
    print(
        f"seeds={best[0]} per_seed={best[1]} kept={ours['kept']:.2f} original_kept={original['kept']:.2f} "
        f"evaluations_ratio={ours['ratio']:.2f} evaluations_ratio_100_steps={ours['ratio_100']:.2f} "
        f"wall_ratio={ratio * ours['kept'] / original['kept']:.2f} "
        + " ".join(f"{name}={value:g}" for name, value in runs.items())
    )


if __name__ == "__main__":
    main()

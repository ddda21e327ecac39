"""The plan and the bill of a whole dataset: GPU-hours, storage, and what failures cost.

    python benchmarks/bill.py [--triplets 454445] [--seeds 12 --per-seed 4] [--gpus 64] [--price 1.5]

U-Net evaluations are counted on the candidates that 200 triplets would be given, by the same code that draws them. How
fast a GPU evaluates is a flag; its default follows from the paper's 9 seconds for an edit of 100 steps at 512×512 on an
A100, three samples a step. The last line has the figures.
"""

import argparse

from ip2p.training.pairs.candidates import DrawSettings, PairTriplet, draw_groups
from ip2p.training.pairs.render_settings import RenderSettings
from ip2p.training.pairs.trajectories import branches, count_evaluations

COUNTED = 200
ORIGINAL = DrawSettings(seeds=100, per_seed=1)


def per_triplet(draw: DrawSettings, settings: RenderSettings) -> tuple[float, float]:
    """U-Net evaluations, and pictures to decode, of a triplet."""
    evaluations, pictures = 0, 0
    for index in range(COUNTED):
        groups = draw_groups(PairTriplet(f"caption {index}", "edit", "edited"), draw)
        evaluations += count_evaluations(groups, settings)
        # The original decodes the source of every candidate anew.
        pictures += sum(1 + len(branches(group, settings).ends) for group in groups)
    return evaluations / COUNTED, pictures / COUNTED


def main() -> None:
    """Print the bill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets", type=int, default=454_445)
    parser.add_argument("--seeds", type=int, default=DrawSettings().seeds)
    parser.add_argument("--per-seed", type=int, default=DrawSettings().per_seed)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100 * 3 / 9, help="U-Net samples a second of a GPU")
    parser.add_argument("--pictures-rate", type=float, default=20.0, help="pictures a GPU decodes and scores a second")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--price", type=float, default=1.5, help="of a GPU-hour")
    parser.add_argument("--kept", type=float, default=2.8, help="pairs kept a triplet")
    parser.add_argument("--picture-kb", type=float, default=110.0, help="size of a picture")
    parser.add_argument("--preempted-every", type=float, default=6.0, help="hours between the losses of a worker")
    arguments = parser.parse_args()
    settings = RenderSettings(steps=arguments.steps)
    ours = DrawSettings(seeds=arguments.seeds, per_seed=arguments.per_seed)
    hours = {}
    for name, draw in (("original", ORIGINAL), ("ours", ours)):
        evaluations, pictures = per_triplet(draw, settings)
        seconds = evaluations / arguments.rate + pictures / arguments.pictures_rate
        hours[name] = arguments.triplets * seconds / 3600
        # A worker that is lost takes with it half of a triplet that it makes, and one that waits for nothing.
        lost = seconds / 2 / (arguments.preempted_every * 3600)
        print(
            f"{name}: {draw.seeds} seeds × {draw.per_seed} p, {evaluations:,.0f} evaluations and {pictures:,.0f} "
            f"pictures a triplet, {seconds / 60:.1f} minutes; {arguments.triplets * evaluations:.2e} evaluations, "
            f"{hours[name]:,.0f} GPU-hours, {hours[name] * arguments.price:,.0f} at {arguments.price} an hour, "
            f"{hours[name] / arguments.gpus / 24:,.0f} days on {arguments.gpus} GPUs, {lost:.1%} made again"
        )
    pictures = arguments.triplets * arguments.kept * 2
    candidates = arguments.triplets * ours.seeds * ours.per_seed
    print(
        f"storage: {pictures:,.0f} pictures {pictures * arguments.picture_kb / 1e6:,.0f} GB, scores of {candidates:,} "
        f"candidates {candidates * 40 / 1e9:,.1f} GB"
    )
    print(
        f"gpu_hours_original={hours['original']:.0f} gpu_hours={hours['ours']:.0f} "
        f"ratio={hours['original'] / hours['ours']:.2f}"
    )


if __name__ == "__main__":
    main()

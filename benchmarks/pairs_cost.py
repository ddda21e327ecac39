"""What pairs cost by how the candidates of a triplet are divided into seeds and values of p.

    python benchmarks/pairs_cost.py [--quick] [--folder runs/pairs_cost]

For triplets of the shapes world, 100 seeds with every distinct target (10 steps know 9) are drawn, scored and judged
once. Every division of candidates is a choice among these, so all are compared on the same pictures: pairs that the
filter keeps a triplet, how many of them the oracle calls right, how unlike each other they are by CLIP (1 − cosine of
edited pictures, and of original ones), U-Net evaluations, and how many times fewer of them a pair takes than in the
original's division, 100 seeds with one p each, at these 10 steps and at the original's 100. The last line has the
division that keeps most pairs a triplet among those with several p whose pairs cost at most a third of the original's
and are no less unlike each other.
"""

import argparse
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ip2p.training.pairs.candidates import DrawSettings, PairTriplet, Scores, SeedGroup, draw_groups
from ip2p.training.pairs.clip_filter import direction_similarity, verdicts
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.pairs.trajectories import branches, count_evaluations
from ip2p.training.shapes.triplets import judge, open_triplet
from shapes_pairs import DRAWING
from tqdm import tqdm

Division = tuple[int, int]  # seeds, and candidates of each
# The original's first; a hundred in all, then fewer.
HUNDRED: tuple[Division, ...] = ((100, 1), (50, 2), (25, 4), (20, 5), (12, 8), (10, 10), (8, 12), (5, 20))
FEWER: tuple[Division, ...] = ((64, 1), (32, 1), (24, 1), (16, 1), (20, 4), (16, 4), (12, 4), (12, 6), (10, 6), (8, 6))
DIVISIONS = HUNDRED + FEWER
QUICK: tuple[Division, ...] = ((8, 1), (4, 2), (2, 4))
CHOICES = 20  # choices of seeds and ps among those drawn, that each figure is the mean of


def settings(division: Division = DIVISIONS[0]) -> MakerSettings:
    """How the candidates are drawn."""
    return MakerSettings(**DRAWING, seeds=division[0], per_seed=division[1])


@cache
def maker() -> PairMaker:
    """The models, loaded once a process."""
    torch.set_num_threads(1)
    return PairMaker(settings())


def triplet_of(index: int) -> PairTriplet:
    """The texts of a triplet of the shapes world."""
    told = open_triplet(index)
    return PairTriplet(told.edit.original_prompt, told.edit.edit_prompt, told.edit.edited_prompt, told.edit.kind)


def every_end(group: SeedGroup) -> SeedGroup:
    """The group with a p for every distinct target."""
    last = settings().steps - 1
    return replace(group, ps=tuple((end - 0.5) / last for end in range(1, last + 1)))


def draw(index: int, seeds: int) -> dict[str, np.ndarray]:
    """All candidates of a triplet, of so many seeds.

    scores [seeds, ends, 4], right [seeds, ends], and CLIP's features of the pictures: edited [seeds, ends, d] and
    original [seeds, d].
    """
    triplet, scorer = triplet_of(index), maker().scorer
    groups = [every_end(group) for group in draw_groups(triplet, settings((seeds, 1)))]
    original_text, edited_text = scorer.encode_texts([triplet.original_prompt, triplet.edited_prompt])
    scores, right, edited, original = [], [], [], []
    for at in range(0, seeds, 10):
        rendered = maker().renderer.render(triplet.original_prompt, triplet.edited_prompt, groups[at : at + 10])
        for group in rendered:
            source, *targets = scorer.encode_pictures([group.source, *group.targets])
            after = torch.stack(targets)
            direction = direction_similarity(after - source, edited_text - original_text)
            columns = ((source @ original_text).expand(len(after)), after @ edited_text, after @ source, direction)
            scores.append(torch.stack(columns, dim=1).numpy())
            right.append([judge(open_triplet(index), group.source, target).right for target in group.targets])
            edited.append(after.half().numpy())
            original.append(source.half().numpy())
    return {
        "scores": np.array(scores),
        "right": np.array(right),
        "edited": np.array(edited),
        "original": np.array(original),
    }


def drawn(task: tuple[int, int, Path]) -> dict[str, np.ndarray]:
    """The candidates of a triplet, from the folder where it has them."""
    index, seeds, folder = task
    path = folder / f"{index:04d}.npz"
    if not path.exists():
        aside = path.with_suffix(".partial")
        with aside.open("wb") as file:
            np.savez(file, **draw(index, seeds))  # type: ignore[arg-type]
        aside.replace(path)
    with np.load(path) as file:
        return dict(file)


def all_drawn(count: int, seeds: int, folder: Path, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """The candidates of the first triplets."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [(index, seeds, folder) for index in range(count)]
    with ProcessPoolExecutor(workers) as pool:
        yield from tqdm(pool.map(drawn, tasks), total=count, unit="triplet")


def unlikeness(features: np.ndarray) -> float:
    """Mean of 1 − cosine over all pairs of unit features [N, d]; NaN where there are not two."""
    if len(features) < 2:
        return float("nan")
    similarity = features.astype(np.float64) @ features.astype(np.float64).T
    return float(1 - similarity[np.triu_indices(len(features), 1)].mean())


def measure(candidates: list[dict[str, np.ndarray]], division: Division) -> dict[str, float]:
    """The figures of a division: what it keeps a triplet, and what it costs."""
    seeds, per_seed = division
    kept, right, apart, sources_apart, cost, cost_100 = [], [], [], [], [], []
    for number, table in enumerate(candidates):
        for choice in range(CHOICES):
            rng = random.Random(f"{number}/{choice}")
            chosen = rng.sample(range(len(table["right"])), seeds)
            groups = draw_groups(triplet_of(number), DrawSettings(seeds=seeds, per_seed=per_seed, seed=choice))
            # Which of the targets drawn each p gives, once for each that is distinct.
            ends = [sorted(set(branches(group, settings()).ends)) for group in groups]
            places = [(seed, end - 1) for seed, found in zip(chosen, ends, strict=True) for end in found]
            scores = [Scores(*table["scores"][place]) for place in places]
            words = verdicts(scores, [seed for seed, _ in places], settings())
            best = [place for place, word in zip(places, words, strict=True) if word == "kept"]
            kept.append(len(best))
            right += [bool(table["right"][place]) for place in best]
            apart.append(unlikeness(np.array([table["edited"][place] for place in best])))
            sources_apart.append(unlikeness(np.array([table["original"][seed] for seed, _ in best])))
            cost.append(count_evaluations(groups, settings()))
            cost_100.append(count_evaluations(groups, replace(settings(), steps=100)))
    return {
        "kept": float(np.mean(kept)),
        "right": float(np.mean(right)) if right else float("nan"),
        "apart": float(np.nanmean(apart)) if not np.isnan(apart).all() else float("nan"),
        "sources_apart": float(np.nanmean(sources_apart)) if not np.isnan(sources_apart).all() else float("nan"),
        "cost": float(np.mean(cost)),
        "cost_100": float(np.mean(cost_100)),
    }


def best_division(figures: dict[Division, dict[str, float]]) -> Division:
    """The division that keeps most, of those with several p that are cheap enough; the cheapest where none is.

    Cheap enough: a pair costs at most a third of what it does in the first division, the original's, at 10 steps and at
    100, and pairs are as unlike each other.
    """
    original = next(iter(figures.values()))
    several = {division: told for division, told in figures.items() if division[1] > 1}
    cheap = [
        division
        for division, told in several.items()
        if told["ratio"] >= 3 and told["ratio_100"] >= 3 and told["apart"] >= original["apart"]
    ]
    if cheap:
        return max(cheap, key=lambda division: figures[division]["kept"])
    return max(several, key=lambda division: figures[division]["ratio"])


def run(
    count: int, divisions: tuple[Division, ...], folder: Path, workers: int
) -> tuple[dict[Division, dict[str, float]], Division]:
    """Draw what the folder lacks, print the curve, and give it with the cheapest division."""
    candidates = list(all_drawn(count, divisions[0][0], folder, workers))
    figures = {division: measure(candidates, division) for division in divisions}
    original = figures[divisions[0]]
    for told in figures.values():
        for name, cost in (("ratio", "cost"), ("ratio_100", "cost_100")):
            told[name] = (original[cost] / original["kept"]) / (told[cost] / told["kept"]) if told["kept"] else 0.0
    print(
        f"{'seeds × p':>10} {'kept':>6} {'right':>6} {'apart':>6} {'sources':>8} {'evaluations':>12} "
        f"{'a pair':>6} {'at 100':>7}"
    )
    for division, told in figures.items():
        print(
            f"{division[0]:>6} × {division[1]:<2}{told['kept']:>6.2f} {told['right']:>6.1%} {told['apart']:>6.3f} "
            f"{told['sources_apart']:>8.3f} {told['cost']:>12,.0f} {told['ratio']:>6.2f} {told['ratio_100']:>7.2f}"
        )
    return figures, best_division(figures)


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triplets", type=int, default=48)
    parser.add_argument("--quick", action="store_true", help="1 triplet, in a folder of its own")
    parser.add_argument("--folder", type=Path, default=Path("runs/pairs_cost"))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with TemporaryDirectory() as aside:
        folder = Path(aside) if arguments.quick else arguments.folder
        count, divisions = (1, QUICK) if arguments.quick else (arguments.triplets, DIVISIONS)
        figures, best = run(count, divisions, folder, arguments.workers)
    original, ours = figures[divisions[0]], figures[best]
    print(
        f"seeds={best[0]} per_seed={best[1]} kept={ours['kept']:.2f} original_kept={original['kept']:.2f} "
        f"evaluations_ratio={ours['ratio']:.2f} evaluations_ratio_100_steps={ours['ratio_100']:.2f}"
    )


if __name__ == "__main__":
    main()

"""Rows of scores as tables and curves: means with their intervals, of each method at each position of its dials."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .intervals import Interval, mean_interval
from .metrics import HIGHER_IS_BETTER, base_name
from .samples import Sample
from .store import Store, Task


@dataclass
class Point:
    """A method at a position of its dials, over all samples, its seeds and its trainings.

    keys:    under which each run's pictures and scores are kept; a run is a training with a seed
    scores:  by name: values [runs, samples]
    made_by: what each run's method is, by content
    """

    method: str
    dial: str
    setting: dict[str, float]
    keys: list[str]
    scores: dict[str, np.ndarray]
    means: dict[str, Interval] = field(default_factory=dict)
    made_by: list[dict[str, Any]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The dials in words."""
        return in_words(self.setting)


SHORT = {"image_guidance_scale": "s_I", "guidance_scale": "s_T"}
DECISIVE = ("right", "directional_similarity", "image_similarity_to_wanted", "ssim_to_wanted", "image_similarity")
"""Scores that say which of a method's settings and edits are good, the most telling first."""
PLACES = 9
"""Values of x at which curves are compared."""
RESAMPLES = 200


def in_words(setting: Mapping[str, float]) -> str:
    """Dials in words."""
    return ", ".join(f"{SHORT.get(name, name)} {value:g}" for name, value in setting.items())


def summarize(tasks: Sequence[Task], samples: Sequence[Sample], store: Store) -> list[Point]:
    """A point for each method and setting; trainings of one name, and seeds, are its runs."""
    counted = [sample for sample in samples if sample.counted]
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(json.dumps([task.method.name, sorted(task.setting.items())]), []).append(task)
    points = []
    for group in groups.values():
        rows = [[store.scores(task.key, sample.id) for sample in counted] for task in group]
        names = sorted({name for run in rows for row in run for name in row})
        scores = {name: np.array([[row.get(name, np.nan) for row in run] for run in rows]) for name in names}
        first = group[0]
        points.append(
            Point(
                first.method.name,
                first.method.dial,
                dict(first.setting),
                [task.key for task in group],
                scores,
                {name: mean_interval(values) for name, values in scores.items()},
                [task.method.identity() for task in group],
            )
        )
    return points


def curve(points: Sequence[Point], method: str, x: str, y: str) -> list[Point]:
    """The points of a method that have both scores, along its dial."""
    mine = [point for point in points if point.method == method and {x, y} <= point.means.keys()]
    return sorted(mine, key=lambda point: point.setting.get(point.dial, 0.0))


def best_point(points: Sequence[Point], least: float) -> Point:
    """A method's setting to show and to judge it by.

    The one with most edits right, where an oracle says so. Else it is as pairs are chosen: of those that are on average
    at least so like the picture before, the one that changes it most as the captions do; where none is, the one most
    like it. Where there are no captions, the one nearest to the pictures wanted.
    """
    score = decisive(points[0])
    if score == "directional_similarity" and "image_similarity" in points[0].means:
        alike = [point for point in points if point.means["image_similarity"].mean >= least]
        score, points = (score, alike) if alike else ("image_similarity", points)
    return points[0] if score is None else max(points, key=lambda point: goodness(point, score))


def decisive(point: Point) -> str | None:
    """The most telling score that is there; None where there is none."""
    return next((name for name in (*DECISIVE, *point.means) if name in point.means), None)


def goodness(point: Point, score: str) -> float:
    """A mean score, the higher the better; what is not known is worst."""
    mean = point.means[score].mean
    return -np.inf if np.isnan(mean) else sign_of(score) * mean


def sign_of(score: str) -> int:
    """1 where more is better, -1 where less is."""
    return 1 if HIGHER_IS_BETTER.get(base_name(score), True) else -1


@dataclass(frozen=True)
class Comparison:
    """Two curves where they share values of x: at each of those, how far the first is above the second.

    low, high: the ends of each gain's 95% interval, samples and runs drawn anew for both curves together
    passed:    share of the second's points that some point of the first is beyond in both x and y
    """

    at: list[float]
    gain: list[float]
    low: list[float]
    high: list[float]
    passed: float

    @property
    def always(self) -> bool:
        """Whether the first is above the second wherever they can be compared."""
        return bool(self.gain) and min(self.gain) > 0


def compare(one: Sequence[Point], other: Sequence[Point], x: str, y: str, seed: int = 0) -> Comparison:
    """Compare curves at some values of x that both reach, on straight lines between their points."""
    curves = [np.array([[point.means[name].mean for name in (x, y)] for point in points]) for points in (one, other)]
    passed = float(np.mean([(curves[0] > point).all(axis=1).any() for point in curves[1]]))
    low, high = max(each[:, 0].min() for each in curves), min(each[:, 0].max() for each in curves)
    if low >= high:
        return Comparison([], [], [], [], passed)
    at = np.linspace(low, high, PLACES)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        count = one[0].scores[x].shape[1]
        samples = rng.integers(count, size=(count,))
        drawn.append(above(redrawn(one, x, y, samples, rng), redrawn(other, x, y, samples, rng), at))
    least, most = np.nanpercentile(drawn, [2.5, 97.5], axis=0).tolist()
    return Comparison(at.tolist(), above(curves[0], curves[1], at).tolist(), least, most, passed)


def redrawn(points: Sequence[Point], x: str, y: str, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A curve's points [N, 2] over samples and runs that were drawn; all points have the same runs."""
    count = len(points[0].keys)
    runs = rng.integers(count, size=(count,))
    return np.array([[np.nanmean(point.scores[name][runs][:, samples]) for name in (x, y)] for point in points])


def above(one: np.ndarray, other: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How far a curve of points [N, 2], in the order of their dial, is above another at values of x."""
    return highest(one, at) - highest(other, at)


def highest(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The highest y of the straight lines from point to point at values of x; beyond the curve's ends, at its ends.

    A curve may double back: more of a dial is not more of a score everywhere.
    """
    at = np.clip(at, np.nanmin(points[:, 0]), np.nanmax(points[:, 0]))
    found = np.full(len(at), np.nan)
    for (x, y), (next_x, next_y) in pairwise(points):
        spanned = (at >= min(x, next_x)) & (at <= max(x, next_x))
        share = (at[spanned] - x) / (next_x - x) if next_x != x else np.full(spanned.sum(), float(next_y > y))
        found[spanned] = np.fmax(found[spanned], y + share * (next_y - y))
    return found

"""Rows of scores as tables and curves: means with their intervals, of each method at each position of its dials."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .intervals import Interval, mean_interval
from .samples import Sample
from .store import Store, Task


@dataclass
class Point:
    """A method at a position of its dials, over all samples, its seeds and its trainings.

    scores: by name: values [runs, samples]; a run is a training with a seed
    """

    method: str
    dial: str
    setting: dict[str, float]
    keys: list[str]
    scores: dict[str, np.ndarray]
    means: dict[str, Interval] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The dials in words."""
        return ", ".join(f"{SHORT.get(name, name)} {value:g}" for name, value in self.setting.items())


SHORT = {
    "image_guidance_scale": "s_I",
    "guidance_scale": "s_T",
    "strength": "strength",
    "steps": "steps",
}


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
            )
        )
    return points


def curve(points: Sequence[Point], method: str, x: str, y: str) -> list[Point]:
    """The points of a method that have both scores, along its dial."""
    mine = [point for point in points if point.method == method and {x, y} <= point.means.keys()]
    return sorted(mine, key=lambda point: point.setting.get(point.dial, 0.0))


@dataclass(frozen=True)
class Comparison:
    """Two curves where they share values of x: at each of those, how far the first is above the second."""

    at: list[float]
    gain: list[float]

    @property
    def always(self) -> bool:
        """Whether the first is above the second wherever they can be compared."""
        return bool(self.gain) and min(self.gain) > 0


def compare(one: Sequence[Point], other: Sequence[Point], x: str, y: str, places: int = 9) -> Comparison:
    """Compare curves at so many values of x that both reach, on straight lines between their points."""
    curves = [sorted((point.means[x].mean, point.means[y].mean) for point in points) for points in (one, other)]
    if not all(curves):
        return Comparison([], [])
    low, high = max(each[0][0] for each in curves), min(each[-1][0] for each in curves)
    if low > high:
        return Comparison([], [])
    at = np.linspace(low, high, places)
    ys = [np.interp(at, [x for x, _ in each], [y for _, y in each]) for each in curves]
    return Comparison(at.tolist(), (ys[0] - ys[1]).tolist())

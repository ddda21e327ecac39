"""Means, curves, and which curve is above which."""

from pathlib import Path

import numpy as np
import pytest
from evaluate_data import Painted, samples, store, tasks
from ip2p.training.evaluate.intervals import Interval
from ip2p.training.evaluate.store import Task
from ip2p.training.evaluate.summary import Point, compare, curve, summarize


def point(x: float, y: float, dial: float, method: str = "a") -> Point:
    means = {"x": Interval(x, x, x), "y": Interval(y, y, y)}
    return Point(method, "dial", {"dial": dial}, ["key"], {}, means)


def test_trainings_of_one_name_and_seeds_are_runs_of_one_point(tmp_path: Path) -> None:
    of, kept = samples(4), store(tmp_path)
    one, two = Painted(), Painted()
    two.identity = lambda: {"painted": "again"}  # type: ignore[method-assign]
    work = [Task(method, {"share": 1.0}, seed) for method in (one, two) for seed in (0, 1)]
    for number, task in enumerate(work):
        for sample in of:
            kept.add(task.key, sample.id, {"right": float(number)})
    [found] = summarize(work, of, kept)
    assert found.scores["right"].tolist() == [[0.0] * 4, [1.0] * 4, [2.0] * 4, [3.0] * 4]
    assert found.means["right"].mean == 1.5


def test_only_what_counts_is_averaged_and_what_lacks_is_not_known(tmp_path: Path) -> None:
    of, kept = samples(3), store(tmp_path)
    [task] = tasks(1.0)
    kept.add(task.key, of[0].id, {"right": 1.0})
    [found] = summarize([task], of, kept)
    assert found.means["right"].mean == 1 and np.isnan(found.scores["right"][0][1:]).all()


def test_a_curve_goes_along_the_dial() -> None:
    found = curve([point(1, 5, 2), point(3, 4, 1), point(0, 0, 0, method="b")], "a", "x", "y")
    assert [each.setting["dial"] for each in found] == [1, 2]


def test_curves_are_compared_where_both_are() -> None:
    upper = [point(0, 10, 0), point(4, 6, 1)]
    lower = [point(2, 5, 0), point(6, 1, 1)]
    found = compare(upper, lower, "x", "y", places=3)
    assert found.at == [2, 3, 4] and found.gain == pytest.approx([3, 3, 3]) and found.always
    assert not compare(lower, upper, "x", "y").always
    crossing = [point(2, 12, 0), point(4, 0, 1)]
    assert not compare(upper, crossing, "x", "y").always
    assert compare(upper, [point(9, 0, 0)], "x", "y").gain == []

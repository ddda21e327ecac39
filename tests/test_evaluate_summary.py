"""Means, curves, and which curve is above which."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluate_data import Painted, samples, store, tasks
from ip2p.training.evaluate.intervals import Interval, mean_interval
from ip2p.training.evaluate.plan import named, plan
from ip2p.training.evaluate.settings import EvaluateSettings
from ip2p.training.evaluate.store import Store, Task
from ip2p.training.evaluate.summary import Point, best_point, compare, curve, summarize


def point(x: float, y: float, dial: float, method: str = "a") -> Point:
    means = {"x": Interval(x, x, x), "y": Interval(y, y, y)}
    scores = {"x": np.full((1, 8), x), "y": np.full((1, 8), y)}
    return Point(method, "dial", {"dial": dial}, ["key"], scores, means)


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


def points_of(kept: Store, **settings: Any) -> list[Point]:
    """What is planned, summarized: the edits of each method and setting have its number as a score."""
    of = samples(2)
    work = plan(EvaluateSettings(base="shapes", **settings), torch.device("cpu"), torch.float32)
    for number, task in enumerate(work):
        for sample in of:
            kept.add(task.key, sample.id, {"right": float(number)})
    return summarize(work, of, kept)


def test_other_steps_of_prompt_to_prompt_are_another_setting(tmp_path: Path) -> None:
    found = points_of(store(tmp_path), methods=["p2p-ddim"], steps=[5, 10], self_replace_steps=[0.5])
    assert [each.setting for each in found[:2]] == [{"self_replace_steps": 0.5, "steps": n} for n in (5, 10)]
    assert [each.means["right"].mean for each in found] == [0, 1, 2]


def test_functions_of_one_name_are_two_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one_editor", "other_editor"):
        (tmp_path / f"{name}.py").write_text("def edit(image, triplet, seed):\n    return image\n")
    found = points_of(store(tmp_path / "out"), methods=["one_editor:edit", "other_editor:edit"])
    assert [each.method for each in found] == ["one_editor:edit", "other_editor:edit", "no edit"]
    assert [each.means["right"].mean for each in found] == [0, 1, 2]


def test_a_curve_goes_along_the_dial() -> None:
    found = curve([point(1, 5, 2), point(3, 4, 1), point(0, 0, 0, method="b")], "a", "x", "y")
    assert [each.setting["dial"] for each in found] == [1, 2]


def test_curves_are_compared_where_both_are() -> None:
    upper = [point(0, 10, 0), point(4, 6, 1)]
    lower = [point(2, 5, 0), point(6, 1, 1)]
    found = compare(upper, lower, "x", "y")
    assert (found.at[0], found.at[-1]) == (2, 4) and found.gain == pytest.approx([3] * 9) and found.always
    assert found.low == pytest.approx(found.gain) and found.high == pytest.approx(found.gain)  # all samples are alike
    assert not compare(lower, upper, "x", "y").always
    crossing = [point(2, 12, 0), point(4, 0, 1)]
    assert not compare(upper, crossing, "x", "y").always
    far = compare(upper, [point(9, 0, 0)], "x", "y")
    assert far.gain == [] and far.passed == 0


def test_a_curve_that_doubles_back_counts_by_its_upper_line() -> None:
    back = [point(0.0, 0.0, 1), point(1.0, 0.2, 2), point(0.5, 0.9, 3)]  # from 0.5 on there are two
    flat = [point(0.0, 0.3, 1, "b"), point(1.0, 0.3, 2, "b")]
    found = dict(zip((c := compare(back, flat, "x", "y")).at, c.gain, strict=True))
    assert found[0.0] == pytest.approx(-0.3) and found[0.25] == pytest.approx(-0.25)
    assert found[0.5] == pytest.approx(0.6) and found[0.75] == pytest.approx(0.25) and found[1.0] == pytest.approx(-0.1)
    upright = [point(0.0, 0.0, 1, "c"), point(1.0, 0.1, 2, "c"), point(1.0, 0.8, 3, "c")]
    assert compare(upright, flat, "x", "y").gain[-1] == pytest.approx(0.5)


def test_what_has_no_chance_in_it_is_made_once_whatever_the_seeds() -> None:
    settings = EvaluateSettings(base="shapes", methods=["sdedit", "p2p-ddim"], strengths=[0.5], seeds=3)
    work = plan(settings, torch.device("cpu"), torch.float32)
    counts = Counter(task.method.name for task in work)
    assert counts["SDEdit"] == 3 and counts["no edit"] == 1
    assert counts["P2P, DDIM inversion"] == len(settings.self_replace_steps)


def test_several_models_need_names_and_a_path_may_have_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lr=1", "pipeline").mkdir(parents=True)
    assert named(["lr=1/pipeline"]) == [("ip2p", "lr=1/pipeline")]
    assert named(["one=lr=1/pipeline", "two=shapes"]) == [("one", "lr=1/pipeline"), ("two", "shapes")]
    for models in (["shapes", "shapes-few"], ["one=shapes", "shapes"]):
        with pytest.raises(ValueError, match="Several models need names"):
            named(models)


def test_settings_that_are_worse_in_both_are_passed() -> None:
    one = [point(3, 3, 0), point(1, 8, 1)]
    assert compare(one, [point(2, 2, 0), point(0.5, 9, 1)], "x", "y").passed == 0.5


def test_gains_have_the_intervals_of_samples_drawn_together() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 400)  # samples that are hard for both

    def points(gain: float, apart: np.ndarray) -> list[Point]:
        found = []
        for dial in (0.0, 1.0):
            scores = {"x": np.full((1, 400), dial), "y": (gain + noise + apart)[None]}
            means = {name: mean_interval(values) for name, values in scores.items()}
            found.append(Point("a", "dial", {"dial": dial}, ["key"], scores, means))
        return found

    together = compare(points(0.2, np.zeros(400)), points(0.0, np.zeros(400)), "x", "y")
    assert together.low == pytest.approx([0.2] * 9) and together.high == pytest.approx([0.2] * 9)
    apart = compare(points(0.2, rng.normal(0, 1, 400)), points(0.0, rng.normal(0, 1, 400)), "x", "y")
    wide = apart.high[4] - apart.low[4]
    assert wide == pytest.approx(2 * 1.96 * np.sqrt(2 / 400), rel=0.2)


def test_the_setting_to_show_changes_most_of_those_that_keep_the_picture() -> None:
    def with_scores(**scores: float) -> Point:
        means = {name: Interval(value, value, value) for name, value in scores.items()}
        return Point("a", "dial", {"dial": 0.0}, ["key"], {}, means)

    clip = [with_scores(directional_similarity=d, image_similarity=i) for d, i in ((0.9, 0.4), (0.5, 0.8), (0.2, 0.9))]
    assert best_point(clip, 0.75) is clip[1]
    assert best_point(clip, 0.95) is clip[2]
    judged = [with_scores(directional_similarity=d, right=r) for d, r in ((0.9, 0.4), (0.5, 0.8))]
    assert best_point(judged, 0.75) is judged[1]
    pictures = [with_scores(l1=value) for value in (0.3, 0.1)]
    assert best_point(pictures, 0.75) is pictures[1]

"""Edits and scores: each made once, whatever the interruptions, processes and turns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_data import Killed, Painted, clip, metrics, samples, store, tasks
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sources import last_turns_counted
from ip2p.training.evaluate.store import Task
from ip2p.training.evaluate.sweep import Sweep
from PIL import Image


def run(folder: Path, work: list[Task], of: list[Sample], process: int = 0, processes: int = 1, **given: Any) -> Sweep:
    sweep = Sweep(store(folder, process), metrics(**given), 3, process, processes)
    sweep.run(work, of)
    return sweep


def test_every_edit_is_made_and_scored_once(tmp_path: Path) -> None:
    painted, of = Painted(), samples(8)
    work = tasks(0.0, 1.0, method=painted)
    run(tmp_path, work, of)
    assert len(painted.made) == len(set(painted.made)) == 16
    kept = store(tmp_path)
    for task, right in zip(work, (0, 1), strict=True):
        assert [kept.scores(task.key, sample.id)["right"] for sample in of] == [right] * 8
    assert all(kept.scores(work[0].key, sample.id)["l1"] == 0 for sample in of)
    run(tmp_path, work, of)
    assert len(painted.made) == 16


def test_a_further_metric_needs_no_further_edit(tmp_path: Path) -> None:
    painted, of = Painted(), samples(4)
    work = tasks(1.0, method=painted)
    run(tmp_path, work, of)
    run(tmp_path, work, of, clip=clip())
    assert len(painted.made) == 4
    assert all("directional_similarity" in store(tmp_path).scores(work[0].key, sample.id) for sample in of)


def test_a_further_metric_computes_no_other_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of, work, judge = samples(4), tasks(1.0), clip()
    run(tmp_path, work, of, clip=judge, pixels=False)
    monkeypatch.setattr(judge, "score", None)
    run(tmp_path, work, of, clip=judge)
    assert all({"directional_similarity", "l1"} <= store(tmp_path).scores(work[0].key, each.id).keys() for each in of)


def test_what_is_edited_one_by_one_is_kept_one_by_one(tmp_path: Path) -> None:
    of, dying = samples(3), Painted(most=2, one_by_one=True)
    work = tasks(1.0, method=dying)
    with pytest.raises(Killed):
        run(tmp_path, work, of)
    assert [store(tmp_path).has_picture(work[0].key, sample.id) for sample in of] == [True, True, False]


def test_scores_as_published_need_no_further_edit(tmp_path: Path) -> None:
    painted, of = Painted(), samples(2)
    work = tasks(1.0, method=painted)
    run(tmp_path, work, of, clip=clip())
    run(tmp_path, work, of, clip=clip(as_published=True))
    assert len(painted.made) == 2
    found = [store(tmp_path).scores(work[0].key, sample.id) for sample in of]
    assert all({"image_similarity_as_published", "directional_similarity_as_published"} <= set(row) for row in found)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    of, dying, healthy, alone = samples(8), Painted(most=6), Painted(), Painted()
    with pytest.raises(Killed):
        run(tmp_path / "cut", tasks(0.5, 1.0, method=dying), of)
    with (tmp_path / "cut" / "scores-0.jsonl").open("a") as file:
        file.write('{"key": "unfinis')
    run(tmp_path / "cut", tasks(0.5, 1.0, method=healthy), of)
    run(tmp_path / "whole", tasks(0.5, 1.0, method=alone), of)
    assert len(dying.made) == 6 and sorted(dying.made + healthy.made) == sorted(alone.made)
    assert store(tmp_path / "cut").rows == store(tmp_path / "whole").rows


def test_a_batch_is_the_same_whatever_of_it_is_done(tmp_path: Path) -> None:
    """With other pictures beside it a picture's sums may round otherwise."""
    of, batches = samples(7), []

    class Watched(Painted):
        def edit(self, samples: Any, pictures: Any, setting: Any, seeds: Any) -> list[Image.Image]:
            batches.append([sample.id for sample in samples])
            return super().edit(samples, pictures, setting, seeds)

    work = tasks(1.0, method=Watched())
    run(tmp_path, work, of)
    whole = list(batches)
    assert [len(batch) for batch in whole] == [3, 3, 1]
    kept = store(tmp_path)
    (tmp_path / "scores-0.jsonl").unlink()
    for sample in of[:4]:  # as a kill within the second batch leaves it
        kept.add(work[0].key, sample.id, kept.scores(work[0].key, sample.id))
    for sample in of[4:]:
        kept.picture_path(work[0].key, sample.id).unlink()
    written = kept.picture_path(work[0].key, of[3].id).stat().st_mtime_ns
    run(tmp_path, work, of)
    assert batches == whole + whole[1:]
    assert kept.picture_path(work[0].key, of[3].id).stat().st_mtime_ns == written


def test_pictures_of_other_sizes_are_edited_apart_and_models_are_let_go_in_the_end(tmp_path: Path) -> None:
    small = [replace(each, edit=None, picture=lambda: Image.new("RGB", (16, 8))) for each in samples(3)]
    of = [*samples(5)[3:], small[0]]
    sizes = []

    class Watched(Painted):
        def edit(self, samples: Any, pictures: Any, setting: Any, seeds: Any) -> list[Image.Image]:
            assert not hasattr(self, "freed")
            sizes.append([picture.size for picture in pictures])
            return super().edit(samples, pictures, setting, seeds)

    watched = Watched()
    run(tmp_path, tasks(0.5, 1.0, method=watched), of)
    assert sizes == [[(64, 64), (64, 64)], [(16, 8)]] * 2 and watched.freed


def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "scores-0.jsonl").write_text("{}x\n")
    with pytest.raises(ValueError, match=r"scores-0\.jsonl is damaged in line 1: remove that line"):
        store(tmp_path)


def test_processes_share_the_work_and_all_is_read(tmp_path: Path) -> None:
    of = samples(7)
    alone, together = Painted(), Painted()
    run(tmp_path / "one", tasks(0.5, method=alone), of)
    for process in (0, 1):
        run(tmp_path / "two", tasks(0.5, method=together), of, process, 2)
    assert sorted(alone.made) == sorted(together.made)
    assert store(tmp_path / "one").rows == store(tmp_path / "two").rows


def test_seeds_follow_the_sample_and_the_run(tmp_path: Path) -> None:
    painted = Painted()
    of = samples(4)
    run(tmp_path, [Task(painted, {"share": 1.0}, seed) for seed in (0, 1)], of)
    assert len({seed for _, _, seed in painted.made}) == 8
    other = Painted()
    run(tmp_path / "other", [Task(other, {"share": 1.0}, 0)], of[::-1])
    assert sorted(other.made) == sorted(made for made in painted.made[:4])


def test_in_a_session_each_turn_edits_what_the_turn_before_made(tmp_path: Path) -> None:
    class Darker(Painted):
        def edit(self, samples: Any, pictures: Any, setting: Any, seeds: Any) -> list[Image.Image]:
            return [picture.point(lambda value: value // 2) for picture in pictures]

    white = Sample("s 1", "darker", "", "", lambda: Image.new("RGB", (16, 16), "white"))
    of = last_turns_counted(
        [white, replace(white, id="s 2", after="s 1"), replace(white, id="s 3", after="s 2"), replace(white, id="t 1")]
    )
    assert [sample.counted for sample in of] == [False, False, True, True]
    work = tasks(1.0, method=Darker())
    for process in (0, 1):
        run(tmp_path, work, of, process, 2)
    found = [np.array(store(tmp_path).picture(work[0].key, sample.id)).max() for sample in of]
    assert found == [127, 63, 31, 127]


def test_a_picture_that_cant_be_read_is_counted_and_left_out(tmp_path: Path) -> None:
    def damaged() -> Image.Image:
        raise ValueError("it is no picture")

    of = [*samples(2), replace(samples(3)[2], id="bad", picture=damaged)]
    sweep = run(tmp_path, tasks(1.0), of)
    assert sweep.problems == {"bad: it is no picture": 1}
    assert len(store(tmp_path).rows) == 2


def test_without_the_wanted_picture_an_edit_is_scored_by_the_rest_and_it_is_told_each_time(tmp_path: Path) -> None:
    def damaged() -> Image.Image:
        raise ValueError("its picture is damaged")

    whole, bad = (replace(each, wanted=each.picture) for each in samples(2))
    of, painted = [whole, replace(bad, wanted=damaged)], Painted()
    work = tasks(0.0, method=painted)
    for _ in range(2):
        sweep = run(tmp_path, work, of, clip=clip())
        assert sweep.problems == {f"{bad.id}: its picture is damaged": 1}
    good, rest = (store(tmp_path).scores(work[0].key, each.id) for each in of)
    assert good["l1_to_wanted"] == 0 and good["image_similarity_to_wanted"] == pytest.approx(1)
    assert rest["l1"] == 0 and not [name for name in rest if name.endswith("_to_wanted")]
    assert len(painted.made) == 2


def test_names_of_samples_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    kept = store(tmp_path / "run")
    path = kept.picture_path("key", "../../../etc/passwd")
    assert path.resolve().is_relative_to((tmp_path / "run" / "edits" / "key").resolve())

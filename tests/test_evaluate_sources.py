"""Samples from every layout: what is edited, what is known of it, and the turns of sessions."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from finetune_data import examples, write_pairs
from ip2p.training.evaluate.rows import content_here
from ip2p.training.evaluate.sources import open_samples
from pairs_data import picture


def write(path: Path, **columns: list[Any]) -> Path:
    told = {
        name: [{"bytes": value, "path": None} for value in values] if isinstance(values[0], bytes) else values
        for name, values in columns.items()
    }
    table = datasets.Dataset.from_dict(told)
    for name, values in columns.items():
        if isinstance(values[0], bytes):
            table = table.cast_column(name, datasets.Image(decode=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


def opened(data: Path | str, count: int | None = None, turns: Any = "single", split: str = "test") -> list[Any]:
    return open_samples(str(data), split, count, 0, turns)


def colors(sample: Any) -> int:
    return int(np.array(sample.picture()).sum())


def test_the_shapes_world_gives_held_out_edits_of_all_kinds() -> None:
    samples = opened("shapes", 16)
    assert len(samples) == 16 and len({sample.kind for sample in samples}) == 8
    assert all(sample.edit.target.held_out or sample.edit.source.held_out for sample in samples)
    assert [sample.id for sample in samples[:8]] == [sample.id for sample in opened("shapes", 8)]
    assert np.array_equal(samples[3].picture(), opened("shapes", 8)[3].picture())


def test_our_own_datasets(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.parquet", 5, each=1)
    samples = opened(path)
    assert len(samples) == 5 and all(s.original_prompt and s.edited_prompt and s.edit_prompt for s in samples)
    assert samples[0].picture().size == samples[0].wanted().size == (64, 64)
    assert not np.array_equal(samples[0].picture(), samples[0].wanted())


@pytest.mark.parametrize("named", [True, False], ids=["by id", "by captions"])
@pytest.mark.parametrize("back", [True, False], ids=["both ways", "one way"])
def test_held_out_are_those_that_a_training_does_not_see(named: bool, back: bool, tmp_path: Path) -> None:
    ways = {"inverse_prompt": [f"undo {row // 2}" for row in range(120)]} if back else {}
    path = write_pairs(tmp_path / "p.parquet", 60, each=2, **ways)
    if not named:
        pq.write_table(pq.read_table(path).drop_columns("triplet_id"), path)
    trained = examples(path, held_out=4)
    seen = {trained[row].edit_prompt for rows in trained.triplets for row in rows}
    samples = open_samples(str(path), "test", None, 0, "single", held_out=4)
    assert samples and not seen & {sample.edit_prompt for sample in samples}
    assert {sample.edit_prompt for sample in samples} == {trained[row].edit_prompt for row in trained.held_out}
    assert len(open_samples(str(path), "test", 3, 0, "single", held_out=4)) == 3


def test_held_out_of_data_of_others_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", image=[picture(0)] * 3, instruction=["a", "b", "c"])
    few = write_pairs(tmp_path / "few.parquet", 5)
    with pytest.raises(ValueError, match="so few triplets that a training holds out none of them"):
        open_samples(str(few), "test", None, 0, "single", held_out=4)
    with pytest.raises(ValueError, match="does not tell triplets apart as a training does"):
        open_samples(str(path), "test", None, 0, "single", held_out=4)


def test_so_many_are_drawn_by_the_seed(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "p.parquet", 30, each=1)
    names = [[sample.id for sample in open_samples(str(path), "test", 10, seed, "single")] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2] and len(set(names[0])) == 10


def test_a_folders_split(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "train-0.parquet", 5, each=1)
    write_pairs(tmp_path / "data" / "test-0.parquet", 3, each=1)
    assert len(opened(tmp_path)) == 3 and len(opened(tmp_path, split="train")) == 5
    with pytest.raises(ValueError, match="no files of --split valid, only of test and train"):
        opened(tmp_path, split="valid")


def test_a_folder_of_pairs_has_candidates_beside_them(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "train-00000.parquet", 3, each=1)
    write(tmp_path / "candidates" / "00000.parquet", triplet=[0, 1], verdict=["kept", "image"])
    assert len(opened(tmp_path)) == 3


def test_emu_edits_test_set(tmp_path: Path) -> None:
    path = write(
        tmp_path / "test-0.parquet", image=[picture(0), picture(1)], instruction=["a", "b"],
        input_caption=["c", "d"], output_caption=["e", "f"], task=["add", "remove"], idx=[1, 2],
    )  # fmt: skip
    one, two = opened(path)
    assert (one.edit_prompt, one.original_prompt, one.edited_prompt, one.kind) == ("a", "c", "e", "add")
    assert two.kind == "remove" and two.wanted is None and two.picture().size == (32, 32)


def magicbrush_parquet(folder: Path) -> Path:
    return write(
        folder / "test-0.parquet", img_id=["7", "5", "7"], turn_index=[2, 1, 1],
        source_img=[picture(2), picture(0), picture(1)], target_img=[picture(3), picture(9), picture(2)],
        instruction=["second", "alone", "first"],
    )  # fmt: skip


def magicbrush_folder(folder: Path) -> Path:
    turns = []
    for image, names in (("5", ["input", "output1"]), ("7", ["input", "output1", "output2"])):
        (folder / "images" / image).mkdir(parents=True)
        for number, name in enumerate(names):
            (folder / "images" / image / f"{image}-{name}.png").write_bytes(picture(int(image) + number))
        for before, after in pairwise(names):
            told = {"5": "alone", "7": "first" if before == "input" else "second"}[image]
            turns.append({"input": f"{image}-{before}.png", "output": f"{image}-{after}.png", "instruction": told})
    (folder / "edit_turns.json").write_text(json.dumps(turns))
    captions = {"7": {"7-input.png": "globally", "7-output1.png": "after"}}
    (folder / "global_descriptions.json").write_text(json.dumps(captions))
    (folder / "local_descriptions.json").write_text(json.dumps({"7": {"7-output1.png": "locally"}}))
    return folder


@pytest.mark.parametrize("make", [magicbrush_parquet, magicbrush_folder])
def test_magicbrush_by_single_turns_and_by_sessions(make: Any, tmp_path: Path) -> None:
    data = make(tmp_path)
    single = {sample.edit_prompt: sample for sample in opened(data)}
    assert len(single) == 3 and all(each.counted and each.after is None for each in single.values())
    assert np.array_equal(single["first"].wanted(), single["second"].picture())
    multi = {sample.edit_prompt: sample for sample in opened(data, turns="multi")}
    assert multi["second"].after == multi["first"].id and multi["first"].after is None
    assert [multi[name].counted for name in ("alone", "first", "second")] == [True, False, True]
    if make is magicbrush_folder:
        first = single["first"]
        assert (first.original_prompt, first.edited_prompt, first.local_caption) == ("globally", "after", "locally")


def test_rows_of_sessions_without_their_columns_are_samples_of_their_own(tmp_path: Path) -> None:
    columns = {"source_img": [picture(0), picture(1)], "instruction": ["a", "b"], "img_id": ["7", "7"]}
    found = opened(write(tmp_path / "p.parquet", **columns))
    assert [sample.id for sample in found] == ["row 0", "row 1"]
    again = write(tmp_path / "q.parquet", **columns, turn_index=["1", "1"])
    with pytest.raises(ValueError, match="has 7 turn 1 twice: img_id and turn_index must tell its rows apart"):
        opened(again)


def test_whole_sessions_are_drawn(tmp_path: Path) -> None:
    data = magicbrush_folder(tmp_path)
    for seed in range(6):
        drawn = open_samples(str(data), "test", 1, seed, "multi")
        assert [sample.edit_prompt for sample in drawn] in (["alone"], ["first", "second"])


def test_what_is_edited_is_told_by_the_content_of_its_files(tmp_path: Path) -> None:
    data = magicbrush_folder(tmp_path / "brush")
    before = content_here(str(data), "test")
    told = {"edit_turns.json", "global_descriptions.json", "local_descriptions.json"}
    assert told < set(before) and {Path(name).parts[0] for name in set(before) - told} == {"images"}
    (data / "local_descriptions.json").write_text("{}")
    after = content_here(str(data), "test")
    assert {name for name in before if before[name] != after[name]} == {"local_descriptions.json"}
    write_pairs(tmp_path / "data" / "train-0.parquet", 1, each=1)
    write_pairs(tmp_path / "data" / "test-0.parquet", 1, each=1)
    assert list(content_here(str(tmp_path), "test")) == ["data/test-0.parquet"]
    assert content_here("shapes", "test") == content_here("somebody/pairs", "test") == {}


def test_pictures_of_others_stay_in_their_folder(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(0))
    folder = magicbrush_folder(tmp_path / "theirs")
    turns = [{"input": "../../../secret.png", "output": "7-output1.png", "instruction": "x"}]
    (folder / "edit_turns.json").write_text(json.dumps(turns))
    with pytest.raises(ValueError, match="no path inside"):
        opened(folder)[0].picture()
    table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(secret)}], "instruction": ["x"]})
    table.cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="row 0 has no image in it"):
        opened(tmp_path / "p.parquet")[0].picture()


@pytest.mark.parametrize(
    ("data", "told"),
    [("./missing", "There is no file or folder"), ("wrong.parquet", "can't be read"), ("empty", "has no Parquet files"),
     ("strange.parquet", "has the columns text; samples need"),
     ("paths.parquet", "paths.parquet holds no pictures in its column original_image"),
     ("wanted.parquet", "wanted.parquet holds no pictures in its column target_img")],
)  # fmt: skip
def test_what_cant_be_used_is_told(data: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.parquet").write_bytes(b"PAR1 nothing")
    Path("empty").mkdir()
    write(Path("strange.parquet"), text=["a"])
    write(Path("paths.parquet"), original_image=["a.jpg"], edit_prompt=["a"])
    write(Path("wanted.parquet"), source_img=[picture(0)], instruction=["a"], target_img=["b.jpg"])
    with pytest.raises((ValueError, OSError), match=told):
        opened(data)

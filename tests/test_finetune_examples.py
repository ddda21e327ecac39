"""Where examples come from, and how they are grouped."""

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetune_data import examples, rows, settings, write_pairs
from ip2p.training.finetune.examples import Examples
from ip2p.training.finetune.sources import open_rows
from ip2p.training.pairs.run_folder import claimed
from pairs_data import picture


def test_pairs_of_a_triplet_belong_together(tmp_path: Path) -> None:
    found = examples(write_pairs(tmp_path / "pairs.parquet", count=20, each=3))
    assert len(found) == 60 and len(found.triplets) == 18 and len(found.held_out) == 2
    assert all(
        len(members) == 3 and len({found[row].edit_prompt for row in members}) == 1 for members in found.triplets
    )
    trained = {row for members in found.triplets for row in members}
    assert not trained & set(found.held_out)


def test_what_is_held_out_depends_on_the_triplet_alone(tmp_path: Path) -> None:
    names = []
    for count in (40, 60):
        found = examples(write_pairs(tmp_path / f"{count}.parquet", count, each=1), held_out=4)
        names.append({found[row].edit_prompt for row in found.held_out})
    assert len(names[0] & names[1]) >= 2
    small = examples(write_pairs(tmp_path / "small.parquet", 20, each=1), held_out=64)
    assert len(small.held_out) == 2  # a tenth, at most


def test_a_share_of_the_triplets_is_drawn_by_the_seed_and_a_larger_one_has_all_of_a_smaller() -> None:
    data = rows(edit_prompt=[str(number) for number in range(200)])
    shares = {share: Examples(data, 20, share, seed=1) for share in (0.01, 0.1, 1.0)}
    kept = {share: {row for members in found.triplets for row in members} for share, found in shares.items()}
    assert [len(kept[share]) for share in (0.01, 0.1, 1.0)] == [2, 18, 180]
    assert kept[0.01] < kept[0.1] < kept[1.0]
    assert len({tuple(found.held_out) for found in shares.values()}) == 1
    other = {row for members in Examples(data, 20, 0.1, seed=2).triplets for row in members}
    assert other != kept[0.1] and other < kept[1.0]


def test_without_ids_the_texts_tell_triplets_apart_and_without_captions_each_row_is_one() -> None:
    texts = {"original_prompt": ["a", "a", "b"], "edit_prompt": ["x", "x", "x"], "edited_prompt": ["c", "c", "c"]}
    assert Examples(rows(**texts), 0).triplets == [[0, 1], [2]]
    assert Examples(rows(edit_prompt=["x", "x", "x"]), 0).triplets == [[0], [1], [2]]
    assert Examples(rows(triplet_id=["1", None, "1"], **texts), 0).triplets == [[0, 2], [1]]


def test_rows_without_an_instruction_are_left_out() -> None:
    found = Examples(rows(edit_prompt=["x", "", None, "  ", "y"]), 0)
    assert found.triplets == [[0], [4]] and found.empty == 3
    with pytest.raises(ValueError, match="no row with an instruction"):
        Examples(rows(edit_prompt=["", None]), 0)


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.parquet")
    renamed = datasets.Dataset.from_parquet(str(path)).rename_column("original_image", "input_image")
    renamed.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"has no column original_image .*--original-image-column"):
        examples(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"has no column undo .*--inverse-prompt-column"):
        examples(path, inverse_prompt_column="undo")
    found = examples(tmp_path / "other.parquet", original_image_column="input_image")
    assert found[0] == examples(path)[0]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("edit_prompt", [["a", "b"]] * 4, "holds no texts in its column edit_prompt"),
        ("edited_image", [1, 2, 3, 4], "holds no pictures in its column edited_image"),
        ("edited_image", ["a.jpg"] * 4, "holds no pictures in its column edited_image"),
    ],
)
def test_columns_of_another_kind_are_told(column: str, values: list[Any], told: str, tmp_path: Path) -> None:
    table = pq.read_table(write_pairs(tmp_path / "pairs.parquet", count=4, each=1))
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match=told):
        open_rows(settings(data=str(tmp_path / "pairs.parquet")), tmp_path)


def test_pairs_with_an_instruction_back_are_there_both_ways(tmp_path: Path) -> None:
    back = ["undo it", "", None, "undo that"] * 10
    path = write_pairs(tmp_path / "p.parquet", inverse_prompt=back)
    made, forward = examples(path), examples(path, inverse_prompt_column=None)
    assert (len(made), len(forward)) == (60, 40)
    for at, row in enumerate(row for row in range(40) if back[row]):
        one, other = made[row], made[40 + at]
        assert (other.original_image, other.edited_image) == (one.edited_image, one.original_image)
        assert (other.original_prompt, other.edited_prompt) == (one.edited_prompt, one.original_prompt)
        assert other.edit_prompt == back[row]
    assert len(made.triplets) == len(forward.triplets) == 18
    assert [[row for row in rows if row < 40] for rows in made.triplets] == forward.triplets
    assert made.held_out == forward.held_out
    turned = {row for rows in made.triplets for row in rows if row >= 40}
    assert len(turned) == 18  # what is held out is trained on neither way


def test_a_picture_that_is_only_a_path_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(0))
    image = {"bytes": None, "path": str(tmp_path / "secret.png")}
    found = Examples(rows(edit_prompt=["x"], original_image=[image], edited_image=[image]), 0)
    with pytest.raises(ValueError, match="row 0 has no original_image in it"):
        found[0]


def csv_folder(folder: Path) -> Path:
    with (folder / "pairs.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["before", "after", "instruction"])
        for number in range(3):
            for side in ("before", "after"):
                (folder / f"{side}{number}.png").write_bytes(picture(number))
            lines.writerow([f"before{number}.png", f"after{number}.png", f"edit {number}"])
    return folder


def original_folder(folder: Path) -> Path:
    for number in range(3):
        inside = folder / f"{number:07d}"
        inside.mkdir()
        (inside / "prompt.json").write_text(json.dumps({"input": "a", "edit": f"edit {number}", "output": "b"}))
        for side in (0, 1):
            (inside / f"12_{side}.jpg").write_bytes(picture(number, kind="JPEG"))
    return folder


def magicbrush_folder(folder: Path) -> Path:
    turns = []
    for number in range(3):
        inside = folder / "images" / str(number)
        inside.mkdir(parents=True)
        names = {"input": f"{number}-input.png", "mask": f"{number}-mask1.png", "output": f"{number}-output1.png"}
        for name in names.values():
            (inside / name).write_bytes(picture(number))
        turns.append({**names, "instruction": f"edit {number}"})
    (folder / "edit_turns.json").write_text(json.dumps(turns))
    return folder


@pytest.mark.parametrize("write", [csv_folder, original_folder, magicbrush_folder])
def test_layouts_of_others_are_read_as_they_are(write: Any, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    given = settings(data=str(write(tmp_path / "theirs")))
    for _ in range(2):  # and again, from what was imported
        found = Examples(open_rows(given, tmp_path / "imported"), 0)
        assert sorted(found[row].edit_prompt for row in range(3)) == ["edit 0", "edit 1", "edit 2"]
        assert found[0].original_image and found[0].edited_image


def test_a_folder_of_a_run_is_read_by_its_split(tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "train-00000.parquet", count=6)
    write_pairs(tmp_path / "data" / "test-00000.parquet", count=3)
    write_pairs(tmp_path / "data" / "train-00001.parquet", count=5)
    assert len(examples(tmp_path)) == 22
    assert len(examples(tmp_path, split="test")) == 6


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "Say what to train on"),
        ("missing/folder/deep", "There is no file or folder missing/folder/deep"),
        ("./missing", "There is no file or folder"),
    ],
)
def test_what_is_not_there_is_told(data: str | None, told: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=told):
        open_rows(settings(data=data), tmp_path)


def test_files_here_are_no_stream(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.parquet", count=2)
    with pytest.raises(ValueError, match=r"--streaming is for datasets of the Hub, and .* is on this disk"):
        open_rows(settings(data=str(tmp_path), streaming=True), tmp_path)


def test_what_another_process_imports_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    given = settings(data=str(csv_folder(tmp_path / "theirs")))
    imported = open_rows(given, tmp_path / "ours")
    with claimed(tmp_path / "ours"):
        assert len(open_rows(given, tmp_path / "ours", imports=False)) == len(imported)


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / "pairs.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"pairs\.parquet can't be read"):
        open_rows(settings(data=str(tmp_path / "pairs.parquet")), tmp_path)
    (tmp_path / "notes.txt").write_text("no data")
    with pytest.raises(ValueError, match="is no data that can be trained on"):
        open_rows(settings(data=str(tmp_path / "notes.txt")), tmp_path)

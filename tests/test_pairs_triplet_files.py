"""Triplets from files of several kinds, damaged ones among them."""

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ip2p.training.pairs.candidates import PairTriplet
from ip2p.training.pairs.triplet_files import read_triplets

ONE = PairTriplet("a cat", "make it a dog", "a dog", "replace", "make it a cat")
COLUMNS = {name: [value] for name, value in asdict(ONE).items()}


def test_a_folder_of_instructions_a_parquet_file_and_jsonl_are_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "model": ["x"]}), tmp_path / "triplets.parquet")
    (tmp_path / "own.jsonl").write_text(json.dumps({name: values[0] for name, values in COLUMNS.items()}) + "\n\n")
    for path in (tmp_path, tmp_path / "triplets.parquet", tmp_path / "own.jsonl"):
        assert list(read_triplets(path)) == [ONE]


@pytest.mark.parametrize("key", ["caption", "input"])
def test_the_originals_keys_are_known(tmp_path: Path, key: str) -> None:
    told = {key: "a cat", "edit": "make it a dog", "output": "a dog"}
    (tmp_path / "own.jsonl").write_text(json.dumps(told))
    pq.write_table(pa.Table.from_pylist([told]), tmp_path / "own.parquet")
    for name in ("own.jsonl", "own.parquet"):
        (triplet,) = read_triplets(tmp_path / name)
        assert triplet == PairTriplet("a cat", "make it a dog", "a dog", "")


def test_damaged_triplets_keep_their_place(tmp_path: Path) -> None:
    whole = json.dumps({"input": "a cat", "edit": "make it a dog", "output": "a dog"})
    lines = [whole, "{", '{"input": 3, "edit": "e", "output": null}', '{"input": "\\ud800", "edit": "e"}', "[]", whole]
    (tmp_path / "own.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"input": "\xff"}\n' + whole[:20].encode())
    triplets = read_triplets(tmp_path / "own.jsonl")
    assert [bool(triplet.edited_prompt) for triplet in triplets] == [True, *[False] * 4, True, False, False]
    assert triplets[2] == PairTriplet("", "e", "")
    assert len({triplet.id for triplet in triplets}) == 3


def test_missing_texts_of_a_parquet_file_are_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({**COLUMNS, "edit_prompt": pa.nulls(1)}), tmp_path / "own.parquet")
    assert read_triplets(tmp_path / "own.parquet")[0].edit_prompt == ""


def test_the_first_of_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({name: [str(i) for i in range(9)] for name in COLUMNS}), tmp_path / "own.parquet")
    triplets = read_triplets(tmp_path / "own.parquet", 4)
    assert len(triplets) == 4 and triplets[-1].edit_prompt == "3"
    assert [triplet.edit_prompt for triplet in triplets[1:3]] == ["1", "2"]
    with pytest.raises(IndexError):
        triplets[4]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.parquet", None, "There are no triplets at"),
        ("own.txt", b"a cat", "neither a .parquet nor a .jsonl"),
        ("own.parquet", b"a cat", "no Parquet file of triplets, or damaged"),
        ("own.jsonl", b"a cat\na dog\n", "no line is JSON with original_prompt"),
        ("own.jsonl", b"", "holds no triplets"),
    ],
)
def test_what_is_no_file_of_triplets_gets_a_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=sentence):
        read_triplets(tmp_path / name)


def test_a_parquet_file_without_a_column_gets_a_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a cat"]}), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match="no column original_prompt"):
        read_triplets(tmp_path / "own.parquet")

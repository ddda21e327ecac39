"""A dataset that is trained on as it comes."""

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import datasets
import pytest
from finetune_data import encoder, settings, write_pairs
from ip2p.training.finetune.sources import columns_of
from ip2p.training.finetune.stream import Stream, StreamPlace


def stream(path: Path, **given: Any) -> Stream:
    """The pairs of a file as a stream."""
    told = settings(streaming=True, **given)
    streamed = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
    return Stream(columns_of(streamed, told), encoder(), told)


def instructions(batches: list[list[StreamPlace]]) -> list[list[str]]:
    return [[place.example.edit_prompt for place in batch] for batch in batches]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "p.parquet", 11, each=1)


def test_each_epoch_has_every_row_once_but_those_held_out(pairs: Path) -> None:
    made = stream(pairs, held_out=2, batch_size=3)
    places = [place for batch in islice(made.batches(0, 1), 6) for place in batch]
    seen = [place.example.edited_image for place in places]
    assert len(set(seen[:9])) == 9 and not set(seen) & {example.edited_image for example in made.kept_back}
    assert sorted(seen[:9]) == sorted(seen[9:]) and seen[:9] != seen[9:]


def test_no_pair_of_a_triplet_that_is_held_out_is_trained_on(tmp_path: Path) -> None:
    made = stream(write_pairs(tmp_path / "p.parquet", 4, each=2), held_out=1, batch_size=3)
    seen = {place.example.edit_prompt for batch in islice(made.batches(0, 1), 4) for place in batch}
    assert len(seen) == 3 and made.kept_back[0].edit_prompt not in seen


def test_where_all_is_held_out_it_is_told(pairs: Path) -> None:
    with pytest.raises(ValueError, match="but for the first 64, which --held-out keeps"):
        next(stream(pairs, held_out=64).batches(0, 1))


def test_processes_share_out_what_one_sees_and_a_later_start_goes_on(pairs: Path) -> None:
    alone = instructions(list(islice(stream(pairs).batches(0, 1), 12)))
    of_two = [instructions(list(islice(stream(pairs).batches(process, 2), 6))) for process in (0, 1)]
    assert [batch for both in zip(*of_two, strict=True) for batch in both] == alone
    assert instructions(list(islice(stream(pairs).batches(5, 1), 7))) == alone[5:]


def test_rows_with_an_instruction_back_come_both_ways(tmp_path: Path) -> None:
    made = stream(write_pairs(tmp_path / "p.parquet", 3, each=1, inverse_prompt=["x", "", "y"]), held_out=0)
    seen = [place.example for batch in islice(made.batches(0, 1), 5) for place in batch]
    turned = {each.edit_prompt: each for each in seen if each.edit_prompt in ("x", "y")}
    assert len({each.edit_prompt for each in seen}) == 5 and len(turned) == 2
    there = {(each.original_image, each.edited_image, each.original_prompt) for each in seen if each not in turned}
    assert all((each.edited_image, each.original_image, each.edited_prompt) in there for each in turned.values())


def test_rows_that_cant_be_used_are_passed_over(tmp_path: Path) -> None:
    good = stream(write_pairs(tmp_path / "good.parquet", 3, each=1), held_out=0)
    images = [place.example.original_image for batch in islice(good.batches(0, 1), 2) for place in batch][:3]
    wrong = {"edit_prompt": ["x", "", "y"], "original_image": [b"no", *images[1:]]}
    made = stream(write_pairs(tmp_path / "p.parquet", 3, each=1, **wrong), held_out=0)
    places = next(made.batches(0, 1))
    assert {place.example.edit_prompt for place in places} == {"x", "y"}
    places = [place for batch in islice(made.batches(0, 1), 3) for place in batch]
    for before, place in pairwise(places):  # a damaged one's place is taken by the one before it
        pair = made.prepare(place)
        assert pair.text == "y" if pair else before.example.edit_prompt == place.example.edit_prompt == "x"
    assert "is not a picture" in next(iter(made.problems))
    assert len(stream(tmp_path / "p.parquet", held_out=3).kept_back) == 2


def test_a_stream_without_an_instruction_is_told(tmp_path: Path) -> None:
    made = stream(write_pairs(tmp_path / "p.parquet", 3, each=1, edit_prompt=["", " ", ""]), held_out=0)
    with pytest.raises(ValueError, match="no row with pictures and an instruction"):
        next(made.batches(0, 1))

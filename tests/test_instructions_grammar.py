"""The shapes backend: what it says of a caption is right by a parser of its own, and is the same in any order."""

from collections import Counter
from pathlib import Path

import pytest
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.grammar import GrammarBackend, grammar_captions
from ip2p.training.instructions.triplets import Caption, Request
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.scenes import HELD_OUT
from shapes_grammar import obey, parse_caption

RED_CIRCLE = "a small red circle at the top left"


def requests(count: int) -> list[Request]:
    return [Request(caption) for caption in grammar_captions(count, seed=3)]


def ask(wanted: list[Request], path: Path, seed: int = 0) -> dict[str, dict[str, str]]:
    answers = Answers(path)
    GrammarBackend(seed).answer(wanted, answers)
    return {answer["id"]: answer for answer in answers}


def test_captions_are_distinct_and_a_smaller_count_is_the_beginning_of_a_larger() -> None:
    captions = list(grammar_captions(3000, seed=0))
    assert len(set(captions)) == len(captions) == 3000
    assert list(grammar_captions(1000, seed=0)) == captions[:1000]
    assert list(grammar_captions(1000, seed=1)) != captions[:1000]


def test_half_of_the_captions_leave_places_open() -> None:
    told = [parse_caption(caption.text) for caption in grammar_captions(1000, seed=1)]
    assert 0.3 < sum(all(thing.cell is not None for thing in each.objects) for each in told) / 1000 < 0.8


def test_every_triplet_is_right_and_shows_nothing_held_out(tmp_path: Path) -> None:
    backend, wanted = GrammarBackend(seed=0), requests(3000)
    answers = ask(wanted, tmp_path / "answers.jsonl")
    kinds: Counter[str] = Counter()
    for request in wanted:
        instruction, edited, kind, inverse = backend.parse(request, answers[request.id])
        before, after = parse_caption(request.caption.text), parse_caption(edited)
        assert obey(kind, instruction, before) == after != before
        if inverse:
            assert obey({"add": "remove", "remove": "add"}.get(kind, kind), inverse, after) == before
        else:
            assert kind == "remove"  # of what no caption places
        if kind in ("recolor", "reshape", "resize", "background"):
            pairs = zip(request.caption.text.split(), edited.split(), strict=True)
            assert sum(one.strip(",") != two.strip(",") for one, two in pairs) == 1  # no word changes needlessly
        assert not {thing[:3] for thing in before.objects | after.objects} & HELD_OUT
        kinds[kind] += 1
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 3000 / len(KINDS) / 2


def test_answers_depend_neither_on_order_nor_on_what_was_answered_before(tmp_path: Path) -> None:
    wanted = requests(50)
    at_once = ask(wanted, tmp_path / "at_once.jsonl")
    ask(wanted[20:30], tmp_path / "in_parts.jsonl")
    assert ask(wanted[::-1], tmp_path / "in_parts.jsonl") == at_once
    assert ask(wanted, tmp_path / "other.jsonl", seed=1) != at_once


def test_more_triplets_of_a_caption_differ(tmp_path: Path) -> None:
    caption = next(grammar_captions(1, seed=0))
    answers = ask([Request(caption, number) for number in range(8)], tmp_path / "answers.jsonl")
    assert len({answer["edit"] for answer in answers.values()}) > 4


@pytest.mark.parametrize(
    "text",
    [
        "a photograph of a cat",
        RED_CIRCLE,  # no background
        f"{RED_CIRCLE} on white, on a black background",
        f"{RED_CIRCLE} on white, oil painting",
        "on white",
        f"{RED_CIRCLE} and a large blue cross in the top left on white",  # two in a cell
        f"{RED_CIRCLE} and a large red circle in the top right on white",  # "the red circle" is which?
    ],
)
def test_captions_of_something_else_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no caption of the shapes world"):
        ask([Request(Caption(text))], tmp_path / "answers.jsonl")

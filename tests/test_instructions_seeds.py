"""The seed triplets: what ships, and what a user's own or the authors' file gives."""

import json
from collections import Counter
from pathlib import Path

import pytest
from ip2p.training.instructions.seeds import Seed, load_seeds
from ip2p.training.instructions.triplets import KINDS


def ours() -> list[Seed]:
    training, held_out = load_seeds()
    return training + held_out


def plain(text: str) -> str:
    return text.translate(str.maketrans("", "", ".!?")).strip().lower()


def test_ours_are_700_balanced_over_kinds_with_70_held_out() -> None:
    training, held_out = load_seeds()
    assert (len(training), len(held_out)) == (630, 70)
    assert {seed.kind for seed in held_out} == set(KINDS)
    assert set(Counter(seed.kind for seed in held_out).values()) == {4, 5}
    assert set(Counter(seed.kind for seed in training + held_out).values()) == {43, 44}


def test_ours_repeat_no_caption_and_no_instruction_and_each_changes_its_caption() -> None:
    seeds = ours()
    assert len({plain(seed.original_prompt) for seed in seeds}) == 700
    assert len({plain(seed.edit_prompt) for seed in seeds}) == 700
    assert all(plain(seed.original_prompt) != plain(seed.edited_prompt) for seed in seeds)


def test_ours_have_no_template_feel() -> None:
    firsts = Counter(seed.edit_prompt.split()[0].lower() for seed in ours())
    assert firsts.most_common(1)[0][1] < 70  # no first word begins a tenth of them
    assert len(firsts) > 200


@pytest.mark.parametrize("caption", ["input", "caption"])
def test_the_authors_file_is_read_under_both_spellings(tmp_path: Path, caption: str) -> None:
    file = tmp_path / "human-written.jsonl"
    line = {
        caption: "a lake, oil ",
        "edit": "freeze it",
        "output": "a frozen lake, oil",
        "url": "x",
    }
    file.write_text("\n".join(json.dumps({**line, "edit": f"freeze it {n}"}) for n in range(3)) + "\n\n")
    training, held_out = load_seeds(file)
    assert training[0] == Seed("a lake, oil", "freeze it 0", "a frozen lake, oil", "")
    assert held_out == []


def test_of_a_file_that_says_nothing_a_tenth_is_held_out_always_the_same(tmp_path: Path) -> None:
    lines = [json.dumps({"input": f"caption {n}", "edit": "make it so", "output": f"{n}"}) for n in range(1000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(reversed(lines)))
    held_out = load_seeds(tmp_path / "a.jsonl")[1]
    assert 70 < len(held_out) < 130
    assert set(load_seeds(tmp_path / "b.jsonl")[1]) == set(held_out)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"input": "a lake"', "it is not JSON"),
        (b'"a lake"', "it is not a JSON object"),
        (b"\xff\xfe", "it is not JSON"),
        (b'{"input": "a lake", "edit": "freeze it"}', "it has no edited_prompt or output"),
        (b'{"edit": "freeze it", "output": "ice"}', "it has no original_prompt or caption or input"),
        (b'{"input": "a lake", "edit": " ", "output": "ice"}', 'edit is a text, not " "'),
        (b'{"input": 3, "edit": "freeze it", "output": "ice"}', "input is a text, not 3"),
        (b'{"input": "a", "edit": "b", "output": "c", "kind": "zoom"}', 'there is no kind "zoom"'),
        (b'{"input": "a", "edit": "b", "output": "c", "held_out": "yes"}', 'held_out is true or false, not "yes"'),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    file = tmp_path / "seeds.jsonl"
    file.write_bytes(b'{"input": "a lake", "edit": "freeze it", "output": "ice"}\n' + line + b"\n")
    with pytest.raises(ValueError, match="line 2") as error:
        load_seeds(file)
    assert f"{file}, line 2, is no seed triplet: {says}" in str(error.value)
    assert str(error.value).count("\n") == 0


def test_a_file_without_seeds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no seed triplets"):
        load_seeds(tmp_path / "empty.jsonl")

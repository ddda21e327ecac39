"""Cleaning of triplets: what each rule drops, what it must not, and what the report says."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from ip2p.training.instructions.cleaning import CleaningReport, CleaningSettings, clean
from ip2p.training.instructions.seeds import load_seeds
from ip2p.training.instructions.triplets import Triplet, digest


def triplet(original: str, edit: str, edited: str, kind: str = "replace") -> Triplet:
    return Triplet(original, edit, edited, kind, digest(original), "model", "settings")


def seeds() -> list[Triplet]:
    training, held_out = load_seeds()
    return [
        triplet(seed.original_prompt, seed.edit_prompt, seed.edited_prompt, seed.kind) for seed in training + held_out
    ]


BARN = triplet("A red barn in a wheat field at noon", "make it night", "A red barn in a wheat field at night")


def cleaned(*triplets: Triplet, **settings: object) -> tuple[list[Triplet], CleaningReport]:
    report = CleaningReport()
    return list(clean(triplets, CleaningSettings(**settings), report)), report


DROPPED = [
    ("unchanged", replace(BARN, edited_prompt=" a red barn in a wheat field at noon.! ")),
    ("length", replace(BARN, edit_prompt="please " * 31)),
    ("length", replace(BARN, edit_prompt="  ")),
    ("length", replace(BARN, edited_prompt="")),
    ("form", replace(BARN, edit_prompt="make it night\nand cold")),
    ("form", replace(BARN, edit_prompt="Edit: make it night")),
    ("form", replace(BARN, edit_prompt="Instruction: make it night")),
    ("form", replace(BARN, edited_prompt="Edited caption: A red barn in a wheat field at night")),
    ("form", replace(BARN, edit_prompt='"make it night"')),
    ("form", replace(BARN, edited_prompt="“A red barn in a wheat field at night”")),
    ("form", replace(BARN, edit_prompt="I'm sorry, but I can't help with that.")),
    ("form", replace(BARN, edited_prompt="As an AI language model, I see a red barn in a wheat field")),
    ("form", replace(BARN, edit_prompt="1. make it night")),
    ("form", replace(BARN, edit_prompt='{"edit": "make it night"')),
    ("restates", replace(BARN, edit_prompt="make it a red barn in a wheat field at night")),
    ("restates", replace(BARN, edit_prompt="A red barn in a wheat field, noon")),
    ("unrelated", replace(BARN, edited_prompt="Two otters floating on their backs in a harbour")),
    ("moderation", replace(BARN, edited_prompt="A red barn in a wheat field with Nude farmers")),
]


@pytest.mark.parametrize(("rule", "bad"), DROPPED)
def test_a_bad_triplet_is_counted_under_its_rule_and_kept_without_it(rule: str, bad: Triplet) -> None:
    kept, report = cleaned(bad, BARN)
    assert kept == [BARN]
    assert report.dropped == Counter({rule: 1})
    [example] = report.examples[rule]
    assert (example.edit_prompt, example.edited_prompt) == (bad.edit_prompt, bad.edited_prompt)
    assert len(example.reason) > 10
    assert report.kept == 1
    assert report.seen == 2
    assert bad not in cleaned(bad)[0]
    shadowed = ["form", "restates", "unrelated"]  # some are bad in more than one way
    assert bad in cleaned(bad, disable=[rule, *shadowed])[0]


KEPT = [
    triplet('"The Mill", tempera', "it's flooded", '"The Mill", flooded, tempera'),
    triplet("Vanitas: candle, skull and rose", "no skull", "Vanitas: candle and rose"),
    triplet(
        "The Naked Truth Café, Lisbon".replace("Naked", "Bare"), "rain!", "The Bare Truth Café in the rain, Lisbon"
    ),
    triplet("An Essex lane in grapevines", "deep snow", "An Essex lane in deep snow"),  # "sex", "rape" only within
    triplet("A sign reading “Open”", "make it read “Shut”", "A sign reading “Shut”"),
    triplet("Edith in a garden", "“Wanted” poster style, please", "Edith in a garden, “Wanted” poster"),
]


@pytest.mark.parametrize("good", KEPT)
def test_a_good_triplet_that_looks_like_a_bad_one_is_kept(good: Triplet) -> None:
    assert cleaned(good)[0] == [good]


def test_of_our_seeds_under_one_in_a_hundred_is_lost() -> None:
    kept, report = cleaned(*seeds())
    assert len(kept) >= 693
    assert report.kinds == Counter(each.kind for each in kept)
    assert report.kept == len(kept)


def test_captions_of_other_pictures_are_nearly_all_found_unrelated() -> None:
    ours = seeds()
    mixed = [replace(one, edited_prompt=two.edited_prompt) for one, two in zip(ours, ours[1:] + ours[:1], strict=True)]
    _, report = cleaned(*mixed)
    assert report.dropped["unrelated"] > 0.97 * 700  # neighbours are of one kind and share its words


def test_an_instruction_that_is_the_edited_caption_is_always_found() -> None:
    _, report = cleaned(*(replace(each, edit_prompt=f"make it {each.edited_prompt}") for each in seeds()))
    assert report.dropped["restates"] + report.dropped["length"] + report.dropped["form"] == 700


LONG = "A red barn in a wheat field at noon, oil on canvas, wide sky, poplars along the lane, a dog by the gate"


@pytest.mark.parametrize(
    ("caption", "instruction"),
    [
        (LONG.upper().replace(",", " -"), "Make it night."),
        (LONG.replace("wheat", "big wheat"), "make it night"),
        (LONG + " today", "make it night"),
    ],
)
def test_near_duplicates_of_an_earlier_triplet_are_dropped(caption: str, instruction: str) -> None:
    first = triplet(LONG, "make it night", LONG.replace("noon", "night"))
    again = replace(first, original_prompt=caption, edit_prompt=instruction)
    kept, report = cleaned(first, again)
    assert kept == [first]
    assert report.dropped == Counter({"near_duplicate": 1})
    assert LONG in report.examples["near_duplicate"][0].reason
    assert cleaned(first, again, disable=["near_duplicate"])[0] == [first, again]


def test_a_caption_of_something_else_is_no_near_duplicate() -> None:
    boat = replace(BARN, original_prompt="A red boat in a wheat field at noon")
    assert cleaned(BARN, boat)[0] == [BARN, boat]


def test_another_edit_of_a_long_caption_is_no_near_duplicate() -> None:
    one = triplet(LONG, "at night", LONG.replace("noon", "night"))
    two = triplet(LONG, "a blue barn", LONG.replace("red", "blue"))
    three = replace(two, edit_prompt="a green barn", edited_prompt=LONG.replace("red", "green"))
    assert cleaned(one, two, three)[0] == [one, two, three]


def test_no_kind_is_above_its_share_whatever_the_order() -> None:
    rows = [
        triplet(f"A {word} boat {n} near a quay", f"paint it {word * 2}", f"A boat {n} by the quay", kind)
        for kind, count in (("color", 60), ("add", 25), ("season", 15), ("", 20))
        for n in range(count)
        for word in [digest(f"{kind}{n}")]
    ]
    kept, report = cleaned(*rows, max_kind_share=0.3)
    assert report.kinds == {"color": 25, "add": 25, "season": 15, "": 20} or report.kinds["color"] <= 0.3 * len(kept)
    assert max(report.kinds[kind] for kind in ("color", "add", "season")) <= 0.3 * len(kept)
    assert report.kinds["season"] == 15
    assert report.kinds[""] == 20
    assert report.dropped == {"balance": len(rows) - len(kept)}
    assert [each for each in rows if each in set(kept)] == kept
    assert set(cleaned(*reversed(rows), max_kind_share=0.3)[0]) == set(kept)
    assert len(cleaned(*rows, max_kind_share=0.3, disable=["balance"])[0]) == len(rows)


def test_a_share_that_too_few_kinds_can_keep_is_told() -> None:
    rows = [replace(BARN, kind="color"), triplet("A lake in May", "freeze it", "A frozen lake in January", "season")]
    assert len(cleaned(*rows, max_kind_share=0.5)[0]) == 2
    with pytest.raises(ValueError, match=r"2 kinds of edit can't each be 0\.3 of the triplets"):
        cleaned(*rows, max_kind_share=0.3)


def test_a_judge_sees_only_what_the_rules_let_pass() -> None:
    seen: list[str] = []

    def judge(texts: list[str]) -> list[str]:
        seen.extend(texts)
        return ["violence" if "axe" in text else "" for text in texts]

    axe = triplet("A woodcutter with an axe in snow", "summer", "A woodcutter with an axe in summer")
    report = CleaningReport()
    rows = [BARN, axe, replace(BARN, edited_prompt=BARN.original_prompt)]
    assert list(clean(rows, CleaningSettings(), report, judge)) == [BARN]
    assert len(seen) == 2
    assert report.dropped == {"moderation": 1, "unchanged": 1}
    assert "violence" in report.examples["moderation"][0].reason
    assert list(clean(rows[:2], CleaningSettings(disable=["moderation"]), CleaningReport(), judge)) == rows[:2]


def test_five_examples_a_rule_are_enough() -> None:
    _, report = cleaned(*(replace(BARN, edit_prompt=f"Edit: number {n}") for n in range(9)))
    assert report.dropped == {"form": 9}
    assert len(report.examples["form"]) == 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"disable": ["zoom"]}, "There is no rule zoom: it is one of unchanged, length"),
        ({"max_instruction_words": 0}, "--max-instruction-words"),
        ({"max_restated": 0.0}, "--max-restated"),
        ({"near_duplicate": 1.1}, "--near-duplicate"),
        ({"max_kind_share": float("nan")}, "--max-kind-share"),
        ({"min_related": -0.1}, "--min-related"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CleaningSettings(**settings)


def test_it_is_a_stream_of_bounded_memory() -> None:
    code = """
import random, resource, sys
from ip2p.training.instructions.cleaning import CleaningReport, CleaningSettings, clean
from ip2p.training.instructions.triplets import Triplet, digest
rng, words = random.Random(0), [digest(str(n)) for n in range(5000)]
def made(count):
    for n in range(count):
        text = " ".join(rng.choices(words, k=20))
        yield Triplet(text, " ".join(rng.choices(words, k=6)), text + " " + words[n % 5000], "add", "", "", "")
next(stream := clean(made(10**9), CleaningSettings(), CleaningReport()))  # a list would never end
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = CleaningReport()
for _ in clean(made(3000), CleaningSettings(), report): pass
assert report.kept == 3000, report
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 3000)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(process.stdout) < 4000  # bytes a triplet: 454,445 of them in under 2 GB

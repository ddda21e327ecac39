"""Prompts, examples and the reading of answers."""

import json
from collections import Counter

import pytest
from ip2p.training.instructions.prompting import (
    RESPONSE_FORMAT,
    Examples,
    format_completion,
    format_prompt,
    offered_kinds,
    parse_chat,
    parse_completion,
    tuning_line,
)
from ip2p.training.instructions.seeds import Seed, load_seeds
from ip2p.training.instructions.triplets import KINDS, BadAnswerError, Caption, Request

SEEDS = load_seeds()[0]
ANSWER = {"kind": "season", "instruction": "make it  winter ", "edited_caption": "a snowy lake"}


def body(content: str | None, finish_reason: str = "stop", refusal: str | None = None) -> dict:
    return {"choices": [{"finish_reason": finish_reason, "message": {"content": content, "refusal": refusal}}]}


def test_the_paper_s_format_is_read_back():
    assert format_prompt("a lake") == "a lake\n##\n"
    completion = format_completion("make it winter", "a snowy lake")
    assert completion == "make it winter\n%%\na snowy lake\nEND"
    assert parse_completion(" " + completion + " and more") == ("make it winter", "a snowy lake")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("make it winter\n%%\na snowy", "truncated"),
        ("make it winter\nEND", "malformed"),
        ("a\n%%\nb\n%%\nc\nEND", "malformed"),
        ("\n%%\na snowy lake\nEND", "empty"),
        ("make it winter\n%%\nEND", "empty"),
    ],
)
def test_a_completion_without_two_parts_names_what_is_wrong(text, wrong):
    with pytest.raises(BadAnswerError, match=f"^{wrong}$"):
        parse_completion(text)


def test_a_chat_answer_gives_instruction_caption_and_kind():
    expected = ("make it winter", "a snowy lake", "season")
    assert parse_chat(body(json.dumps(ANSWER))) == expected
    assert parse_chat(body(f"```json\n{json.dumps(ANSWER)}\n```")) == expected


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (body(json.dumps(ANSWER)[:30], "length"), "truncated"),
        (body(None, refusal="I can't help with that."), "refused"),
        (body("", "content_filter"), "refused"),
        (body(None), "empty"),
        (body(json.dumps(ANSWER | {"instruction": "  "})), "empty"),
        (body("make it winter"), "malformed"),
        (body(json.dumps(ANSWER | {"kind": "zoom"})), "malformed"),
        (body(json.dumps(ANSWER | {"why": "because"})), "malformed"),
        (body(json.dumps({"kind": "season", "instruction": "make it winter"})), "malformed"),
    ],
)
def test_a_chat_answer_without_a_triplet_names_what_is_wrong(answer, wrong):
    with pytest.raises(BadAnswerError, match=f"^{wrong}$"):
        parse_chat(answer)


def test_the_schema_is_strict():
    schema = RESPONSE_FORMAT["json_schema"]["schema"]
    assert RESPONSE_FORMAT["json_schema"]["strict"] is True
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"]) == {"kind", "instruction", "edited_caption"}
    assert schema["properties"]["kind"]["enum"] == list(KINDS)


def test_examples_are_like_the_caption_of_different_kinds_and_the_offered_ones_first():
    request = Request(Caption("Fishing boats in a harbour at dawn"))
    messages = Examples(SEEDS).messages(request, run_seed=0)
    answers = [json.loads(message["content"]) for message in messages if message["role"] == "assistant"]
    assert len(answers) == 6
    assert len({answer["kind"] for answer in answers}) == 6
    assert set(offered_kinds(request, 0)) <= {answer["kind"] for answer in answers}
    for question, answer in zip(messages[1::2], answers, strict=False):
        assert answer["kind"] in question["content"].splitlines()[0]
    assert messages[-1]["content"].endswith("Caption: Fishing boats in a harbour at dawn")

    boats = sum("boat" in seed.original_prompt.lower() for seed in SEEDS) / len(SEEDS)
    many = Examples(SEEDS, count=16).messages(request, run_seed=0)[1:-1:2]
    assert sum("boat" in message["content"].lower() for message in many) / 16 > 3 * boats


def test_a_request_s_prompt_depends_on_it_and_the_run_s_seed_only():
    examples = Examples(SEEDS)
    caption = Caption("Two otters on a rock")
    first = examples.messages(Request(caption), 0)
    assert Examples(SEEDS).messages(Request(caption), 0) == first
    assert examples.messages(Request(caption, number=1), 0) != first
    assert examples.messages(Request(caption, attempt=1), 0) != first
    assert examples.messages(Request(caption), 1) != first


def test_offered_kinds_are_balanced_and_differ_between_the_triplets_of_a_caption():
    caption = Caption("Two otters on a rock")
    assert sorted(kind for number in range(4) for kind in offered_kinds(Request(caption, number), 0)) == sorted(KINDS)
    counts = Counter(kind for i in range(1600) for kind in offered_kinds(Request(Caption(f"caption {i}")), 0))
    assert set(counts) == set(KINDS)
    assert 300 < min(counts.values()) <= max(counts.values()) < 500


def test_seeds_without_kinds_serve_as_examples():
    kindless = [Seed(seed.original_prompt, seed.edit_prompt, seed.edited_prompt) for seed in SEEDS]
    messages = Examples(kindless).messages(Request(Caption("a lake")), 0)
    assert len(messages) == 1 + 2 * 6 + 1
    assert all("kind" not in message["content"].lower() for message in messages[1:-1])


def test_a_tuned_model_is_asked_as_it_was_taught():
    line = json.loads(tuning_line(SEEDS[0], run_seed=0))["messages"]
    asked = Examples([], 0).messages(Request(Caption(SEEDS[0].original_prompt)), 0)
    assert [message["role"] for message in line] == ["system", "user", "assistant"]
    assert line[0] == asked[0]
    assert line[1]["content"].splitlines()[1] == asked[1]["content"].splitlines()[1]
    taught = parse_chat(body(line[2]["content"]))
    assert taught == (SEEDS[0].edit_prompt, SEEDS[0].edited_prompt, SEEDS[0].kind)

"""What a language model is told and what is read from its answer: for hosted chat models, and for tuned ones."""

import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .triplets import KINDS, BadAnswerError, Request, digest

MEANINGS = {
    "replace": "one thing becomes another",
    "add": "something new appears",
    "remove": "something that the caption names or implies goes",
    "color": "another colour",
    "material": "made of something else",
    "style": "another medium, technique or movement of art",
    "season": "another time of the year",
    "weather": "another weather",
    "time_of_day": "another hour, another light",
    "action": "somebody does something else or holds another pose",
    "expression": "another look on the face of a person or an animal",
    "clothing": "other clothes, hats, armour, accessories",
    "background": "another place around the subject",
    "era": "another century or decade, or the future",
    "genre": "another world: fantasy, science fiction, noir, fairy tale, western, toys",
    "state": "another condition: ruined, rusted, frozen, overgrown, brand new, in bloom",
}

SYSTEM = f"""\
You write examples from which an image editor learns to follow instructions. You are given the caption of a picture \
and a few kinds of edit. Take the kind that suits the picture best and invent one edit of it. Answer with:

kind: the kind that you took.
instruction: what a person would type to have the picture edited. Mostly 2 to 14 words, specific, in natural and \
varied wording: an order, a wish, a question or the wanted result. It must be understood by someone who sees the \
picture but not its caption.
edited_caption: the caption of the picture after the edit. Keep the caption's words, order, punctuation and capitals, \
and change only what the edit changes. Say what is to be seen then, and drop what no longer holds: when night falls, \
"sunlit" goes.

A text-to-image model will draw both captions with the same composition. So the edit must be visible, and must leave \
where things are, how large they are and from where they are seen. Never ask for a camera move, a zoom, a crop or \
another viewpoint, for a number of things, for things to trade places or move elsewhere, or for written words.

The kinds:
{chr(10).join(f"{kind}: {MEANINGS[kind]}" for kind in KINDS)}"""

OFFERED = 4
"""Kinds that a request offers, one of which the model takes. Sixteen kinds in fours: the first four triplets of a
caption are offered different ones."""

VARIETY = 0.1
"""How much chance counts beside likeness (a cosine, 0 to 1) when examples are picked."""

SEPARATOR = "\n##\n"
"""Between a caption and its completion (InstructPix2Pix, its released code)."""
MIDDLE = "\n%%\n"
"""Between the instruction and the edited caption."""
STOP = "\nEND"
"""Ends a completion."""

Message = dict[str, str]


class Example(Protocol):
    """A triplet written by a person. Its kind may be "", where nobody named it."""

    @property
    def original_prompt(self) -> str: ...  # noqa: D102
    @property
    def edit_prompt(self) -> str: ...  # noqa: D102
    @property
    def edited_prompt(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102


class Answer(BaseModel):
    """What a chat model answers, as JSON."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(json_schema_extra={"enum": list(KINDS)})
    instruction: str
    edited_caption: str


RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "edit", "strict": True, "schema": Answer.model_json_schema()},
}
"""Structured output, the same for all requests: services compile each schema anew."""


class Examples:
    """Triplets of which each request shows the model a few, as like its caption as there are.

    triplets: written by people; none gives prompts without examples, as for a tuned model
    count:    how many to show, of different kinds as far as there are
    """

    def __init__(self, triplets: Sequence[Example], count: int = 6) -> None:
        self.triplets = triplets
        self.count = count
        documents = [words(triplet.original_prompt) for triplet in triplets]
        frequency = Counter(word for document in documents for word in document)
        self.columns = {word: i for i, word in enumerate(sorted(frequency))}
        weights = np.zeros((len(self.columns), len(triplets)), np.float32)
        for i, document in enumerate(documents):
            for word in document:
                weights[self.columns[word], i] = math.log(1 + len(triplets) / frequency[word])
        self.idf = weights.max(axis=1, initial=0)
        self.weights = weights / np.maximum(np.linalg.norm(weights, axis=0), 1e-6)

    def likeness(self, caption: str) -> np.ndarray:
        """Cosine of the idf-weighted words of the caption and those of each triplet's caption."""
        rows = [self.columns[word] for word in sorted(words(caption)) if word in self.columns]
        if not rows:
            return np.zeros(len(self.triplets), np.float32)
        idf = self.idf[rows]
        return idf @ self.weights[rows] / np.linalg.norm(idf)

    def pick(self, caption: str, kinds: Sequence[str], chance: random.Random) -> list[Example]:
        """The likest of each of `kinds`, then of each other kind, then any: the likest last."""
        noise = np.random.default_rng(chance.getrandbits(32)).random(len(self.triplets))
        score = self.likeness(caption) + VARIETY * noise
        order = np.argsort(-score, kind="stable").tolist()
        likest: dict[str, int] = {}
        for i in order:
            likest.setdefault(self.triplets[i].kind, i)
        offered = [likest[kind] for kind in kinds if kind in likest]
        wanted = list(dict.fromkeys([*offered, *likest.values(), *order]))[: self.count]
        return [self.triplets[i] for i in sorted(wanted, key=lambda i: score[i])]

    def messages(self, request: Request, run_seed: int) -> list[Message]:
        """The conversation that asks for a triplet: the task, examples of it, the caption."""
        chance = random.Random(request.seed(run_seed))
        kinds = offered_kinds(request, run_seed)
        turns = [{"role": "system", "content": SYSTEM}]
        for example in self.pick(request.caption.text, kinds, chance):
            turns += example_turns(example, chance)
        return [*turns, ask(request.caption.text, kinds)]


def words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def offered_kinds(request: Request, run_seed: int) -> list[str]:
    """The kinds that a request offers: from the caption's own order of them, so that its triplets differ in kind."""
    order = random.Random(Request(request.caption).seed(run_seed)).sample(KINDS, len(KINDS))
    start = OFFERED * (request.number + request.attempt) % len(KINDS)
    return order[start : start + OFFERED]


def ask(caption: str, kinds: Sequence[str]) -> Message:
    """The user's turn."""
    return {"role": "user", "content": f"Kinds: {', '.join(kinds)}\nCaption: {caption}"}


def example_turns(example: Example, chance: random.Random) -> list[Message]:
    """A triplet as a question and its answer. Where its kind is not known, both leave the kind out."""
    answer = {"instruction": example.edit_prompt, "edited_caption": example.edited_prompt}
    question = {"role": "user", "content": f"Caption: {example.original_prompt}"}
    if example.kind:
        others = [kind for kind in KINDS if kind != example.kind]
        kinds = chance.sample([example.kind, *chance.sample(others, OFFERED - 1)], OFFERED)
        answer = {"kind": example.kind} | answer
        question = ask(example.original_prompt, kinds)
    return [question, {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)}]


def tuning_line(example: Example, run_seed: int) -> str:
    """A triplet as a line of a fine-tuning file in chat format: what `Examples([])` asks and the answer to it."""
    chance = random.Random(int(digest(f"{run_seed}/{example.original_prompt}"), 16))
    turns = [{"role": "system", "content": SYSTEM}, *example_turns(example, chance)]
    return json.dumps({"messages": turns}, ensure_ascii=False)


def parse_chat(body: dict[str, Any]) -> tuple[str, str, str]:
    """(instruction, edited caption, kind) of a chat completion's body.

    Raises BadAnswerError: truncated (out of tokens), refused, malformed (not what was asked for), or empty.
    """
    choice = body["choices"][0]
    message = choice["message"]
    if message.get("refusal") or choice.get("finish_reason") == "content_filter":
        raise BadAnswerError("refused")
    if choice.get("finish_reason") == "length":
        raise BadAnswerError("truncated")
    content = (message.get("content") or "").strip()
    if not content:
        raise BadAnswerError("empty")
    try:  # servers without structured output often put JSON into a fence
        answer = Answer.model_validate_json(content.removeprefix("```json").removesuffix("```"))
    except ValidationError:
        raise BadAnswerError("malformed") from None
    instruction, edited_caption = " ".join(answer.instruction.split()), " ".join(answer.edited_caption.split())
    if not instruction or not edited_caption:
        raise BadAnswerError("empty")
    if answer.kind not in KINDS:
        raise BadAnswerError("malformed")
    return instruction, edited_caption, answer.kind


def format_prompt(caption: str) -> str:
    """What a tuned model completes: the caption and the separator, as the paper's GPT-3 was tuned."""
    return caption + SEPARATOR


def format_completion(instruction: str, edited_caption: str) -> str:
    """How a tuned model answers `format_prompt`, stop text included."""
    return instruction + MIDDLE + edited_caption + STOP


def parse_completion(text: str) -> tuple[str, str]:
    """(instruction, edited caption) of a completion as it came, stop text included.

    Raises BadAnswerError: truncated (the stop text never came), malformed (not exactly two parts) or empty.
    """
    completion, stop, _ = text.partition(STOP)
    if not stop:
        raise BadAnswerError("truncated")
    parts = [part.strip() for part in completion.split(MIDDLE.strip())]
    if len(parts) != 2:
        raise BadAnswerError("malformed")
    if not all(parts):
        raise BadAnswerError("empty")
    return parts[0], parts[1]

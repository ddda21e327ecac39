"""A vision-language model as judge: which of two edits is better, asked in both orders, over any OpenAI-compatible API.

Answers are kept as they come, so a run that stops goes on, and nothing is paid for twice.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from ..instructions.answers import Answers
from ..instructions.budget import Limits, used
from ..instructions.hosted import Asking
from ..instructions.service import ServiceSettings
from ..instructions.triplets import Tokens, digest
from .intervals import Interval, mean_interval
from .samples import Sample
from .store import Store

SIDE = 512  # pixels, at most, of what the judge sees: as many as OpenAI's low detail has
IMAGE_TOKENS = 3000  # at most, of a picture in low detail: gpt-4o-mini counts 2,833, the most of any service known
ASKED = (
    "You see a picture and two edits of it, the first and the second. The instruction was: {instruction}\n"
    "A good edit does what the instruction says, leaves everything else of the picture as it was, and looks real. "
    "Which of the two is better? Say tie where neither is."
)
SHOWN = ("The picture:", "The first edit:", "The second edit:")
SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "better": {"type": "string", "enum": ["first", "second", "tie"]}},
    "required": ["reason", "better"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}


@dataclass(kw_only=True)
class JudgeSettings(Limits, ServiceSettings):
    """Which model judges, and how it is asked."""

    temperature: float | None = 0.0
    """Of sampling. null leaves it to models that let nobody choose."""
    max_tokens: int = 512
    """Longest answer in tokens. Models that think before they answer need far more."""
    concurrency: int = 8
    """Requests in flight at most."""

    def __post_init__(self) -> None:
        Limits.__post_init__(self)
        ServiceSettings.__post_init__(self)


@dataclass(frozen=True)
class Question:
    """Two edits of a sample, by their keys in the store, in the order in which they are shown."""

    sample: Sample
    first: str
    second: str

    @property
    def id(self) -> str:
        """Names the question by its content."""
        return digest(json.dumps([self.sample.id, self.sample.edit_prompt, self.first, self.second]))


@dataclass(frozen=True)
class Spent:
    """What a judge was asked and cost, in all runs in the same folder.

    unclear: answers without a verdict, refusals among them
    cost:    in the prices' currency, where prices are given
    """

    answers: int
    unclear: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(frozen=True)
class Judgement:
    """What a judge said: how often the first method is preferred, by what it was compared with.

    stopped: why it ended before all was asked; empty where it did not
    """

    preferred: dict[str, Interval] = field(default_factory=dict)
    spent: Spent | None = None
    stopped: str = ""


class Judge:
    """Asks which edits are better."""

    def __init__(self, settings: JudgeSettings, store: Store) -> None:
        self.hosted, self.store = settings, store
        told = [settings.model, settings.temperature, settings.max_tokens, ASKED, SCHEMA]
        self.path = store.folder / "judge" / f"{digest(json.dumps(told))}.jsonl"

    def ask(self, questions: Sequence[Question]) -> dict[str, str]:
        """ "first", "second" or "tie" for each question by its id; those that got no such answer are left out.

        Raises BudgetSpentError before a limit is passed, and ServiceError where the service is given up; what was
        answered is kept.
        """
        answers = Answers(self.path)
        try:
            wanted = [question for question in questions if question.id not in answers]
            if wanted:
                asyncio.run(Asking(self, wanted, answers).run())  # type: ignore[arg-type]
        finally:
            answers.close()
        return self.verdicts(questions)

    def verdicts(self, questions: Sequence[Question]) -> dict[str, str]:
        """What is known of questions, by their ids."""
        answers = Answers(self.path)
        told = {question.id: verdict(answers[question.id]) for question in questions if question.id in answers}
        answers.close()
        return {name: each for name, each in told.items() if each is not None}

    def spent(self) -> Spent:
        """What all answers are and cost."""
        answers = Answers(self.path)
        known = list(answers)
        answers.close()
        tokens = [told for answer in known if (told := used(answer)) is not None]
        prompt, completion = (sum(getattr(each, name) for each in tokens) for name in ("prompt", "completion"))
        unclear = sum(verdict(answer) is None for answer in known)
        return Spent(len(known), unclear, prompt, completion, self.hosted.cost(prompt, completion))

    def body(self, question: Question) -> dict[str, Any]:
        """What is sent for a question."""
        sample = question.sample
        edits = (self.store.picture(key, sample.id) for key in (question.first, question.second))
        shown = dict(zip(SHOWN, (sample.picture(), *edits), strict=True))
        content: list[dict[str, Any]] = [{"type": "text", "text": ASKED.format(instruction=sample.edit_prompt)}]
        for name, picture in shown.items():
            if picture is None:
                raise ValueError(f"An edit of {sample.id} is not made yet: evaluate it before it is judged.")
            content += [
                {"type": "text", "text": name},
                {"type": "image_url", "image_url": {"url": data_url(picture), "detail": "low"}},
            ]
        longest = "max_completion_tokens" if self.hosted.is_openai() else "max_tokens"
        body = {
            "model": self.hosted.model,
            "messages": [{"role": "user", "content": content}],
            "response_format": FORMAT,
            "temperature": self.hosted.temperature,
            longest: self.hosted.max_tokens,
        }
        return {name: value for name, value in body.items() if value is not None}

    def at_most(self, body: dict[str, Any]) -> Tokens:
        """Tokens that a request can't pass."""
        texts = [part.get("text", "") for part in body["messages"][0]["content"]]
        return tokens_of("".join(texts), self.hosted.max_tokens)


def tokens_of(texts: str, max_tokens: int) -> Tokens:
    """Tokens that a question with these texts can't pass: no tokenizer makes more of a text than it has bytes."""
    return Tokens(len(texts.encode()) + 3 * IMAGE_TOKENS, max_tokens)


def longest(instructions: Iterable[str], max_tokens: int) -> Tokens:
    """Tokens that no question about these instructions can pass, with answers of at most so many."""
    instruction = max(instructions, key=lambda text: len(text.encode()), default="")
    return tokens_of(ASKED + "".join(SHOWN) + instruction, max_tokens)


def both_orders(sample: Sample, one: str, other: str) -> tuple[Question, Question]:
    """The two questions about a pair of edits."""
    return Question(sample, one, other), Question(sample, other, one)


def wins(samples: Iterable[Sample], one: str, other: str, told: dict[str, str]) -> Interval:
    """How often the first edit wins: 1 where it is preferred in both orders, 0 where the other is, else one half."""
    values = []
    for sample in samples:
        asked = both_orders(sample, one, other)
        verdicts = [told.get(question.id) for question in asked]
        if None in verdicts:
            continue
        points = [{"first": 1.0, "second": 0.0, "tie": 0.5}[str(each)] for each in verdicts]
        mean = (points[0] + 1 - points[1]) / 2
        values.append(mean if mean in (0.0, 1.0) else 0.5)
    return mean_interval(np.array(values or [np.nan]))


def verdict(answer: dict[str, Any]) -> str | None:
    """The verdict of an answer; None where it holds none."""
    try:
        better = json.loads(answer["response"]["choices"][0]["message"]["content"])["better"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return better if better in ("first", "second", "tie") else None


def data_url(picture: Image.Image) -> str:
    """A picture for the judge's eyes, not larger than it needs."""
    shown = picture.copy()
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind, options = ("PNG", {}) if max(shown.size) <= SIDE // 2 else ("JPEG", {"quality": 92})
    file = BytesIO()
    shown.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"

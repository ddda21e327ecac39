"""What the text stage reads, asks for and makes: captions, requests and triplets."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .answers import Answers

KINDS = (
    "replace",
    "add",
    "remove",
    "color",
    "material",
    "style",
    "season",
    "weather",
    "time_of_day",
    "action",
    "expression",
    "clothing",
    "background",
    "era",
    "genre",
    "state",
)


@dataclass(frozen=True)
class Caption:
    """A caption, named by its text: the same text has the same id in every run."""

    text: str

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the text's hash."""
        return digest(self.text)


@dataclass(frozen=True)
class Request:
    """One triplet asked for: the caption, which of the caption's triplets, and which attempt at it, from 0."""

    caption: Caption
    number: int = 0
    attempt: int = 0

    @property
    def id(self) -> str:
        """Names the request and its answer, whatever the order in which it is asked."""
        return f"{self.caption.id}-{self.number}-{self.attempt}"

    def seed(self, run_seed: int) -> int:
        """A seed of 31 bits for all that is drawn for this request."""
        return int(digest(f"{run_seed}/{self.id}")[:8], 16) >> 1


@dataclass(frozen=True)
class Triplet:
    """A row of the dataset of instructions."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    kind: str
    caption_id: str
    model: str
    settings: str
    """Hash of all settings that the answer depends on."""
    inverse_prompt: str = ""
    """The instruction that leads back from the edited caption; "" where there is none."""


class Parsed(NamedTuple):
    """What an answer holds."""

    edit_prompt: str
    edited_prompt: str
    kind: str = ""
    inverse_prompt: str = ""


@dataclass(frozen=True)
class Tokens:
    """Tokens of a request and, at most, of its answer."""

    prompt: int
    completion: int


class BadAnswerError(ValueError):
    """An answer that holds no triplet. The message is the name of what is wrong with it, counted in the report."""


class Backend(Protocol):
    """What makes triplets of captions."""

    model: str

    def settings(self) -> dict[str, Any]:
        """All that answers depend on, as JSON: model, prompts, temperature, seeds. Never a key."""

    def estimate(self, request: Request) -> Tokens:
        """What a request costs."""

    def answer(self, requests: Sequence[Request], answers: Answers) -> None:
        """Ask for every request that `answers` lacks, and add each answer as it came before anything is made of it."""

    def parse(self, request: Request, answer: dict[str, Any]) -> Parsed:
        """What an answer as it was added holds. Raises BadAnswerError."""


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of a text's hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def missing(requests: Iterable[Request], answers: Answers) -> list[Request]:
    """The requests that have no answer yet."""
    return [request for request in requests if request.id not in answers]

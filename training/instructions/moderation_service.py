"""Texts that no dataset should hold, as a hosted moderation model finds them: asked once, kept on disk."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from .answers import Answers
from .service import ServiceError, ServiceSettings, patiently
from .triplets import digest

TEXTS_A_REQUEST = 32
REQUESTS_AT_ONCE = 4


class ModerationService:
    """A moderation endpoint of the OpenAI kind.

    settings: which service, and which model of it, such as omni-moderation-latest
    answers:  file of what it has said; a text that is there is not asked for again
    """

    def __init__(self, settings: ServiceSettings, answers: Answers) -> None:
        self.settings = settings
        self.answers = answers
        self.client = openai.OpenAI(**settings.client_options())

    def judge(self, texts: Sequence[str]) -> list[str]:
        """What each text is flagged for, such as "harassment, violence"; "" where it is fine.

        Raises ServiceError where the service can't be reached or refuses. What it said until then is kept.
        """
        unknown = [text for text in dict.fromkeys(texts) if self.name(text) not in self.answers]
        batches = [unknown[start : start + TEXTS_A_REQUEST] for start in range(0, len(unknown), TEXTS_A_REQUEST)]
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            try:
                for answers in pool.map(self.ask, batches):
                    self.answers.add(*answers)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [self.answers[self.name(text)]["flagged"] for text in texts]

    def name(self, text: str) -> str:
        """Names what the model says of a text."""
        return digest(json.dumps([self.settings.model, text]))

    def ask(self, texts: list[str]) -> list[dict[str, Any]]:
        """The answers to one request."""
        model = self.settings.model
        answer = patiently(lambda: self.client.moderations.create(model=model, input=texts), self.settings)
        results = getattr(answer, "results", None) or []  # something else than such a service may answer
        if len(results) != len(texts):
            raise ServiceError(f"The moderation service judged {len(results)} texts of {len(texts)}.")
        return [{"id": self.name(text), "flagged": flags(result)} for text, result in zip(texts, results, strict=True)]


def flags(result: Any) -> str:
    """The names of what a text is flagged for."""
    if not result.flagged:
        return ""
    named = result.categories.model_dump(by_alias=True)
    return ", ".join(sorted(name for name, flag in named.items() if flag)) or "flagged"

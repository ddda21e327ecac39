"""Texts that no dataset should hold, as a list of words finds them."""

import re
from functools import cache
from pathlib import Path

WORDS = Path(__file__).parent / "moderation.txt"


def listed_word(text: str) -> str | None:
    """The first word or phrase of a text that is on the list of moderation.txt, whole and in any case."""
    found = word_pattern().search(text.lower())
    return found and found.group()


@cache
def word_pattern() -> re.Pattern[str]:
    """The list as one pattern."""
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    words = [re.escape(line) for line in lines if line and not line.startswith("#")]
    return re.compile(rf"\b(?:{'|'.join(words)})\b")

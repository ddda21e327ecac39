"""Rules about one triplet: each gives the reason to drop it in words, or None."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from .moderation import listed_word
from .triplets import Triplet

if TYPE_CHECKING:
    from .cleaning import CleaningSettings

WORD = re.compile(r"[^\W_]+")
FUNCTION_WORDS = frozenset(
    WORD.findall(
        "a an the of in on at with and to by from for into over under up down out as is are was were be been being it"
        " its his her their he she they him them this that these those i me my we us our you your or but not no so than"
        " then there here some any all one very just s t d ll re ve m would could should can will let have has had do"
        " does did please want like make"
    )
)
LABEL = re.compile(r"(?:the )?(?:edit(?:ed)?|instruction|output|input|caption|prompt|answer)s?(?: \w+)?\s*:", re.I)
LIST_ITEM = re.compile(r"(?:\d+[.)]|[-*•])\s")
CODE = re.compile(r"```|\*\*|^\s*[{\[<]|##|%%|<\|")
REFUSAL = re.compile(
    r"(?:i['’]?m|i am|we are) (?:very )?(?:sorry|unable|not able)|(?:sorry|unfortunately),"
    r"|i (?:cannot|can['’]?t|won['’]?t|apologi[sz]e)\b|as an? (?:ai|language model)\b",
    re.I,
)


def unchanged(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The edited caption is the original one but for case, `.!?` and the space around (InstructPix2Pix's own rule)."""
    one, two = (re.sub(r"[.!?]", "", text.strip()).lower() for text in (triplet.original_prompt, triplet.edited_prompt))
    return "the caption stays as it was" if one == two else None


def length(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The instruction is empty or too long, or the edited caption is empty."""
    words = len(triplet.edit_prompt.split())
    if words > settings.max_instruction_words:
        return f"the instruction has {words} words"
    if not words:
        return "the instruction is empty"
    return None if triplet.edited_prompt.strip() else "the edited caption is empty"


def form(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The instruction or the edited caption is no plain line of text but a label, quotation, list, code or refusal."""
    for name, text in (("instruction", triplet.edit_prompt), ("edited caption", triplet.edited_prompt)):
        text = text.strip()
        if "\n" in text:
            return f"the {name} has several lines"
        if REFUSAL.match(text):
            return f"the {name} is a refusal"
        if LABEL.match(text) and not LABEL.match(triplet.original_prompt):
            return f"the {name} has a label before it"
        if is_quoted(text) and not is_quoted(triplet.original_prompt):
            return f"the {name} stands in quotation marks"
        if (LIST_ITEM.match(text) or CODE.search(text)) and not CODE.search(triplet.original_prompt):
            return f"the {name} is written as a list or code"
    return None


def is_quoted(text: str) -> bool:
    """Whether quotation marks are around all of a text, and none within."""
    marks = text[:1] + text[-1:]
    return len(text) > 1 and marks in ('""', "''", "“”", "‘’", "``", "«»") and not set(marks) & set(text[1:-1])


def restates(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The instruction holds nearly all that the original or the edited caption says."""
    instruction = content(triplet.edit_prompt)
    for name, caption in (("original", triplet.original_prompt), ("edited", triplet.edited_prompt)):
        if share(content(caption), instruction) >= settings.max_restated:
            return f"the instruction restates the {name} caption"
    return None


def unrelated(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The edited caption keeps too little of the original one to be of the same picture."""
    kept = share(content(triplet.original_prompt), content(triplet.edited_prompt))
    return f"{kept:.0%} of the caption's words are kept" if kept < settings.min_related else None


def moderation(triplet: Triplet, settings: "CleaningSettings") -> str | None:
    """The list of moderation.txt names something in it."""
    for text in (triplet.original_prompt, triplet.edit_prompt, triplet.edited_prompt):
        if word := listed_word(text):
            return f"the list has {word!r}"
    return None


TRIPLET_RULES: dict[str, Callable[[Triplet, "CleaningSettings"], str | None]] = {
    rule.__name__: rule for rule in (unchanged, length, form, restates, unrelated, moderation)
}
"""The rules by name, in the order in which they are applied."""


def words(text: str) -> list[str]:
    """A text's words but for case and punctuation."""
    return WORD.findall(text.lower())


@lru_cache(maxsize=8)
def content(text: str) -> frozenset[str]:
    """The stems of a text's words that mean something by themselves."""
    return frozenset(stem(word) for word in words(text) if word not in FUNCTION_WORDS)


def stem(word: str) -> str:
    """A word without its ending, so that "snowing" is "snow"."""
    for ending in ("ing", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def share(some: frozenset[str], of: frozenset[str]) -> float:
    """The share of some words that are among others; 1 of none."""
    return len(some & of) / len(some) if some else 1.0

"""What a language model is told and what is read from its answer, for a tuned model in the paper's own format."""

from .triplets import BadAnswerError

SEPARATOR = "\n##\n"
"""Between a caption and its completion (InstructPix2Pix, its released code)."""
MIDDLE = "\n%%\n"
"""Between the instruction and the edited caption."""
STOP = "\nEND"
"""Ends a completion."""


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

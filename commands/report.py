"""What the user is told: results on stdout, and on stderr in one sentence what went wrong."""

import os
import sys
from typing import TextIO

from tqdm import tqdm


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line, by default on stdout; a progress bar that is there stays whole.

    Where nobody reads on, as behind `head`, the work goes on in silence.
    """
    stream = stream or sys.stdout
    try:
        tqdm.write(text, file=stream)
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(error: Exception | str) -> None:
    """Tell on stderr what went wrong."""
    say(f"ip2p: {sentence(error)}", sys.stderr)


def note(text: str) -> None:
    """Tell on stderr what a user should know, though nothing went wrong."""
    say(f"note: {text}", sys.stderr)


def sentence(error: Exception | str) -> str:
    """An error on one line, without Python's or the system's decoration."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or f"{type(error).__name__}."

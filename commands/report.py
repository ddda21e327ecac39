"""What went wrong, told in one sentence."""

import sys

from tqdm import tqdm


def complain(error: Exception) -> None:
    """Tell on stderr what went wrong; a progress bar that is there stays whole."""
    tqdm.write(f"ip2p: {sentence(error)}", file=sys.stderr)


def sentence(error: Exception) -> str:
    """An error on one line, without Python's or the system's decoration."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    return " ".join(str(error).split()) or f"{type(error).__name__}."

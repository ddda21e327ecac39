"""What the libraries' errors say."""

import re

# What the libraries raise for files that hold nonsense; RuntimeError also where memory runs out.
NONSENSE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, without the full stop, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on the device or here. PyTorch tells it as RuntimeError."""
    return isinstance(error, MemoryError) or bool(re.search("out of memory|allocate memory|ALLOC_FAILED", str(error)))

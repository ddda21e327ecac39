"""Which prompt goes with which image, and which rows can share a batch."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def pair(prompts: int, images: int, copies: int) -> list[tuple[int, int]]:
    """The (prompt, image) of each row: prompt i with image i, a single one with all; the copies of a pair together.

    Raises ValueError when the counts don't fit.
    """
    if prompts != images and 1 not in (prompts, images):
        raise ValueError(f"{prompts} prompts and {images} images don't pair up: give as many of each, or one.")
    count = max(prompts, images)
    return [(i if prompts > 1 else 0, i if images > 1 else 0) for i in range(count) for _ in range(copies)]


def same_size(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Row numbers grouped by size, in the order in which the sizes first appear."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, size in enumerate(sizes):
        groups.setdefault(size, []).append(row)
    return list(groups.values())


def per_row(name: str, value: Any, count: int, copies: int = 1) -> list[Any]:
    """A setting given once for all, once per edit of `copies` rows each, or once per row, as a list of one per row."""
    if not isinstance(value, (list, tuple)) and getattr(value, "ndim", 0) != 1:
        return [value] * count
    values = list(value)
    if len(values) * copies == count:
        values = [v for v in values for _ in range(copies)]
    if len(values) != count:
        raise ValueError(f"{name} is a list of {len(values)}, and there are {count}: give one, or as many.")
    return values


def rows(tensor: Tensor, indices: list[int]) -> Tensor:
    """Entry `indices[r]` for each row r, or the only entry there is for all."""
    return tensor.expand(len(indices), *tensor.shape[1:]) if len(tensor) == 1 else tensor[indices]

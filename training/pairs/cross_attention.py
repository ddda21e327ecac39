"""How a target's cross-attention follows its source's: replace, refine and reweight (Hertz et al. 2022, section 3.2).

arXiv 2208.01626. A target's map of each of its tokens is a mixture of the source's maps and of its own; `CrossEdit`
says which, for one pair of captions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTokenizer


@dataclass(frozen=True)
class CrossEdit:
    """The target's maps P' [..., T] from the source's P and its own Q: (P @ mapper)·(1 − own) + Q·own, times weights.

    At step i that counts for a share alpha[i], Q for the rest.
    """

    mapper: Tensor
    """[T, T]: how much of each source token's map each target token takes."""
    own: Tensor
    """[T]: 1 for target tokens that the source lacks and that therefore keep their own map."""
    weights: Tensor
    """[T]: what each target token's map is multiplied by."""
    alpha: Tensor
    """[steps, T]: 1 while the edit holds for a token, then 0."""
    changed: tuple[Tensor, Tensor]
    """[T] bool each: the tokens of the source, and of the target, that the other lacks."""

    def __call__(self, source: Tensor, target: Tensor, step: int) -> Tensor:
        """The edited maps [..., T] of a step."""
        edited = ((source @ self.mapper) * (1 - self.own) + target * self.own) * self.weights
        return torch.lerp(target, edited, self.alpha[step])

    def to(self, device: torch.device) -> "CrossEdit":
        """The same on a device."""
        source, target = self.changed
        return CrossEdit(
            self.mapper.to(device),
            self.own.to(device),
            self.weights.to(device),
            self.alpha.to(device),
            (source.to(device), target.to(device)),
        )


def cross_edit(
    tokenizer: CLIPTokenizer,
    original: str,
    edited: str,
    steps: int,
    cross_replace_steps: float | Mapping[str, float] = 0.8,
    weights: Mapping[str, float] | None = None,
    changed_word_weight: float = 1.0,
) -> CrossEdit:
    """The edit between two captions.

    Captions with the same number of words have each word's maps replaced by those of the word in its place; others are
    refined: words that both have, in order, take the source's maps, words only the target has keep their own.

    cross_replace_steps: share of the steps, or one for each of some words, with "default" for the others
    weights:             multiplies the attention to words of the target (reweight)
    changed_word_weight: likewise, to all words that the source lacks
    """
    source, target = word_tokens(tokenizer, original), word_tokens(tokenizer, edited)
    length = tokenizer.model_max_length
    matches = align(flat(source), flat(target))
    matched_source, matched_target = {i for i, _ in matches}, {j for _, j in matches}
    changed_source = mark([i for i in range(len(flat(source))) if i not in matched_source], length)
    changed_target = mark([j for j in range(len(flat(target))) if j not in matched_target], length)
    if len(source) == len(target):
        mapper, own = replacing(source, target, length), torch.zeros(length)
    else:
        mapper, own = refining(source, target, matches, length), changed_target.float()
    scale = torch.ones(length)
    scale[changed_target] *= changed_word_weight
    for word, weight in (weights or {}).items():
        scale[positions(tokenizer, word, target, length)] *= weight
    shares = cross_replace_steps if isinstance(cross_replace_steps, Mapping) else {"default": cross_replace_steps}
    share = torch.full((length,), float(shares.get("default", 0.0)))
    for word in shares.keys() - {"default"}:
        share[positions(tokenizer, word, target, length)] = shares[word]
    alpha = (torch.arange(steps)[:, None] < share * steps).float()
    return CrossEdit(mapper, own, scale, alpha, (changed_source, changed_target))


def word_tokens(tokenizer: CLIPTokenizer, text: str) -> list[list[int]]:
    """The token ids of each word of a text."""
    return [tokenizer(word, add_special_tokens=False).input_ids for word in text.split()]


def flat(words: list[list[int]]) -> list[int]:
    """All tokens, in order."""
    return [token for word in words for token in word]


def align(source: list[int], target: list[int]) -> list[tuple[int, int]]:
    """Places of tokens that match, in order, as many as there can be.

    Needleman–Wunsch with gap 0, match 1 and mismatch −1: the longest common subsequence, for a mismatch never beats two
    gaps.
    """
    best = [[0] * (len(target) + 1) for _ in range(len(source) + 1)]
    for i in reversed(range(len(source))):
        for j in reversed(range(len(target))):
            same = source[i] == target[j]
            best[i][j] = best[i + 1][j + 1] + 1 if same else max(best[i + 1][j], best[i][j + 1])
    matches, i, j = [], 0, 0
    while i < len(source) and j < len(target):
        if source[i] == target[j]:
            matches.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return matches


def replacing(source: list[list[int]], target: list[list[int]], length: int) -> Tensor:
    """The mapper [T, T] from each word to the word in its place; one of several tokens is shared out evenly."""
    mapper = start_and_end(flat(source), flat(target), length)
    i = j = 1  # behind the start token
    for one, two in zip(source, target, strict=True):
        if len(one) == len(two):
            for k in range(len(one)):
                put(mapper, i + k, j + k, 1.0)
        else:
            for k in range(len(one)):
                for m in range(len(two)):
                    put(mapper, i + k, j + m, 1 / len(two))
        i, j = i + len(one), j + len(two)
    return mapper


def refining(source: list[list[int]], target: list[list[int]], matches: list[tuple[int, int]], length: int) -> Tensor:
    """The mapper [T, T] between tokens that match; new ones take nothing."""
    mapper = start_and_end(flat(source), flat(target), length)
    for i, j in matches:
        put(mapper, i + 1, j + 1, 1.0)
    return mapper


def start_and_end(source: list[int], target: list[int], length: int) -> Tensor:
    """A mapper [T, T] from start to start and from the end token and padding to the end token and padding."""
    mapper = torch.zeros(length, length)
    mapper[0, 0] = 1
    # The end token of a text that is cut is the last.
    source_end, target_end = (min(len(text) + 1, length - 1) for text in (source, target))
    for j in range(target_end, length):
        mapper[min(source_end + j - target_end, length - 1), j] = 1
    return mapper


def put(mapper: Tensor, i: int, j: int, value: float) -> None:
    """Set an entry; what tokens beyond the text encoder's length have to say is lost, as their words are."""
    if i < len(mapper) - 1 and j < len(mapper) - 1:
        mapper[i, j] = value


def mark(places: list[int], length: int) -> Tensor:
    """[T] bool: true at these tokens of a text, which stand behind the start token."""
    marked = torch.zeros(length, dtype=torch.bool)
    marked[[place + 1 for place in places if place + 1 < length - 1]] = True
    return marked


def positions(tokenizer: CLIPTokenizer, word: str, words: list[list[int]], length: int) -> Tensor:
    """[T] bool: where a word stands in a text. Raises ValueError where it does not."""
    tokens = tokenizer(word, add_special_tokens=False).input_ids
    places: list[int] = []
    at = 0
    for each in words:
        if each == tokens:
            places += range(at, at + len(each))
        at += len(each)
    if not places:
        raise ValueError(f"The edited caption has no word {word!r} to weigh.")
    return mark(places, length)

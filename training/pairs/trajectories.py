"""Candidates of one seed as a trunk with branches: what has to be computed at each step, and nothing twice.

The source does not depend on p, and targets agree until the smaller p ends. So a group is the source, one target under
Prompt-to-Prompt (the trunk), and from it at the end of each p a branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .candidates import SeedGroup
from .render_settings import RenderSettings


class Row(NamedTuple):
    """A sample of the U-Net's batch: a picture of a group, under its caption or under the null text."""

    group: int
    picture: int
    """0 is the source, the others are targets."""
    conditional: bool


Unit = list[Row]
"""Rows that must be in one batch, a target's with its source's."""


@dataclass(frozen=True)
class Branches:
    """The distinct pictures of a group."""

    ends: tuple[int, ...]
    """The first step that each distinct target is free of its source, rising; target j is picture j + 1."""
    target_of: tuple[int, ...]
    """For each p, its target's picture: ps that end at the same step give the same one."""

    @property
    def trunk(self) -> int:
        """The target that is under Prompt-to-Prompt for longest."""
        return len(self.ends)

    def targets(self, step: int) -> list[int]:
        """The targets that are computed at a step: free ones, and the trunk."""
        return [j for j, end in enumerate(self.ends, 1) if end <= step or j == self.trunk]

    def leaving(self, step: int) -> list[int]:
        """The targets that leave the trunk at a step."""
        return [j for j, end in enumerate(self.ends, 1) if end == step and j != self.trunk]

    def injected(self, step: int) -> list[int]:
        """The targets that take their source's self-attention at a step: the trunk, or none."""
        return [self.trunk] if self.ends[-1] > step else []


def branches(group: SeedGroup, settings: RenderSettings) -> Branches:
    """The distinct pictures of a group. A target is under Prompt-to-Prompt at step i while p > i / (n − 1)."""
    n = settings.steps
    ended = [0 if settings.method == "none" else sum(p > i / (n - 1) for i in range(n)) for p in group.ps]
    ends = tuple(sorted(set(ended)))
    return Branches(ends, tuple(ends.index(end) + 1 for end in ended))


def units(number: int, group: Branches, step: int, settings: RenderSettings) -> list[Unit]:
    """What a group adds to a step, as units. Pictures that need nothing of each other are units of their own."""
    targets = group.targets(step)
    if edits_words(step, settings):
        together = [[0, *targets]]
    else:
        injected = group.injected(step)
        together = [[0, *injected], *([j] for j in targets if j not in injected)]
    return [[Row(number, j, half) for half in (False, True) for j in pictures] for pictures in together]


def edits_words(step: int, settings: RenderSettings) -> bool:
    """Whether every target follows its source's cross-attention at a step, or is blended with it."""
    return settings.method == "full" and (step < settings.cross_replace_steps * settings.steps or settings.local_blend)


def packed(units: Sequence[Unit], size: int) -> list[list[Row]]:
    """Units in batches of up to `size` rows, in order; one that is larger has a batch of its own."""
    batches: list[list[Row]] = []
    for unit in units:
        if batches and len(batches[-1]) + len(unit) <= size:
            batches[-1] = batches[-1] + unit
        else:
            batches.append(list(unit))
    return batches


def count_evaluations(groups: Sequence[SeedGroup], settings: RenderSettings) -> int:
    """How many samples the U-Net evaluates for the groups of a triplet."""
    drawn = [branches(group, settings) for group in groups]
    return sum(2 * (1 + len(group.targets(step))) for group in drawn for step in range(settings.steps))

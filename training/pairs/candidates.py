"""What is drawn for a triplet: candidates in groups that share a seed, and what becomes of each.

A triplet is named by its text, and all that is drawn for it follows from (run seed, triplet, group), so every engine,
worker and interruption gives the same candidates.
"""

import hashlib
import random
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairTriplet:
    """The texts that a pair is made for."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    kind: str = ""
    inverse_prompt: str = ""
    """The instruction that leads back; "" where there is none."""

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the texts' hash."""
        return digest("\n".join((self.original_prompt, self.edit_prompt, self.edited_prompt)))


@dataclass(frozen=True)
class SeedGroup:
    """Candidates that share their noise and guidance scale, hence the source picture."""

    seed: int
    """Seeds the first noise and that of every step, of both pictures."""
    guidance_scale: float
    """Classifier-free guidance of both pictures."""
    ps: tuple[float, ...]
    """Each candidate's share of the steps under Prompt-to-Prompt, rising."""


@dataclass(kw_only=True)
class DrawSettings:
    """How the candidates of a triplet are drawn."""

    seeds: int = 12
    """Seeds of each triplet."""
    per_seed: int = 4
    """Candidates of each seed, which differ in p."""
    p: tuple[float, float] = (0.1, 0.9)
    """Least and most of the share of steps under Prompt-to-Prompt (the paper's)."""
    guidance: tuple[float, float] = (7.5, 15.0)
    """Least and most guidance scale (the original code's)."""
    seed: int = 0
    """Seed of everything drawn."""

    def __post_init__(self) -> None:
        for name in ("seeds", "per_seed"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}.")
        if not 0 <= self.p[0] <= self.p[1] <= 1:
            raise ValueError(f"--p is two shares of the steps, least and most, from 0 to 1, not {self.p}.")
        if not 0 <= self.guidance[0] <= self.guidance[1]:
            raise ValueError(f"--guidance is two scales, least and most, from 0, not {self.guidance}.")


def draw_groups(triplet: PairTriplet, settings: DrawSettings) -> list[SeedGroup]:
    """The groups of a triplet.

    Within a group the range of p is cut into as many equal parts as there are candidates, and each part gives one at
    random: every p is as likely as the paper's, and no two of a seed are wasted on much the same p.
    """
    groups = []
    for number in range(settings.seeds):
        rng = random.Random(f"{settings.seed}/{triplet.id}/{number}")
        low, high = settings.p
        width = (high - low) / settings.per_seed
        ps = tuple(low + width * (part + rng.random()) for part in range(settings.per_seed))
        groups.append(SeedGroup(rng.getrandbits(48), rng.uniform(*settings.guidance), ps))
    return groups


@dataclass(frozen=True)
class Rendered:
    """The pictures of a group, [H, W, 3] uint8: one source, and a target for each p."""

    source: np.ndarray
    targets: list[np.ndarray]
    masks: list[np.ndarray | None]
    """Where the edit was let happen, [H, W] uint8 of 0 and 255, for each p; None where it was everywhere."""


@dataclass(frozen=True)
class Scores:
    """CLIP similarities of a candidate, cosines from -1 to 1."""

    original_caption_similarity: float
    edited_caption_similarity: float
    image_similarity: float
    directional_similarity: float


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of a text's hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

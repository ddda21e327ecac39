"""Samples of the shapes world, methods without a model, and their stores."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ip2p.training.evaluate.clip_scores import ClipJudge
from ip2p.training.evaluate.metrics import Metrics
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sources import shapes_samples
from ip2p.training.evaluate.store import Store, Task
from ip2p.training.pairs.clip_filter import ClipScorer
from ip2p.training.shapes.render import render
from PIL import Image


def samples(count: int = 8) -> list[Sample]:
    return shapes_samples(count)


class Killed(BaseException):
    """What nothing catches."""


@dataclass
class Painted:
    """Gives the right picture with the dial at 1, the one before at 0, and a mixture between; counts its work.

    most: edits after which the process ends, as far as a test can
    """

    name: str = "painted"
    dial: str = "share"
    most: int = 1000
    captions: tuple[str, ...] = ()
    one_by_one: bool = False
    made: list[tuple[str, float, int]] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"painted": self.name}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Any, seeds: Sequence[int]
    ) -> list[Image.Image]:
        if len(self.made) >= self.most:
            raise Killed
        edited = []
        for sample, picture, seed in zip(samples, pictures, seeds, strict=True):
            self.made.append((sample.id, setting["share"], seed))
            wanted = Image.fromarray(render(sample.edit.target)) if sample.edit else picture
            edited.append(Image.blend(picture, wanted, setting["share"]))
        return edited

    def free(self) -> None:
        self.freed = True


def tasks(*shares: float, method: Any = None) -> list[Task]:
    method = method or Painted()
    return [Task(method, {"share": share}, 0) for share in shares]


def store(folder: Path, process: int = 0) -> Store:
    return Store(folder, "png", process)


def clip(as_published: bool = False) -> ClipJudge:
    return ClipJudge(ClipScorer("shapes", None), as_published)


def metrics(**given: Any) -> Metrics:
    return Metrics(**{"pixels": True, **given})


def noise(seed: int, height: int = 48, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)

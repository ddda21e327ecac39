"""CLIP models that score edits, loaded once and in ComfyUI's memory management."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .editing import one_of

# open_clip's names of model and weights.
MODELS = {
    "ViT-L-14 (openai)": ("ViT-L-14", "openai"),
    "ViT-B-32 (openai)": ("ViT-B-32", "openai"),
    "ViT-H-14 (laion2b)": ("ViT-H-14", "laion2b_s32b_b79k"),
    "shapes": ("shapes", None),
}


def clip_input() -> Any:
    """Which CLIP model scores."""
    return io.Combo.Input(
        "clip_model",
        options=list(MODELS),
        tooltip="Scores how the picture changed. Downloaded once; “shapes” comes with ip2p and knows its shapes only.",
    )


class Clip:
    """A ClipScorer under management."""

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer
        self.patcher = runtime.managed({"clip": scorer.model})

    def ready(self) -> Any:
        """A `ClipJudge` of it, on the device."""
        from ..training.evaluate.clip_scores import ClipJudge

        runtime.load(self.patcher)
        self.scorer.device = self.patcher.load_device
        return ClipJudge(self.scorer)


_loaded: WeakValueDictionary[str, Clip] = WeakValueDictionary()
_last: list[Clip] = []  # the one that was used last stays, since no wire between nodes holds it


def load_clip(name: str) -> Clip:
    """The model of that name in `MODELS`. Raises ValueError or MemoryError in a sentence."""
    from ..training.pairs.clip_filter import ClipScorer

    one_of(name, MODELS, "clip_model")
    clip = _loaded.get(name)
    if clip is None:
        with runtime.ordinary_tensors():
            clip = Clip(ClipScorer(*MODELS[name]))
        _loaded[name] = clip
    _last[:] = [clip]
    return clip


def as_arrays(pictures: Sequence[Tensor]) -> list[np.ndarray]:
    """Pictures [C,H,W] in 0..1 as [H,W,3] uint8."""
    from ..ip2p_pipeline.image_io import to_pil

    return [np.array(to_pil(picture).convert("RGB")) for picture in pictures]

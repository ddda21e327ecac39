"""The node that measures an edit with CLIP."""

import json
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .clip import as_arrays, clip_input, load_clip
from .pictures import pictures_of

SCORES = ("directional_similarity", "image_similarity", "caption_similarity")


class Ip2pScore(io.ComfyNode):
    """Scores pictures before and after."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p score", "clip score", "clip directional similarity", "evaluate edit", "metric"],
            node_id="Ip2pScore",
            display_name="InstructPix2Pix Score",
            description="Measures an edit with CLIP: did the picture change as the captions do, and is it still the "
            "same picture? From −1 to 1; of several pictures the mean.",
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after"),
                io.String.Input(
                    "original_caption", default="", placeholder="a photo of a dog", tooltip="What `before` shows."
                ),
                io.String.Input(
                    "edited_caption", default="", placeholder="a photo of a cat", tooltip="What `after` should show."
                ),
                clip_input(),
            ],
            outputs=[
                io.Float.Output(
                    display_name="directional", tooltip="Of the pictures' change with the captions' change."
                ),
                io.Float.Output(display_name="image", tooltip="Of the two pictures with each other."),
                io.Float.Output(display_name="caption", tooltip="Of the picture after with its caption."),
                io.String.Output(display_name="scores", tooltip="Of each picture, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, before: Tensor, after: Tensor, original_caption: str, edited_caption: str, clip_model: str) -> Any:
        """Score each pair; one picture before goes with all after."""
        if not original_caption.strip() or not edited_caption.strip():
            raise ValueError("Both captions are needed: say what the picture shows before, and what it should after.")
        one, two = pictures_of(before), pictures_of(after)
        if len(one) == 1:
            one = one * len(two)
        if len(one) != len(two):
            raise ValueError(f"{len(one)} pictures before don't go with {len(two)} after: give one, or as many.")
        captions = [(original_caption, edited_caption)] * len(two)
        rows = load_clip(clip_model).ready().score(as_arrays(one), as_arrays(two), captions)
        means = (sum(row[name] for row in rows) / len(rows) for name in SCORES)
        return io.NodeOutput(*means, json.dumps(rows, indent=1))

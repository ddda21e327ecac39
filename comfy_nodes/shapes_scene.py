"""The node that draws something to edit, for the model that comes with ip2p."""

import random
from typing import Any

import torch
from comfy_api.latest import io

from . import runtime
from .editing import one_of

# As in training.shapes.edits.KINDS, which would load numpy and more; a test compares the two.
KINDS = ["recolor", "reshape", "resize", "background", "remove", "add", "swap", "move"]


class Ip2pShapesScene(io.ComfyNode):
    """Draws a random scene and says how to edit it."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p example", "try", "shapes", "test picture", "demo"],
            node_id="Ip2pShapesScene",
            display_name="InstructPix2Pix Shapes Scene",
            description="Draws shapes, with an instruction that fits: all that the model “shapes” needs to try things "
            "out.",
            inputs=[
                io.Combo.Input("kind", options=KINDS, tooltip="What the instruction asks for."),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**32 - 1, control_after_generate=True, tooltip="Which scene."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.String.Output(display_name="instruction"),
                io.String.Output(display_name="original_caption", tooltip="What the picture shows."),
                io.String.Output(display_name="edited_caption", tooltip="What it should show after the edit."),
            ],
        )

    @classmethod
    def execute(cls, kind: str, seed: int) -> Any:
        """Draw."""
        from ..training.shapes.edits import random_edit
        from ..training.shapes.render import render

        one_of(kind, KINDS, "kind")
        edit = random_edit(random.Random(seed), kind)
        image = torch.from_numpy(render(edit.source)).float()[None] / 255
        return io.NodeOutput(image, edit.edit_prompt, edit.original_prompt, edit.edited_prompt)

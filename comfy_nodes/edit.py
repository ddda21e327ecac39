"""The node that edits pictures by instruction."""

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .editing import Edit, as_text, edited
from .editor import Editor, editor_of
from .pictures import batch_of, masks_of, pictures_of
from .widgets import advanced_inputs, mask_inputs, sampling_inputs, scale_inputs, source_inputs


class Ip2pEdit(io.ComfyNode):
    """Edits each picture of a batch."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p", "instruct pix2pix", "edit by instruction", "instruction", "img2img", "change picture"],
            node_id="Ip2pEdit",
            display_name="InstructPix2Pix Edit",
            description="Edits pictures by an instruction: “make it winter”, “turn the car red”.",
            inputs=[*source_inputs(), *scale_inputs(), *sampling_inputs(), *mask_inputs(), *advanced_inputs()],
            outputs=[
                io.Image.Output(display_name="image"),
                io.String.Output(display_name="settings", tooltip="What made the result, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, model: Editor, image: Tensor, scheduler: str, mask: Tensor | None = None, **settings: Any) -> Any:
        """Edit one picture after the other, so that none depends on its neighbours."""
        edit = Edit(scheduler=scheduler, **settings)
        pictures = pictures_of(image)
        masks = masks_of(mask, pictures)
        pipe = editor_of(model).ready(edit, pictures[0])
        watch = runtime.progress(pipe, len(pictures))
        results = []
        for number, (picture, where) in enumerate(zip(pictures, masks, strict=True)):
            results.append(edited(pipe, edit.with_seed(number), picture, where, watch(number)))
        return io.NodeOutput(batch_of(results), as_text(model.name, edit))

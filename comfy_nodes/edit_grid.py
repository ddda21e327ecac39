"""The node that makes one edit at several guidance scales."""

from itertools import product
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .editing import Edit, as_text, edited, numbers
from .editor import Editor, editor_of
from .pictures import batch_of, image_of, pictures_of
from .widgets import advanced_inputs, sampling_inputs, source_inputs

MOST_CELLS = 400


class Ip2pEditGrid(io.ComfyNode):
    """Shows what the two scales do to an edit."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p grid", "xy plot", "compare scales", "guidance sweep"],
            node_id="Ip2pEditGrid",
            display_name="InstructPix2Pix Edit Grid",
            description="One edit at several values of both guidance scales, from the same noise: to find what suits "
            "a picture.",
            inputs=[
                *source_inputs(),
                io.String.Input(
                    "guidance_scales", default="3, 5, 7.5, 10", tooltip="The columns: s_T, how the instruction counts."
                ),
                io.String.Input(
                    "image_guidance_scales",
                    default="1, 1.25, 1.5, 2",
                    tooltip="The rows: s_I, how the picture counts.",
                ),
                *sampling_inputs(),
                *advanced_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="All edits, row by row."),
                io.Image.Output(display_name="sheet", tooltip="All on one sheet with their scales."),
                io.String.Output(display_name="settings", tooltip="What made the results, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Editor,
        image: Tensor,
        guidance_scales: str,
        image_guidance_scales: str,
        scheduler: str,
        **settings: Any,
    ) -> Any:
        """Edit the first picture at each pair of scales."""
        from ..ip2p_pipeline.image_io import to_pil
        from ..ip2p_pipeline.sheet import grid_sheet

        columns = numbers(guidance_scales, "guidance_scales")
        rows = numbers(image_guidance_scales, "image_guidance_scales")
        if len(rows) * len(columns) > MOST_CELLS:
            raise ValueError(f"{len(rows)} × {len(columns)} edits are too many for one sheet: at most {MOST_CELLS}.")
        edits = [
            Edit(guidance_scale=s_text, image_guidance_scale=s_image, scheduler=scheduler, **settings)
            for s_image, s_text in product(rows, columns)
        ]
        picture = pictures_of(image)[0]
        pipe = editor_of(model).ready(edits[0], picture)
        watch = runtime.progress(pipe, len(edits))
        cells = [edited(pipe, edit, picture, None, watch(number)) for number, edit in enumerate(edits)]
        drawn = [to_pil(cell.float().cpu()) for cell in cells]
        sheet = grid_sheet(
            to_pil(picture[:3].float().cpu()),
            [drawn[at : at + len(columns)] for at in range(0, len(drawn), len(columns))],
            title=edits[0].instruction,
            note=f"s_T = guidance_scale, s_I = image_guidance_scale; model {model.name}, seed {edits[0].seed}",
            row_names=[f"s_I {s_image:g}" for s_image in rows],
            column_names=[f"s_T {s_text:g}" for s_text in columns],
        )
        told = as_text(model.name, edits[0], guidance_scale=columns, image_guidance_scale=rows)
        return io.NodeOutput(batch_of(cells), image_of(sheet), told)

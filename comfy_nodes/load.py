"""The node that loads an editor."""

import re
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..ip2p_pipeline.inside import INSIDE
from . import runtime
from .editing import one_of
from .editor import Ip2pModel, load_editor

HUB = "from Hugging Face ↓"
COMES_WITH = {f"{name} (comes with ip2p)": name for name in INSIDE}
DTYPES = ["auto", "float32", "float16", "bfloat16"]


class Ip2pLoad(io.ComfyNode):
    """Loads an InstructPix2Pix model for the Edit nodes."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        found = [*runtime.diffusers_folders(), *runtime.files("checkpoints")]
        return runtime.schema(
            ["ip2p", "instruct pix2pix", "load editor", "checkpoint", "diffusers"],
            node_id="Ip2pLoad",
            display_name="Load InstructPix2Pix",
            description="Loads a model that edits pictures by instruction: a diffusers folder, a checkpoint file, or "
            "one from Hugging Face.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[*COMES_WITH, HUB, *found],
                    tooltip="What lies in ComfyUI's models/diffusers and models/checkpoints, a small model to try "
                    "things out, or one from Hugging Face, named below.",
                ),
                io.String.Input(
                    "hub_id",
                    default="timbrooks/instruct-pix2pix",
                    tooltip="The model on Hugging Face, where that is chosen above. It is downloaded once.",
                ),
                runtime.advanced(
                    io.String.Input("revision", default="", tooltip="A branch, tag or commit; empty for the newest.")
                ),
                runtime.advanced(
                    io.Combo.Input(
                        "dtype",
                        options=DTYPES,
                        default="auto",
                        tooltip="The numbers' precision. auto: what ComfyUI takes on this machine.",
                    )
                ),
            ],
            outputs=[
                Ip2pModel.Output(display_name="model"),
                io.Float.Output(display_name="guidance_scale", tooltip="What the model's author recommends."),
                io.Float.Output(display_name="image_guidance_scale", tooltip="What the model's author recommends."),
                io.Int.Output(display_name="steps", tooltip="What the model's author recommends."),
            ],
        )

    @classmethod
    def execute(cls, model: str, hub_id: str, revision: str = "", dtype: str = "auto") -> Any:
        """Load, and tell what the model's author recommends."""
        one_of(dtype, DTYPES, "dtype")
        source, revision_asked = source_of(model, hub_id), revision.strip() or None
        editor = load_editor(source, revision_asked if model == HUB else None, dtype, stamp(source))
        pipe = editor.loaded.pipe
        names = ("guidance_scale", "image_guidance_scale", "num_inference_steps")
        return io.NodeOutput(editor, *(pipe.recommended(name) for name in names))

    @classmethod
    def fingerprint_inputs(cls, model: str, hub_id: str, **_: Any) -> Any:
        """Changes when the model's files do, so that it is loaded again."""
        return stamp(source_of(model, hub_id))


def source_of(model: str, hub_id: str) -> str:
    """What is chosen, as `open_model` takes it. Raises FileNotFoundError or ValueError in a sentence."""
    if model in COMES_WITH:
        return COMES_WITH[model]
    if model == HUB:
        if not hub_id.strip():
            raise ValueError("hub_id is empty: name a model on Hugging Face, such as timbrooks/instruct-pix2pix.")
        # A path would let a workflow look about this machine.
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", hub_id.strip()):
            raise ValueError(
                f"hub_id is owner/name of a model on Hugging Face, not {hub_id}: put a model of this machine into "
                "models/diffusers or models/checkpoints, and choose it above."
            )
        return hub_id.strip()
    if not isinstance(model, str):
        raise ValueError(f"model is a model's name, not {model}.")
    folder = runtime.diffusers_folders().get(model)
    return str(folder or runtime.file_path("checkpoints", model))


def stamp(source: str) -> float:
    """When the newest file of a model on this machine changed; 0 for others."""
    path = Path(source)
    if not path.is_absolute():
        return 0.0
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return max((each.stat().st_mtime for each in files), default=0.0)

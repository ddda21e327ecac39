"""The node that adds a LoRA to an editor."""

from typing import Any

from comfy_api.latest import io

from . import runtime
from .editor import Editor, Ip2pModel, Lora, editor_of
from .load import stamp


class Ip2pLoadLora(io.ComfyNode):
    """Adds a LoRA; several in a row add up."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p lora", "adapter", "style"],
            node_id="Ip2pLoadLora",
            display_name="Load InstructPix2Pix LoRA",
            description="Adds a LoRA to the model, of `ip2p train`, diffusers or kohya. Put several in a row to stack "
            "them. The model's weights stay as they are, and are not copied.",
            inputs=[
                Ip2pModel.Input("model"),
                io.Combo.Input("lora", options=runtime.files("loras"), tooltip="What lies in ComfyUI's models/loras."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much it counts: 0 is not at all, 1 is as it was trained.",
                ),
            ],
            outputs=[Ip2pModel.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: Editor, lora: str, strength: float) -> Any:
        """Add it; it is read when the model is next used."""
        path = runtime.file_path("loras", lora)
        editor = editor_of(model)
        return io.NodeOutput(editor if strength == 0 else editor.with_lora(Lora(path, strength, stamp(str(path)))))

    @classmethod
    def fingerprint_inputs(cls, lora: str, **_: Any) -> Any:
        """Changes when the file does, as while it is being trained."""
        return stamp(str(runtime.file_path("loras", lora)))

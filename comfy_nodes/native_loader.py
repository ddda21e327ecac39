"""The node that loads diffusers folders into ComfyUI's own MODEL, CLIP and VAE."""

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from safetensors import safe_open

from ..ip2p_pipeline.original_layout import UNET, original_layout
from . import runtime
from .load import stamp

GROUPS = 32  # of ComfyUI's normalisation, in every U-Net
UNKNOWN = "ComfyUI has no architecture like that of {}: use Load InstructPix2Pix and InstructPix2Pix Edit for it."


class Ip2pNativeLoader(io.ComfyNode):
    """Loads what fine-tuning writes, which ComfyUI itself can't detect."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p native", "diffusers loader", "load checkpoint", "8 channels"],
            node_id="Ip2pNativeLoader",
            display_name="Load InstructPix2Pix (native)",
            description="Loads an InstructPix2Pix model in diffusers' layout as ComfyUI's own MODEL, CLIP and VAE, for "
            "its samplers, LoRAs, ControlNets and InstructPix2Pix Guider.",
            inputs=[
                io.Combo.Input(
                    "model", options=list(runtime.diffusers_folders()), tooltip="What lies in models/diffusers."
                )
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, model: str) -> Any:
        """Rename the weights, and let ComfyUI load them."""
        folder = runtime.diffusers_folders().get(model)
        if folder is None:
            raise FileNotFoundError(
                f"There is no folder {model} in ComfyUI's models/diffusers: press R to see what is."
            )
        import comfy.model_detection
        import comfy.sd

        from ..ip2p_pipeline.named_models import open_model

        with runtime.ordinary_tensors():
            pipe = open_model(str(folder), stored_dtype(folder), torch.device("cpu")).pipe
            if pipe.unet.config.norm_num_groups != GROUPS:
                raise ValueError(UNKNOWN.format(model))
            weights = {name: tensor.detach() for name, tensor in original_layout(pipe).items()}
            predicts_v = not pipe.is_xl and pipe.scheduler.config.get("prediction_type") == "v_prediction"
            del pipe
            if comfy.model_detection.model_config_from_unet(weights, UNET) is None:
                raise ValueError(UNKNOWN.format(model))
        embeddings = folder_paths.get_folder_paths("embeddings")
        loaded, clip, vae, _ = comfy.sd.load_state_dict_guess_config(weights, embedding_directory=embeddings)
        shown_the_picture(loaded.model)
        if predicts_v:
            predict_v(loaded.model)
        return io.NodeOutput(loaded, clip, vae)

    @classmethod
    def fingerprint_inputs(cls, model: str) -> Any:
        """Changes when the model's files do."""
        folder = runtime.diffusers_folders().get(model)
        return stamp(str(folder)) if folder else 0.0


def shown_the_picture(model: Any) -> None:
    """Make a model of SD 2.x one of InstructPix2Pix: by its channels ComfyUI takes it for one that fills holes."""
    import comfy.model_base

    if not hasattr(model, "process_ip2p_image_in"):
        model.__class__ = comfy.model_base.SD15_instructpix2pix
        model.concat_keys = ()
        model.process_ip2p_image_in = lambda image: image


def predict_v(model: Any) -> None:
    """Say that an SD model predicts the velocity, which ComfyUI can't see from the weights."""
    from comfy.model_base import ModelType, model_sampling

    model.model_type = ModelType.V_PREDICTION
    model.model_sampling = model_sampling(model.model_config, ModelType.V_PREDICTION)


def stored_dtype(folder: Path) -> torch.dtype:
    """In which the folder's U-Net is, so that loading neither loses nor adds bits."""
    file = next((folder / "unet").glob("*.safetensors"), None)
    if file is None:
        return torch.float32
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(next(iter(tensors.keys()))).dtype

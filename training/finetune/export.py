"""What a training gives: a diffusers folder, a LoRA's file, a single file in the original layout."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from peft.utils import get_peft_model_state_dict

from ...ip2p_pipeline.distilled import is_distilled
from ...ip2p_pipeline.original_layout import original_layout
from ..checkpoints import write_tensors
from ..files import room_for
from .settings import FinetuneSettings
from .trainee import ADAPTER


def export(pipe: Any, folder: Path, settings: FinetuneSettings) -> list[Path]:
    """Write a trained pipeline, the weights in it being those to publish; what was written.

    pipeline/                             our pipeline and diffusers' own load it; a LoRA is merged into it
    lora/pytorch_lora_weights.safetensors a LoRA by itself, for the widened model that training began with; but not of a
                                          distilled one: no other takes scales
    model.safetensors                     with --single-file, in half precision

    The pipeline's U-Net is left as it is published.
    """
    written = [folder / "pipeline"]
    if settings.train == "lora":
        if not is_distilled(pipe.unet):
            layers, config = get_peft_model_state_dict(pipe.unet), pipe.unet.peft_config[ADAPTER]
            # Without it, diffusers before 0.42 take one alpha for layers of any rank.
            told = {name: getattr(config, name) for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern")}
            told["target_modules"] = sorted(config.target_modules)
            with room_for(folder / "lora"):
                StableDiffusionInstructPix2PixPipeline.save_lora_weights(
                    folder / "lora", unet_lora_layers=layers, unet_lora_adapter_metadata=told
                )
            written.append(folder / "lora")
        pipe.unet.fuse_lora()
        pipe.unet.unload_lora()
    pipe.unet.eval().to(memory_format=torch.contiguous_format)
    with room_for(folder / "pipeline"):
        pipe.save_pretrained(folder / "pipeline")
    if settings.single_file:
        tensors = {name: tensor.detach().cpu().half() for name, tensor in original_layout(pipe).items()}
        write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
        written.append(folder / "model.safetensors")
    return written

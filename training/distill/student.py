"""The student that a distillation begins with: its teacher, given the scales as inputs."""

from typing import Any

import torch
from diffusers import LCMScheduler

from ...ip2p_pipeline.distilled import is_distilled
from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline
from .settings import DistilSettings

EMBEDDING = 512  # numbers that tell both scales; diffusers' LCM has 256 for one
# LCM-LoRA's (Luo et al. 2023, arXiv 2311.05556, as diffusers trains it), and what reads the picture and the scales.
LORA_LAYERS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj", "conv_in", "cond_proj",
]  # fmt: skip

Range = tuple[float, float]


def distillable(pipe: Any, guidance_scales: Range, image_guidance_scales: Range) -> Any:
    """Give an editor's U-Net, in place, the scales as inputs; the pipeline around it.

    The new weights are zero: at first it predicts what its branch with picture and instruction did, at any scale. One
    that has such inputs stays as it is.

    Where the checkpoint recommends no scales, the usual ones hold if they are learnt, else those in the middle.

    Raises ValueError where the scales that it recommends are not among those that are to be learnt.
    """
    if is_distilled(pipe.unet):
        return pipe
    learnt = {"guidance_scale": guidance_scales, "image_guidance_scale": image_guidance_scales}
    says: dict[str, Any] = {"distilled_scales": {name: list(each) for name, each in learnt.items()}}
    for name, (low, high) in learnt.items():
        usual = pipe.recommended(name)
        if low <= usual <= high:
            continue
        if pipe.config[f"default_{name}"] is None:
            says[f"default_{name}"] = (low + high) / 2
        else:
            raise ValueError(
                f"--{name.replace('_', '-')}s {low:g} {high:g} leaves out {usual:g}, which the model recommends: the "
                "student could not edit as its teacher does."
            )
    embedding = pipe.unet.time_embedding
    scales = torch.nn.Linear(EMBEDDING, embedding.linear_1.in_features, bias=False).to(embedding.linear_1.weight)
    torch.nn.init.zeros_(scales.weight)
    embedding.cond_proj = scales
    pipe.unet.register_to_config(time_cond_proj_dim=EMBEDDING)
    return InstructPix2PixPipeline.from_pipe(pipe, **says)


def for_few_steps(pipe: Any, settings: DistilSettings) -> Any:
    """The pipeline with the sampler of a consistency model, and the steps that it takes unless a call says."""
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config, original_inference_steps=settings.segments)
    pipe.register_to_config(default_num_inference_steps=settings.few_steps)
    return pipe

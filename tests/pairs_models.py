"""A tiny text-to-image model with random weights, and its renderer."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from ip2p.training.pairs.checkpoint import Base
from ip2p.training.pairs.render_settings import RenderSettings
from ip2p.training.pairs.renderer import Renderer
from tiny_models import SD_SCHEDULE, listening, sd_components, sdxl_components, unet


@cache
def base_pipeline() -> StableDiffusionPipeline:
    components = sd_components()
    # Attention at two resolutions, which full Prompt-to-Prompt tells apart.
    blocks = {"down_block_types": ["CrossAttnDownBlock2D"] * 2, "up_block_types": ["CrossAttnUpBlock2D"] * 2}
    torch.manual_seed(1)
    components["unet"] = listening(UNet2DConditionModel.from_config({**unet(in_channels=4).config, **blocks})).eval()
    components["scheduler"] = DDIMScheduler(**SD_SCHEDULE)
    pipe = StableDiffusionPipeline(**components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@cache
def xl_pipeline() -> StableDiffusionXLPipeline:
    components = sdxl_components()
    config = {**components["unet"].config, "in_channels": 4}
    torch.manual_seed(1)
    components["unet"] = listening(UNet2DConditionModel.from_config(config)).eval()
    pipe = StableDiffusionXLPipeline(**components, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_base(folder: Path) -> Path:
    base_pipeline().save_pretrained(folder)
    return folder


def renderer(pipe: Any = None, **settings: Any) -> Renderer:
    return Renderer(Base(pipe or base_pipeline()), RenderSettings(**{"steps": 7, **settings}))

"""Tiny guidance-distilled checkpoints: random models whose U-Net takes both scales as inputs."""

from typing import Any

import torch
from ip2p import InstructPix2PixPipeline
from ip2p.training.distill.student import distillable
from tiny_models import sd_pipeline, sdxl_pipeline


def distilled(xl: bool = False, **settings: Any) -> InstructPix2PixPipeline:
    """A pipeline whose scales change what its U-Net predicts, by random weights; learnt: s_T 1 to 10, s_I 0.5 to 3."""
    pipe = distillable(sdxl_pipeline(**settings) if xl else sd_pipeline(**settings), (1.0, 10.0), (0.5, 3.0))
    torch.manual_seed(5)
    torch.nn.init.normal_(pipe.unet.time_embedding.cond_proj.weight, std=0.5)
    pipe.set_progress_bar_config(disable=True)
    return pipe

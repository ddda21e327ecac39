"""A distillation from its settings to what it gives."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers import LCMScheduler

from ...ip2p_pipeline.distilled import SCALES, is_distilled
from ...ip2p_pipeline.text import Text
from ..finetune.model import load_start
from ..finetune.run import Method, Say, train
from ..finetune.trainee import Loss
from .losses import ConsistencyLoss, GuidanceLoss
from .settings import DistilSettings
from .student import LORA_LAYERS, distillable, for_few_steps
from .teacher import Teacher


def distil(settings: DistilSettings, folder: Path, say: Say) -> list[Path]:
    """Distil, from the checkpoint in the folder on if there is one; what was written. As `finetune`."""
    return train(Distillation(settings), folder, say)


class Distillation(Method):
    """An editor learns from itself: both scales as inputs, or to edit in few steps."""

    def __init__(self, settings: DistilSettings) -> None:
        super().__init__(settings.finetuning())
        self.told, self.own, self.kind = settings, settings, DistilSettings
        self.settings.lora_layers = settings.lora_layers or LORA_LAYERS
        self.teacher: Any = None

    def start(self) -> Any:
        """The student, as it is before it learns; its teacher is kept.

        Raises ValueError for a text-to-image model, and for an editor that has learnt the stage, or few steps, already.
        """
        pipe = load_start(self.own.model, self.own.vae, editor=True)
        if isinstance(pipe.scheduler, LCMScheduler):
            raise ValueError(
                f"{self.own.model} edits in few steps already, which no teacher does: distil the editor that it was "
                "distilled from."
            )
        if self.own.stage == "guidance" and is_distilled(pipe.unet):
            raise ValueError(f"The guidance of {self.own.model} is distilled already: go on with --stage steps.")
        if self.teacher is None:
            self.teacher = deepcopy(pipe.unet)
        pipe = distillable(pipe, self.own.guidance_scales, self.own.image_guidance_scales)
        s_text, s_image = (tuple(pipe.config.distilled_scales[name]) for name in SCALES)
        self.scales = s_text, s_image
        return for_few_steps(pipe, self.own) if self.own.stage == "steps" else pipe

    def loss(self, pipe: Any, empty: Callable[[], Text], device: torch.device, dtype: torch.dtype) -> Loss:
        """The stage's."""
        common = pipe.scheduler.config, self.settings, device, Teacher(self.teacher, empty(), device, dtype)
        if self.own.stage == "guidance":
            return GuidanceLoss(*common)
        return ConsistencyLoss(*common, self.own.segments, self.own.teacher_steps, self.own.huber_c)

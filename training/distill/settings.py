"""The settings of a distillation. Nothing heavy is imported here."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..finetune.settings import (
    DataSettings,
    FinetuneSettings,
    MachineSettings,
    OptimizerSettings,
    WatchSettings,
    at_least,
)

NO_DROPOUT: dict[str, Any] = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0}
"""A distilled editor has one branch, which sees the picture and the instruction."""


@dataclass(kw_only=True)
class StudentSettings:
    """What is distilled, and into what."""

    model: str = "timbrooks/instruct-pix2pix"
    """The editor to distil, and where its student begins: an InstructPix2Pix model of SD 1.x, SD 2.x or SDXL, for few
    steps also one whose guidance is distilled already; a Hub id, a diffusers folder, a .safetensors file, or "shapes"
    (the small editor inside this package)."""
    vae: str | None = None
    """Autoencoder in place of the model's own, a folder or a Hub id."""
    stage: Literal["guidance", "steps"] = "guidance"
    """What the student learns: "guidance", both scales as inputs, so that a step takes one evaluation of the U-Net
    instead of three; or "steps", to edit in one to four steps, and guidance with it where the model has three
    branches."""
    guidance_scales: tuple[float, float] = (2.0, 14.0)
    """Lowest and highest s_T that it learns. A model that is distilled already keeps its own."""
    image_guidance_scales: tuple[float, float] = (1.0, 3.0)
    """Lowest and highest s_I that it learns, likewise."""
    segments: int = 50
    """For few steps: parts of the noise schedule across which the student's answers become the same. The result edits
    in at most so many steps; few are learnt sooner."""
    teacher_steps: int = 1
    """For few steps: by how many of its own the teacher crosses a segment. One of 50 segments is LCM's; 5 of 4 follow
    the teacher as closely as 1 of 20."""
    huber_c: float = 0.001
    """For few steps: differences between answers far above this count by their size, those below by their square
    (pseudo-Huber loss)."""
    timestep_shift: float = 1.0
    """Above 1, more examples are near pure noise, where guidance decides what the edit is. 1: all timesteps alike."""
    few_steps: int = 4
    """For few steps: how many the result recommends. It can do with fewer."""
    train: Literal["full", "lora"] = "full"
    """The whole U-Net, or a LoRA of it, which is merged into the result."""
    lora_rank: int = 64
    """Rank of the LoRA's layers; those of conv_in and of the scales' input are as large as their weights allow."""
    lora_layers: list[str] | None = None
    """Parts of the names of the layers that get a LoRA. Default: all that LCM-LoRA has, conv_in and the scales'
    input."""


@dataclass(kw_only=True)
class DistilSettings(WatchSettings, MachineSettings, OptimizerSettings, StudentSettings, DataSettings):
    """A distillation."""

    validation_steps: int = 4
    """Sampler's steps of those edits."""

    def __post_init__(self) -> None:
        """Raises ValueError, in a sentence, for what has no meaning."""
        self.finetuning()
        for name in ("guidance_scales", "image_guidance_scales"):
            low, high = getattr(self, name)
            if not 0 <= low < high < math.inf:
                told = name.replace("_", "-")
                raise ValueError(f"--{told} is the lowest and the highest scale, at least 0, not {low:g} {high:g}.")
        if not 0 < self.huber_c < math.inf:
            raise ValueError(f"--huber-c is a number above 0, not {self.huber_c}.")
        for name in ("segments", "teacher_steps", "few_steps"):
            at_least(self, name, 1)
        if self.few_steps > self.segments:
            raise ValueError(f"--few-steps is at most the number of segments, {self.segments}, not {self.few_steps}.")
        if self.stage == "steps" and self.validation_steps > self.segments:
            raise ValueError(
                f"--validation-steps is at most the number of segments, {self.segments}, not {self.validation_steps}."
            )
        if self.single_file:
            raise ValueError(
                "--single-file is for models whose guidance is not distilled: the original layout has no place for "
                "scales as inputs."
            )

    def finetuning(self) -> FinetuneSettings:
        """These settings as those of the loop, the data and the weights, which distilling shares with fine-tuning."""
        own = {field.name for field in fields(DistilSettings)}
        shared = [field.name for field in fields(FinetuneSettings) if field.name in own]
        given: dict[str, Any] = {name: getattr(self, name) for name in shared}
        return FinetuneSettings(**given, **NO_DROPOUT)

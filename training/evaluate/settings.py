"""The settings of an evaluation. Nothing heavy is imported here."""

import math
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import ClassVar, Literal

from ..instructions.budget import Limits

SDEDITS = ("sdedit", "sdedit-instruction")
METHODS = ("ip2p", *SDEDITS, "p2p-ddim", "p2p-null-text", "text2live")
METRICS = ("clip", "pixels", "dino", "lpips")
COUNTS = (
    "num_samples",
    "held_out",
    "seeds",
    "batch_size",
    "judge_samples",
    "judge_max_tokens",
    "concurrency",
    "resolution",
)


@dataclass(kw_only=True)
class DialSettings:
    """What is varied. Every combination of a method's dials is a setting of it."""

    image_guidance_scales: list[float] = field(default_factory=lambda: [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2])
    """s_I of ip2p (the paper's Fig. 8)."""
    guidance_scales: list[float] = field(default_factory=lambda: [7.5])
    """s_T of ip2p."""
    strengths: list[float] = field(default_factory=lambda: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    """Strengths of SDEdit (the paper's Fig. 8), and of functions of your own that take one."""
    self_replace_steps: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.6, 0.8])
    """Shares of the steps under Prompt-to-Prompt."""
    iterations: list[int] = field(default_factory=lambda: [1000])
    """Steps of Text2LIVE; the paper's are 1000."""
    steps: list[int] = field(default_factory=lambda: [100])
    """Sampler's steps of ip2p, SDEdit and Prompt-to-Prompt; the paper's are 100."""
    base_guidance_scale: float = 7.5
    """Guidance scale of SDEdit and Prompt-to-Prompt."""
    seeds: int = 1
    """Edits of each setting, with other noise."""


@dataclass(kw_only=True)
class JudgeChoice(Limits):
    """A vision-language model that compares the first method with the others."""

    judge: str | None = None
    """Model of an OpenAI-compatible service that sees pictures. Default: none."""
    base_url: str | None = None
    """Address of the service, such as http://127.0.0.1:8080/v1. Default: OPENAI_BASE_URL, else OpenAI's own. The key is
    OPENAI_API_KEY in the environment."""
    judge_samples: int = 200
    """Samples that it compares, each in both orders."""
    judge_temperature: float | None = 0.0
    """Of its sampling. null leaves it to models that let nobody choose."""
    judge_max_tokens: int = 512
    """Its longest answer in tokens. Models that think before they answer need far more."""
    concurrency: int = 8
    """Requests to the service in flight at most."""


@dataclass(kw_only=True)
class EvaluateSettings(JudgeChoice, DialSettings):
    """An evaluation."""

    recipes: ClassVar[Path] = Path(__file__).parents[1] / "recipes"

    model: list[str] = field(default_factory=lambda: ["shapes"])
    """InstructPix2Pix checkpoints: Hub ids, folders, .safetensors files, or "shapes" (the editor inside this package).
    NAME=MODEL says what the report calls one; several of one name are trainings that differ in their seed."""
    base: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Text-to-image model of SDEdit and Prompt-to-Prompt, or "shapes"."""
    data: str = "shapes"
    """What is edited: Parquet files, a folder of them, a dataset's Hub id (in our columns, Emu Edit's or MagicBrush's),
    MagicBrush's own folder, or "shapes"."""
    split: str = "test"
    """Split of a dataset that has several."""
    num_samples: int | None = None
    """How many are edited, drawn by the seed; the paper's are 5000. Default: all, of the shapes world 512."""
    held_out: int | None = None
    """Of data that a model was trained on: only of triplets that a training with this --held-out does not see, without
    --streaming. Default: of all."""
    turns: Literal["single", "multi"] = "single"
    """Of data with sessions: edit the right picture of the turn before, or what the method itself made of it."""
    methods: list[str] = field(default_factory=lambda: ["ip2p"])
    """ip2p, sdedit, sdedit-instruction, p2p-ddim, p2p-null-text, text2live, or module:function of your own, called as
    edit(image, triplet, seed=SEED), or with strength= where it takes that, and giving a picture; the triplet has
    original_prompt, edit_prompt and edited_prompt. The picture as it is is always compared."""
    metrics: list[str] = field(default_factory=lambda: ["clip", "pixels"])
    """clip, pixels (L1, L2, PSNR, SSIM), dino, lpips. The shapes world's oracle always judges its edits."""
    clip_model: str = "ViT-L-14"
    """CLIP of open_clip, or "shapes"."""
    clip_pretrained: str | None = "openai"
    """Weights of that CLIP."""
    as_published: bool = False
    """Score by CLIP also as InstructPix2Pix's own code does, which feeds it values from -1 to 1 for 0 to 1."""
    resolution: int | None = None
    """Longest side at which ip2p, SDEdit and Prompt-to-Prompt work; edits are resized back. Default: as the model was
    trained."""
    batch_size: int = 8
    """Pictures that are edited at a time."""
    image_format: Literal["jpg", "png"] = "jpg"
    """Format in which edits are kept and scored: JPEG of quality 95, or PNG."""
    device: str | None = None
    """Where to compute, such as cuda or cpu. There may be more processes than GPUs where this is given. Default: the
    accelerator, where there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision of the models; a CPU without bfloat16 takes float32 instead. Default: float16 on an accelerator,
    float32 on the CPU."""
    seed: int = 0
    """Seed of the samples and of the edits."""
    report: str = "evaluation"
    """Folder of the report, and of all edits and scores; the same command goes on with what is there."""
    dry_run: bool = False
    """Only count the edits, and at most the judge's requests, tokens and bill."""

    def __post_init__(self) -> None:
        """Raises ValueError, in a sentence, for what has no meaning."""
        Limits.__post_init__(self)
        self.methods = [name for given in self.methods for name in given.split(",") if name]
        self.metrics = [name for given in self.metrics for name in given.split(",") if name]
        for name in self.methods:
            if name not in METHODS and ":" not in name:
                raise ValueError(f"There is no method {name}: choose from {', '.join(METHODS)}, or module:function.")
        for name in self.metrics:
            if name not in METRICS:
                raise ValueError(f"There is no metric {name}: choose from {', '.join(METRICS)}.")
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{flag(name)} is at least 1, not {value}.")
        if not self.methods:
            raise ValueError(f"--methods is empty: choose from {', '.join(METHODS)}, or module:function.")
        if not 0 <= self.base_guidance_scale < math.inf:
            raise ValueError(f"--base-guidance-scale is a number of 0 or more, not {self.base_guidance_scale}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is at least 0 and below 2^32, not {self.seed}.")
        for name in ("image_guidance_scales", "guidance_scales"):
            if not all(0 <= value < math.inf for value in getattr(self, name)):
                raise ValueError(f"{flag(name)} are numbers of 0 or more, not {getattr(self, name)}.")
        for name in ("strengths", "self_replace_steps"):
            if not all(0 < value <= 1 for value in getattr(self, name)):
                raise ValueError(
                    f"{flag(name)} are shares of the steps, above 0 and at most 1, not {getattr(self, name)}."
                )
        for name in ("steps", "iterations"):
            if not all(value >= 1 for value in getattr(self, name)):
                raise ValueError(f"{flag(name)} are at least 1, not {getattr(self, name)}.")
        if self.judge_temperature is not None and not 0 <= self.judge_temperature < math.inf:
            raise ValueError(f"--judge-temperature is a number of 0 or more, not {self.judge_temperature}.")
        if set(SDEDITS) & set(self.methods):
            self.check_steps_of_sdedit()

    def check_steps_of_sdedit(self) -> None:
        """Raise ValueError where a strength is less than one of SDEdit's steps."""
        for steps, strength in product(self.steps, self.strengths):
            if int(steps * strength) < 1:
                raise ValueError(
                    f"SDEdit of strength {strength:g} takes none of {steps} steps: give more --steps, or higher "
                    "--strengths."
                )


DECIDING = ("data", "split", "held_out", "turns", "clip_model", "clip_pretrained", "image_format")
"""Settings that may not change when an evaluation goes on: scores by others would stand beside those that are there."""


def flag(name: str) -> str:
    """A setting as the command line has it."""
    return f"--{name.replace('_', '-')}"

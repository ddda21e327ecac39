"""The settings of a fine-tuning. Nothing heavy is imported here."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(kw_only=True)
class DataSettings:
    """What is trained on, and how it becomes latents."""

    data: str | None = None
    """Pairs: a folder of `ip2p dataset pairs`, Parquet files, a dataset's Hub id, the original's layout, MagicBrush, or
    a CSV file with the columns before, after and instruction."""
    split: str = "train"
    """Split of a dataset that has several."""
    streaming: bool = False
    """Read a dataset of the Hub as it comes, without keeping it on disk; not with --cache."""
    original_image_column: str = "original_image"
    """Column of the pictures before."""
    edit_prompt_column: str = "edit_prompt"
    """Column of the instructions."""
    edited_image_column: str = "edited_image"
    """Column of the pictures after."""
    inverse_prompt_column: str | None = "inverse_prompt"
    """Column of the instructions that lead back, if there is one: a pair that has one is trained on in both directions.
    null: in one."""
    resolution: int = 256
    """Pixels of a side that the U-Net is trained at, a multiple of 8; with --buckets, of a square of the same area."""
    resize_max: int | None = None
    """Before cropping, the shorter side is resized to between `resolution` and this. Default: 9/8 of the resolution, as
    the paper's 256 to 288."""
    flip: float = 0.5
    """Share of pairs that are mirrored, of those whose texts speak of neither left nor right."""
    buckets: bool = False
    """Crop to the nearest of several aspect ratios of the same area, rather than to a square."""
    held_out: int = 64
    """Triplets that are not trained on but validated on."""
    share: float = 1.0
    """Share of the other triplets that is trained on, drawn by the seed; a larger one has all of a smaller (the paper's
    Fig. 10)."""
    cache: bool = False
    """Encode all pictures and texts once, to `cache` in the output's folder, and train without the autoencoder and,
    where it is not trained, the text encoder."""
    cache_variants: int = 1
    """Crops and flips of each pair that a cache holds."""
    workers: int = 2
    """Threads of each process that read and crop pictures ahead."""


@dataclass(kw_only=True)
class ModelSettings:
    """What is trained, from what."""

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Where training begins: an SD 1.x, SD 2.x or SDXL model, which is widened, or an InstructPix2Pix one, which goes
    on; a Hub id, a diffusers folder, a .safetensors file, or "shapes" (the small text-to-image model inside this
    package)."""
    vae: str | None = None
    """Autoencoder in place of the model's own, a folder or a Hub id."""
    train: Literal["full", "lora", "layers"] = "full"
    """The whole U-Net, a LoRA of it, or the layers that --layers names."""
    layers: list[str] | None = None
    """Parts of the names of the U-Net's layers that --train layers trains, such as attn2 conv_in."""
    lora_rank: int = 64
    """Rank of the LoRA's layers; that of conv_in is as large as its weights allow."""
    lora_layers: list[str] | None = None
    """Parts of the names of the layers that get a LoRA. Default: attention's projections, and conv_in."""
    train_text_encoder: bool = False
    """Train the text encoder, too. Not with LoRA, and not for SDXL."""


@dataclass(kw_only=True)
class LossSettings:
    """What is learnt of each example."""

    drop_text: float = 0.05
    """Share of examples whose instruction alone is dropped (conditioning dropout)."""
    drop_image: float = 0.05
    """Share whose picture before alone is dropped."""
    drop_both: float = 0.05
    """Share that lose both."""
    dropped_weight: float = 1.0
    """What an example counts that something was dropped from."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the U-Net predicts. Default: as the model says."""
    min_snr_gamma: float | None = None
    """Weigh timesteps by min(SNR, gamma)/SNR (Hang et al. 2023, arXiv 2303.09556), usually 5. Default: all alike."""

    timestep_shift: float = 1.0
    """Above 1, more examples are near pure noise, where it is decided what the edit is, and fewer where only details
    are left (Esser et al. 2024, arXiv 2403.03206, equation 23). 1: all timesteps alike."""


@dataclass(kw_only=True)
class OptimizerSettings:
    """How the weights move."""

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 8
    """Examples that a process computes at once."""
    accumulation: int = 1
    """Such batches of each process in an optimizer step."""
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """AdamW; the same with 8-bit moments, which needs bitsandbytes; or Muon (Jordan et al. 2024), which learns more of
    each example for some more time a step, and takes about the same learning rate."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay of its moments."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """What the learning rate does after the warm-up: it stays, or falls to zero."""
    warmup: int = 0
    """Steps over which the learning rate rises to its peak."""
    fall: float = 1.0
    """Share of the steps, the last ones, over which a linear or cosine schedule falls."""
    max_grad_norm: float | None = None
    """Longest gradient; a longer one is shortened. Default: any length."""
    ema_decay: float = 0.9999
    """Decay of the average of the weights, which is what is validated and published: (1 + n)/(10 + n) at first. 0 keeps
    none."""
    ema_update: Literal["step", "batch"] = "step"
    """When the average is updated: with each optimizer step, or as the original did with each accumulated batch."""


@dataclass(kw_only=True)
class MachineSettings:
    """What is computed where, and how exactly."""

    mixed_precision: Literal["no", "fp16", "bf16"] | None = None
    """Precision of the computation; weights that are trained stay float32. A CPU without bfloat16 takes float32.
    Default: what `accelerate launch` says."""
    gradient_checkpointing: bool = False
    """Compute the U-Net's inner results again when they are needed: less memory, a third more time."""
    compile: bool = False
    """Compile the U-Net with torch.compile."""
    ema_on_cpu: bool = False
    """Keep the average of the weights in the main memory."""
    seed: int = 0
    """Seed of everything drawn. Examples, crops, noise and dropout of a step depend on it and the step alone."""
    cpu: bool = False
    """Train on the CPU where there is an accelerator."""


@dataclass(kw_only=True)
class WatchSettings:
    """What is seen and kept of a training."""

    validate_every: int = 1000
    """Steps between validations; 0 for none."""
    validation_edits: int = 4
    """Held-out pictures that are edited for the sheet."""
    validation_steps: int = 20
    """Sampler's steps of those edits."""
    clip_model: str | None = None
    """CLIP of open_clip that scores them at some image guidance scales, such as ViT-L-14/openai, or "shapes".
    Default: none."""
    oracle_edits: int = 0
    """Edits of the shapes world, of each kind, that its oracle judges."""
    save_every: int = 1000
    """Steps between checkpoints. The last is kept, and the weights that validated best."""
    publish: Literal["last", "best"] = "last"
    """Which weights the result has: of the last step, or those that validated best."""
    tracker: str = "tensorboard"
    """What the figures go to: tensorboard, wandb or another of accelerate's trackers, or none."""
    single_file: bool = False
    """Write the result as a single .safetensors file in the original layout, too, as ComfyUI loads it."""


@dataclass(kw_only=True)
class RecommendedSettings:
    """What the result recommends to those who do not say; validation edits at these scales, too."""

    default_guidance_scale: float | None = None
    """s_T. Default: what the start recommends."""
    default_image_guidance_scale: float | None = None
    """s_I, likewise."""
    default_num_inference_steps: int | None = None
    """Steps, likewise."""


@dataclass(kw_only=True)
class FinetuneSettings(
    RecommendedSettings, WatchSettings, MachineSettings, OptimizerSettings, LossSettings, ModelSettings, DataSettings
):
    """A fine-tuning."""

    def __post_init__(self) -> None:
        """Raises ValueError, in a sentence, for what has no meaning."""
        for name in (
            "steps",
            "batch_size",
            "accumulation",
            "lora_rank",
            "cache_variants",
            "workers",
            "save_every",
            "validation_steps",
        ):
            at_least(self, name, 1)
        for name in ("warmup", "held_out", "validate_every", "validation_edits", "oracle_edits"):
            at_least(self, name, 0)
        for name in ("flip", "drop_text", "drop_image", "drop_both", "fall"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{flag(name)} is a share, from 0 to 1, not {getattr(self, name)}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"--share is above 0 and at most 1, not {self.share}.")
        if self.drop_text + self.drop_image + self.drop_both > 1:
            raise ValueError("--drop-text, --drop-image and --drop-both are shares of examples: together at most 1.")
        if self.default_num_inference_steps is not None:
            at_least(self, "default_num_inference_steps", 1)
        for name in ("default_guidance_scale", "default_image_guidance_scale"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{flag(name)} is a number, at least 0, not {value}.")
        for name in ("learning_rate", "max_grad_norm", "min_snr_gamma", "timestep_shift"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{flag(name)} is a number above 0, not {value}.")
        if self.resolution < 8 or self.resolution % 8:
            raise ValueError(f"--resolution is a multiple of 8, not {self.resolution}.")
        if self.resize_max is not None and self.resize_max < self.resolution:
            raise ValueError(f"--resize-max is at least the resolution, {self.resolution}, not {self.resize_max}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"--ema-decay is below 1, not {self.ema_decay}.")
        if (self.train == "layers") != bool(self.layers):
            raise ValueError("--layers names what --train layers trains: give both or neither.")
        if self.train_text_encoder and self.train == "lora":
            raise ValueError("--train-text-encoder goes with --train full or layers, not with a LoRA.")
        if self.publish == "best" and not (self.validate_every and (self.held_out or self.oracle_edits)):
            raise ValueError("--publish best needs --validate-every, and --held-out or --oracle-edits.")
        if self.streaming and (self.cache or self.buckets):
            raise ValueError("--cache and --buckets look at all examples beforehand: not with --streaming.")
        if self.streaming and self.share < 1:
            raise ValueError("--share is of all triplets, which --streaming does not know beforehand.")


def at_least(settings: Any, name: str, least: int) -> None:
    """Raise ValueError where a setting is too small."""
    if getattr(settings, name) < least:
        raise ValueError(f"{flag(name)} is at least {least}, not {getattr(settings, name)}.")


def flag(name: str) -> str:
    """A setting as the command line has it."""
    return f"--{name.replace('_', '-')}"


INDIFFERENT = (
    *(each.name for part in (WatchSettings, RecommendedSettings) for each in fields(part)),
    "steps",
    "accumulation",  # the state tells, together with the number of processes
    "data",
    "cache",
    "compile",
    "cpu",
    "workers",
    "ema_on_cpu",
    "gradient_checkpointing",
)
"""Settings that may change when a run goes on: what the steps before made does not depend on them, but for the rounding
of sums."""

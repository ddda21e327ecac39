"""The first editor of the shapes world: the base model, its U-Net widened to 8 channels, trained on rendered pairs.

    torchrun --nproc_per_node 2 -m ip2p.training.shapes.editor --folder runs/editor \
        --base runs/base/pipeline
"""

import random
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import StableDiffusionPipeline
from jsonargparse import auto_cli
from torch import Tensor

from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline
from ...ip2p_pipeline.widening import widen
from .base import Denoising, tokenize
from .edits import KINDS, Edit, random_edit
from .latents import latent_cache
from .loop import Draw, Plan, train
from .scenes import Scene

DROPOUT = 0.05  # of the text alone, of both, of the image alone: 5% each (InstructPix2Pix, section 3.2.1)
# What a sample counts that lacks the text, the image or both: its error is ten times as large and more, and would drown
# in chance what the others teach.
DROPPED_WEIGHT = 0.1
TRAINED_KINDS = (*KINDS, "swap", "swap")  # the hardest to learn comes three times as often
# What edits best of what was tried with benchmarks/shapes_editor.py.
RECOMMENDED = {"default_guidance_scale": 1.5, "default_image_guidance_scale": 1.2, "default_num_inference_steps": 20}


@cache
def training_edit(row: int) -> Edit:
    """The edit of a row of the training set; no combination held out is in it."""
    rng = random.Random(f"editor/{row}")
    return random_edit(rng, rng.choice(TRAINED_KINDS))


def training_scenes(row: int) -> tuple[Scene, Scene]:
    """The pictures of a row: before and after."""
    edit = training_edit(row)
    return edit.source, edit.target


def make_batch(latents: dict[str, Tensor], scaling_factor: float, draw: Draw) -> tuple[Tensor, ...]:
    """Random pairs with their instructions and conditioning dropout.

    The condition is the source's posterior mode, unscaled, and zeros when dropped; the target is a sample, scaled.
    """
    rng, generator, count = random.Random(draw.seed), draw.generator, draw.count
    rows = [rng.randrange(len(latents["mean"])) for _ in range(count)]
    dropped = [rng.random() for _ in range(count)]
    weight = torch.tensor([DROPPED_WEIGHT if u < 3 * DROPOUT else 1.0 for u in dropped])
    texts = ["" if u < 2 * DROPOUT else training_edit(row).edit_prompt for row, u in zip(rows, dropped, strict=True)]
    keep = torch.tensor([float(not DROPOUT <= u < 3 * DROPOUT) for u in dropped]).view(-1, 1, 1, 1)
    condition = latents["mean"][rows, 0].float() * keep
    mean, std = latents["mean"][rows, 1].float(), latents["std"][rows, 1].float()
    target = (mean + std * torch.randn(mean.shape, generator=generator)) * scaling_factor
    noise = torch.randn(mean.shape, generator=generator)
    timesteps = torch.randint(1000, (count,), generator=generator)
    return target, condition, tokenize(texts), weight, noise, timesteps


@dataclass
class EditorSettings:
    """Train the shapes world's editor."""

    base: Path
    """Folder of the trained base model, a Stable Diffusion pipeline."""
    folder: Path = Path("runs/editor")
    """Folder of the run; the result, an InstructPix2Pix pipeline, goes to its `pipeline`."""
    steps: int = 32_000
    """Optimizer steps."""
    batch_size: int = 64
    """Samples a step, over all processes."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    pairs: int = 131_072
    """Rendered pairs in the training set."""


def main(settings: EditorSettings) -> None:
    """Encode the pairs, train text encoder and widened U-Net together, save the pipeline."""
    base = StableDiffusionPipeline.from_pretrained(settings.base)
    latents = latent_cache(settings.folder / "latents", base.vae.eval(), training_scenes, settings.pairs)
    unet = widen(base.unet).to(memory_format=torch.channels_last).train()
    text_encoder = base.text_encoder.train()
    plan = Plan(settings.folder, settings.steps, settings.batch_size, settings.learning_rate)
    train(plan, Denoising(unet, text_encoder), partial(make_batch, latents, base.vae.config.scaling_factor))
    if PartialState().is_main_process:
        trained = {"unet": unet.eval(), "text_encoder": text_encoder.eval()}
        editor = InstructPix2PixPipeline.from_pipe(base, **trained, **RECOMMENDED)
        editor.save_pretrained(settings.folder / "pipeline")


if __name__ == "__main__":
    main(auto_cli(EditorSettings, as_positional=False))

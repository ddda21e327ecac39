"""The base model of the shapes world: captions to pictures, a small Stable Diffusion trained from scratch.

torchrun --nproc_per_node 2 -m ip2p.training.shapes.base --folder runs/base --vae runs/autoencoder/vae
"""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from jsonargparse import auto_cli
from torch import Tensor, nn
from transformers import CLIPTextModel

from .captions import caption, some_cells
from .latents import latent_cache
from .loop import Draw, Plan, train
from .scenes import Scene, random_scene
from .text import MAX_LENGTH, new_text_encoder, new_tokenizer

CAPTION_DROPOUT = 0.1


def new_unet() -> UNet2DConditionModel:
    """An untrained U-Net: Stable Diffusion's plan at 64, 64 and 128 channels."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 64, 128),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule down to pure noise, with the velocity as what the U-Net predicts.

    At Stable Diffusion's own last step 7% of the picture's amplitude is left, enough to show where
    large flat shapes lie: a model trained so reads the layout off the noise and not off the caption. Hence zero
    terminal SNR (Lin et al. 2023, arXiv 2305.08891).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


class Denoising(nn.Module):
    """The loss of a text-conditioned U-Net: squared error of the predicted velocity (Salimans and Ho 2022)."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.scheduler = new_scheduler()

    def forward(
        self, latents: Tensor, condition: Tensor, tokens: Tensor, weight: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Tensor:
        """Loss of scaled latents [N, 4, 16, 16] beside a condition [N, 0 or 4, 16, 16], under token ids [N, 40].

        `weight` [N] says how much each sample counts.
        """
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        velocity = self.scheduler.get_velocity(latents, noise, timesteps)
        text = self.text_encoder(tokens).last_hidden_state
        inputs = torch.cat([noisy, condition], dim=1).contiguous(memory_format=torch.channels_last)
        error = self.unet(inputs, timesteps, text).sample - velocity
        return (weight * error.square().mean(dim=(1, 2, 3))).mean()


def training_scene(row: int) -> tuple[Scene]:
    """The scene of a row of the training set."""
    return (random_scene(random.Random(f"base/{row}")),)


def draw_row(rng: random.Random, rows: int) -> int:
    """A row, in proportion to how many objects, one to three, its scene has: many are harder to tell apart."""
    while True:
        row = rng.randrange(rows)
        (scene,) = training_scene(row)
        if rng.random() < len(scene.things) / 3:
            return row


def make_batch(cache: dict[str, Tensor], scaling_factor: float, draw: Draw) -> tuple[Tensor, ...]:
    """Random rows with fresh captions, a tenth of them dropped.

    Half of the captions leave places open: if every caption told all places, the two captions of an edit would give
    the same layout without Prompt-to-Prompt. Of two timesteps the noisier is taken: what goes wrong longest, which
    object is where, is decided there.
    """
    rng, generator, count = random.Random(draw.seed), draw.generator, draw.count
    rows = [draw_row(rng, len(cache["mean"])) for _ in range(count)]
    texts = [
        "" if rng.random() < CAPTION_DROPOUT else caption(scene, rng, some_cells(rng))
        for row in rows
        for scene in training_scene(row)
    ]
    mean, std = cache["mean"][rows, 0].float(), cache["std"][rows, 0].float()
    latents = (mean + std * torch.randn(mean.shape, generator=generator)) * scaling_factor
    noise = torch.randn(mean.shape, generator=generator)
    timesteps = torch.randint(1000, (2, count), generator=generator).amax(dim=0)
    return latents, latents[:, :0], tokenize(texts), torch.ones(count), noise, timesteps


def tokenize(texts: list[str]) -> Tensor:
    """Token ids [N, 40], padded as the pipelines pad."""
    return new_tokenizer()(texts, padding="max_length", max_length=MAX_LENGTH, return_tensors="pt").input_ids


def as_pipeline(vae: AutoencoderKL, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """The pipeline that draws captions."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=new_tokenizer(),
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@dataclass
class BaseSettings:
    """Train the shapes world's text-to-image model."""

    vae: Path
    """Folder of the trained autoencoder."""
    folder: Path = Path("runs/base")
    """Folder of the run; the result, a Stable Diffusion pipeline, goes to its `pipeline`."""
    steps: int = 28_500
    """Optimizer steps."""
    batch_size: int = 64
    """Samples a step, over all processes."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    scenes: int = 65_536
    """Pictures in the training set."""


def main(settings: BaseSettings) -> None:
    """Encode the pictures, train text encoder and U-Net together, save the pipeline."""
    vae = AutoencoderKL.from_pretrained(settings.vae).eval()
    cache = latent_cache(settings.folder / "latents", vae, training_scene, settings.scenes)
    torch.manual_seed(0)
    text_encoder = new_text_encoder()
    unet = new_unet().to(memory_format=torch.channels_last)
    plan = Plan(settings.folder, settings.steps, settings.batch_size, settings.learning_rate)
    train(plan, Denoising(unet, text_encoder), partial(make_batch, cache, vae.config.scaling_factor))
    if PartialState().is_main_process:
        as_pipeline(vae, text_encoder.eval(), unet.eval()).save_pretrained(settings.folder / "pipeline")


if __name__ == "__main__":
    main(auto_cli(BaseSettings, as_positional=False))

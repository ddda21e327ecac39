"""The text-to-image checkpoint that pairs are drawn with: SD 1.x, SD 2.x or SDXL, or the shapes world's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTokenizer

from ..shapes.models import SHAPES_BASE

Pipeline: TypeAlias = Any  # StableDiffusionPipeline | StableDiffusionXLPipeline, which mypy does not follow


@dataclass(frozen=True)
class Texts:
    """Encoded prompts: [N, tokens, channels], and for SDXL the pooled [N, channels]."""

    embeds: Tensor
    pooled: Tensor | None


class Base:
    """A text-to-image pipeline, as the renderer uses it."""

    def __init__(self, pipe: Pipeline) -> None:
        channels = pipe.unet.config.in_channels
        if channels != pipe.vae.config.latent_channels:
            raise ValueError(
                f"The model's U-Net takes {channels} channels: it edits or inpaints pictures, and pairs are drawn with "
                "a text-to-image model."
            )
        self.pipe = pipe
        self.is_xl = isinstance(pipe, StableDiffusionXLPipeline)
        self.unet = pipe.unet
        self.tokenizer: CLIPTokenizer = pipe.tokenizer
        self.resolution: int = pipe.unet.config.sample_size * pipe.vae_scale_factor
        self.prediction_type: str = pipe.scheduler.config.prediction_type
        self.alphas_cumprod: Tensor = pipe.scheduler.alphas_cumprod.cpu()

    @property
    def device(self) -> torch.device:
        """Where the U-Net computes."""
        return self.unet.device

    def encode(self, prompts: list[str]) -> Texts:
        """Encode prompts; "" is the null text, as the pipeline's own guidance has it (SDXL: zeros)."""
        if not self.is_xl:
            embeds, _ = self.pipe.encode_prompt(prompts, self.device, 1, do_classifier_free_guidance=False)
            return Texts(embeds, None)
        embeds, _, pooled, _ = self.pipe.encode_prompt(prompts, device=self.device, do_classifier_free_guidance=False)
        if self.pipe.config.force_zeros_for_empty_prompt:
            told = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)
            embeds, pooled = embeds * told.view(-1, 1, 1), pooled * told.view(-1, 1)
        return Texts(embeds, pooled)

    def added(self, texts: Texts, which: list[int], resolution: int) -> dict[str, Tensor] | None:
        """SDXL's further conditions for rows under the texts of those numbers: pooled text, and an uncropped square."""
        if texts.pooled is None:
            return None
        size = [resolution, resolution, 0, 0, resolution, resolution]
        return {
            "text_embeds": texts.pooled[which],
            "time_ids": torch.tensor([size] * len(which), device=self.device, dtype=texts.pooled.dtype),
        }

    def autoencoder(self) -> Any:
        """The autoencoder, in float32 where its configuration asks for that: SDXL's overflows in half precision."""
        vae = self.pipe.vae
        if vae.dtype == torch.float16 and vae.config.force_upcast:
            vae.to(torch.float32)
        return vae

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [N, 3, H, W], about −1 to 1, of scaled latents."""
        vae = self.autoencoder()
        return vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample.float()


def load_base(
    model: str, vae: str | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Base:
    """Load a checkpoint: "shapes", a diffusers folder, a .safetensors file or a Hub id; safetensors only.

    `vae`, a folder or Hub id, takes the place of its autoencoder, as the original did with sd-vae-ft-mse. Raises
    ValueError or OSError, in a sentence, where it can't be loaded.
    """
    where = SHAPES_BASE if model == "shapes" else Path(model)
    if where.suffix == ".safetensors" and not where.is_file():
        raise FileNotFoundError(f"There is no model file {model}.")
    if model.startswith((".", "/", "~")) and not where.exists():
        raise FileNotFoundError(f"There is no model folder {model}.")
    if where.is_file() and where.suffix != ".safetensors":
        raise ValueError(f"{model} is no .safetensors file: other formats can run code when they are loaded.")
    try:
        if where.is_file():
            pipe = single_file(where, dtype)
        else:
            pipe = from_folder(str(where) if where.is_dir() else model, dtype)
        if vae is not None:
            pipe.vae = AutoencoderKL.from_pretrained(vae, torch_dtype=dtype, use_safetensors=True)
        base = Base(pipe.to(device))
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"There is no model {model} here or on the Hub, or it is private.") from error
    except (ValueError, OSError, KeyError, AttributeError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ValueError) and str(error).startswith("The model's U-Net"):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{model} can't be loaded as a Stable Diffusion or SDXL model ({reason}).") from error
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False).eval()
    return base


def from_folder(model: str, dtype: torch.dtype) -> Pipeline:
    """Load a diffusers folder or a Hub id."""
    name = StableDiffusionPipeline.load_config(model).get("_class_name", "")
    options = {"torch_dtype": dtype, "use_safetensors": True}
    if "XL" in name:
        return StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False, **options)
    return StableDiffusionPipeline.from_pretrained(
        model, safety_checker=None, requires_safety_checker=False, feature_extractor=None, **options
    )


def single_file(path: Path, dtype: torch.dtype) -> Pipeline:
    """Load a checkpoint in Stability AI's own layout."""
    with safe_open(path, framework="pt") as file:
        is_xl = any(name.startswith("conditioner.") for name in file.keys())  # noqa: SIM118 (no mapping)
    if is_xl:
        return StableDiffusionXLPipeline.from_single_file(str(path), torch_dtype=dtype, add_watermarker=False)
    return StableDiffusionPipeline.from_single_file(str(path), torch_dtype=dtype, safety_checker=None)

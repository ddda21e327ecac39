"""The model that a fine-tuning begins with: a text-to-image one, widened, or an editor that goes on."""

from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors import SafetensorError, safe_open

from ...ip2p_pipeline.inside import INSIDE
from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline
from ...ip2p_pipeline.single_file import CONV_IN
from ...ip2p_pipeline.widening import widen
from ..pairs.checkpoint import load_base
from ..shapes.models import SHAPES_BASE

Pipeline: TypeAlias = Any  # InstructPix2PixPipeline, whose components mypy does not follow


def load_start(model: str, vae: str | None = None, editor: bool = False) -> Pipeline:
    """The editor that a fine-tuning begins with, in float32 on the CPU.

    model:  "shapes" (the base of the shapes world, or its editor), a diffusers folder, a .safetensors file or a Hub id,
            of SD 1.x, SD 2.x or SDXL. A U-Net of 4 channels is widened: the first step computes what the base did
    vae:    a folder or Hub id of an autoencoder in place of the model's own
    editor: only an InstructPix2Pix model will do

    Raises ValueError or OSError, in a sentence, where it can't be loaded or is of another kind.
    """
    where = SHAPES_BASE if model == "shapes" and not editor else INSIDE.get(model, Path(model))
    try:
        channels = channels_of_model(where, model)
        if vae is not None:
            check_vae(vae)
        if channels == 4 and editor:
            raise ValueError(f"{model} is a text-to-image model, not an editor: fine-tune it first, with ip2p train.")
        if channels == 4:
            base = load_base(model, vae).pipe
            return InstructPix2PixPipeline.from_pipe(base, unet=widen(base.unet))
        if channels != 8:
            raise ValueError(
                f"The U-Net of {model} takes {channels} channels: training begins with a text-to-image model, of 4, or "
                "an InstructPix2Pix one, of 8."
            )
        load = InstructPix2PixPipeline.from_single_file if where.is_file() else InstructPix2PixPipeline.from_pretrained
        # No training needs the safety checker.
        pipe = load(str(where) if where.exists() else model, torch_dtype=torch.float32, safety_checker=None)
        if vae is not None:
            pipe.vae = AutoencoderKL.from_pretrained(vae, use_safetensors=True)
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"There is no model {model} here or on the Hub, or it is private.") from error
    except (KeyError, AttributeError, TypeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{model} can't be loaded ({reason}).") from error
    if pipe.config.is_cosxl_edit:
        raise ValueError(f"{model} is CosXL-Edit, whose noise schedule (EDM) is not trained here: begin with another.")
    return pipe


def check_vae(vae: str) -> None:
    """Raise ValueError for an autoencoder whose latents no U-Net that is trained here can read."""
    channels = AutoencoderKL.load_config(vae).get("latent_channels", 4)
    if channels != 4:
        raise ValueError(
            f"--vae {vae} has latents of {channels} channels, and Stable Diffusion's have 4: leave it out."
        )


def channels_of_model(where: Path, model: str) -> int:
    """The channels that a U-Net takes: 4 of a text-to-image model, 8 of an editor."""
    return channels_of_file(where) if where.suffix == ".safetensors" else channels_of(str(where), model)


def channels_of(where: str, model: str) -> int:
    """The channels that the U-Net of a folder or of the Hub takes."""
    if not Path(where).is_dir() and model.startswith((".", "/", "~")):
        raise FileNotFoundError(f"There is no model folder {model}.")
    config = UNet2DConditionModel.load_config(where if Path(where).is_dir() else model, subfolder="unet")
    return int(config["in_channels"])


def channels_of_file(path: Path) -> int:
    """The channels that the U-Net of a single file takes."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}.")
    with safe_open(path, framework="pt") as tensors:
        if CONV_IN not in tensors.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
            raise ValueError(f"{path} holds no whole checkpoint in the original layout: it has no {CONV_IN}.")
        return int(tensors.get_slice(CONV_IN).get_shape()[1])

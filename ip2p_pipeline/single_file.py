"""Single .safetensors files in the original layout, also offline: the configurations of the checkpoints that exist.

The values are those of timbrooks/instruct-pix2pix, diffusers/sdxl-instructpix2pix-768 and Stability's CosXL-Edit. What
is not written here has the default of diffusers and transformers.
"""

import gzip
import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from diffusers import (
    AutoencoderKL,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.loaders import FromSingleFileMixin
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
TEXT_KEY = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"  # SD 1.x: 768 wide
POOLED_TEXT = "model.diffusion_model.label_emb.0.0.weight"  # SDXL's U-Net only
EDM = "edm_vpred.sigma_max"
VELOCITY = "v_pred"  # what the U-Net predicts, where it is not the noise

# What a whole checkpoint has, by the beginnings of its keys.
PARTS = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}

SD_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
CLIP_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
SD: dict[str, dict[str, Any]] = {
    "unet": {"in_channels": 8, "sample_size": 64, "cross_attention_dim": 768},
    "vae": {**VAE, "sample_size": 512, "scaling_factor": 0.18215},
    "text_encoder": CLIP_L,
}
SDXL: dict[str, dict[str, Any]] = {
    "unet": {
        "in_channels": 8,
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "vae": {**VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    "text_encoder": CLIP_L,
    "text_encoder_2": CLIP_BIG_G,
}


class SingleFileMixin(FromSingleFileMixin):
    """`from_single_file` for InstructPix2Pix: knows SD from SDXL and CosXL-Edit, and needs no network for it."""

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a local .safetensors file in the original layout, or a link to one on the Hub.

        config: a diffusers folder or Hub id whose configurations the weights fit; None = those of the checkpoint that
        the file looks like, SD 1.x, SDXL or CosXL-Edit. Other arguments are diffusers'.

        Raises ValueError for a pickle, a checkpoint of another kind, and a file that lacks a part which is not passed.
        """
        if kwargs.get("config") is None:
            kwargs.pop("config", None)
        source = str(pretrained_model_link_or_path)
        if source.startswith("https://"):
            source = source.partition("?")[0]
        if not source.endswith(".safetensors"):
            raise ValueError(f"{source} is not a .safetensors file: a pickle can run any code, so it is refused.")
        file = Path(downloaded(source, kwargs)) if source.startswith("https://") else Path(source)
        if not file.is_file():
            raise FileNotFoundError(f"There is no file at {file}.")
        kind = look_inside(file, kwargs)
        if "config" in kwargs:
            return super().from_single_file(str(file), **kwargs)
        with TemporaryDirectory() as folder:
            write_configuration(Path(folder), **kind)
            return super().from_single_file(str(file), config=folder, **kwargs)


def downloaded(link: str, options: Mapping[str, Any]) -> str:
    """Fetch https://huggingface.co/<owner>/<name>/blob/<revision>/<file> to the cache.

    options: the loader's; how to fetch, as diffusers takes it, is used
    """
    parts = re.fullmatch(r"https://[^/]+/([^/]+/[^/]+)/(?:blob|resolve)/([^/]+)/(.+)", link)
    if parts is None:
        raise ValueError(f"{link} is not a link to a file on the Hub: download it and pass its path.")
    repo, revision, name = parts.groups()
    how = {option: options[option] for option in ("token", "cache_dir", "local_files_only") if option in options}
    return hf_hub_download(repo, name, revision=revision, **how)


def look_inside(file: Path, brought_along: Mapping[str, Any]) -> dict[str, bool]:
    """What kind of checkpoint the file holds, as `write_configuration` takes it. Reads only the file's header.

    brought_along: what the caller passes besides, components and config

    Raises ValueError unless it is an InstructPix2Pix checkpoint, with all that is not brought along.
    """
    try:
        with safe_open(file, framework="pt") as tensors:
            keys = set(tensors.keys())
            shapes = {key: tensors.get_slice(key).get_shape() for key in (CONV_IN, TEXT_KEY) if key in keys}
    except SafetensorError as error:
        raise ValueError(f"{file} is not a safetensors file, or is cut short: {error}.") from error
    if CONV_IN not in shapes:
        raise ValueError(f"{file} holds no whole checkpoint in the original layout: it has no {CONV_IN}.")
    channels = shapes[CONV_IN][1]
    if channels != 8:
        kind = {4: "a text-to-image checkpoint", 9: "an inpainting checkpoint"}.get(channels, "of another kind")
        raise ValueError(
            f"{file} is {kind}: its U-Net takes {channels} channels and InstructPix2Pix needs 8. Load an "
            "InstructPix2Pix checkpoint, or fine-tune a text-to-image one into one."
        )
    xl = POOLED_TEXT in keys
    if not xl and "config" not in brought_along and shapes.get(TEXT_KEY, [768])[-1] != 768:
        raise ValueError(f"{file} is neither SD 1.x nor SDXL: pass config=, a diffusers folder that it fits.")
    parts = [part for part in (SDXL if xl else SD) if part not in brought_along]
    missing = [part for part in parts if not any(key.startswith(PARTS[part]) for key in keys)]
    if missing:
        raise ValueError(f"{file} holds no {' and no '.join(missing)}: pass what is missing, as {missing[0]}=….")
    return {"xl": xl, "edm": EDM in keys, "velocity": VELOCITY in keys}


def write_configuration(folder: Path, *, xl: bool, edm: bool = False, velocity: bool = False) -> None:
    """Write a diffusers folder without weights: the configurations that a single file's weights fit.

    xl:       SDXL; else SD 1.x
    edm:      CosXL-Edit's noise schedule and scaled condition
    velocity: it predicts v = √ᾱ·ε − √(1−ᾱ)·x0, not ε
    """
    noise = {**SD_NOISE, "prediction_type": "v_prediction" if velocity else "epsilon"}
    if edm:
        scheduler = EDMEulerScheduler(
            sigma_max=120.0, sigma_data=1.0, sigma_schedule="exponential", prediction_type="v_prediction"
        )
    elif xl:
        scheduler = EulerDiscreteScheduler(**noise, timestep_spacing="leading")
    else:
        scheduler = EulerAncestralDiscreteScheduler(**noise)  # the sampler of the paper's own code
    scheduler.save_pretrained(folder / "scheduler")

    index: dict[str, Any] = {"scheduler": ["diffusers", type(scheduler).__name__], "is_cosxl_edit": edm}
    for name, config in (SDXL if xl else SD).items():
        (folder / name).mkdir(parents=True)
        if name.startswith("text"):
            second = name == "text_encoder_2"
            index[name] = ["transformers", "CLIPTextModelWithProjection" if second else "CLIPTextModel"]
            CLIPTextConfig(**config).save_pretrained(folder / name)
            tokenizer = name.replace("text_encoder", "tokenizer")
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
            clip_tokenizer("!" if second else "<|endoftext|>").save_pretrained(folder / tokenizer)
        else:
            cls = UNet2DConditionModel if name == "unet" else AutoencoderKL
            index[name] = ["diffusers", cls.__name__]
            (folder / name / "config.json").write_text(json.dumps({"_class_name": cls.__name__, **config}))
    stock = "StableDiffusionXLInstructPix2PixPipeline" if xl else "StableDiffusionInstructPix2PixPipeline"
    (folder / "model_index.json").write_text(json.dumps({"_class_name": stock, **index}))


def clip_tokenizer(pad_token: str) -> CLIPTokenizer:
    """CLIP's tokenizer, from the vocabulary that open_clip brings along, else from the Hub."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        return CLIPTokenizer.from_pretrained("openai/clip-vit-large-patch14", pad_token=pad_token)
    with gzip.open(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt", encoding="utf-8") as lines:
        merges = [tuple(line.split()) for line in lines][1 : 49152 - 256 - 2 + 1]
    characters = list(bytes_to_unicode().values())
    words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges)]
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, pad_token=pad_token)

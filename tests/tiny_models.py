"""Tiny random models of the true classes: a whole SD or SDXL InstructPix2Pix checkpoint that runs in milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import convert_state_dict_to_diffusers
from ip2p import InstructPix2PixPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

SD_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
TEXT_WIDTH, TEXT_WIDTH_2 = 32, 48


def tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's byte-level tokenizer without merges: one token a character, 77 at most."""
    characters = list(bytes_to_unicode().values())
    words = [*characters, *(c + "</w>" for c in characters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77, pad_token=pad_token)


def text_config(width: int = TEXT_WIDTH, vocab_size: int = 514) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=width,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
        hidden_act="gelu",
    )


def autoencoder() -> AutoencoderKL:
    """Four pixels a latent on each side."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
    )


def unet(cross_attention_dim: int = TEXT_WIDTH, in_channels: int = 8, **config: Any) -> UNet2DConditionModel:
    model = UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=cross_attention_dim,
        **{"attention_head_dim": 2, **config},
    )
    return listening(model)


def listening(model: UNet2DConditionModel) -> UNet2DConditionModel:
    """A fresh U-Net hardly listens to the text: make it, or no test could tell one instruction from another."""
    for name, parameter in model.named_parameters():
        if "attn2" in name:
            parameter.data.mul_(4)
    return model


def sd_components(seed: int = 0) -> dict[str, Any]:
    """The components of an SD InstructPix2Pix pipeline, as stock's class takes them."""
    torch.manual_seed(seed)
    return {
        "vae": autoencoder().eval(),
        "text_encoder": CLIPTextModel(text_config()).eval(),
        "tokenizer": tokenizer(),
        "unet": unet().eval(),
        "scheduler": EulerAncestralDiscreteScheduler(**SD_SCHEDULE),
        "safety_checker": None,
        "feature_extractor": None,
    }


def sdxl_components(seed: int = 0) -> dict[str, Any]:
    """The components of an SDXL InstructPix2Pix pipeline, as stock's class takes them."""
    torch.manual_seed(seed)
    model = unet(
        cross_attention_dim=TEXT_WIDTH + TEXT_WIDTH_2,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH_2,
    )
    return {
        "vae": autoencoder().eval(),
        "text_encoder": CLIPTextModel(text_config()).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(text_config(TEXT_WIDTH_2)).eval(),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(pad_token="!"),
        "unet": model.eval(),
        "scheduler": EulerAncestralDiscreteScheduler(**SD_SCHEDULE),
    }


def sd_pipeline(**settings: Any) -> InstructPix2PixPipeline:
    """Ours, of SD's size, without a progress bar."""
    components = {**sd_components(), "text_encoder_2": None, "tokenizer_2": None, "image_encoder": None}
    return quiet(InstructPix2PixPipeline(**{**components, "requires_safety_checker": False, **settings}))


def sdxl_pipeline(**settings: Any) -> InstructPix2PixPipeline:
    """Ours, of SDXL's make."""
    components = {**sdxl_components(), "safety_checker": None, "feature_extractor": None, "image_encoder": None}
    return quiet(InstructPix2PixPipeline(**{**components, **settings}))


def stock(pipe: InstructPix2PixPipeline) -> Any:
    """diffusers' own pipeline of the same components."""
    cls = StableDiffusionXLInstructPix2PixPipeline if pipe.is_xl else StableDiffusionInstructPix2PixPipeline
    components = {name: part for name, part in pipe.components.items() if name in cls._get_init_keys(cls)}
    if pipe.is_xl:
        return quiet(cls(**components, is_cosxl_edit=pipe.config.is_cosxl_edit))
    return quiet(cls(**components, requires_safety_checker=False))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(pipe: InstructPix2PixPipeline, prompt: Any = "make it winter", image: Any = None, **call: Any) -> Any:
    """A short run's pictures, as tensors, with seed 0 unless said otherwise."""
    if image is None and "image_latents" not in call:
        image = picture()
    settings = {"num_inference_steps": 3, "generator": noise(), "output_type": "pt", **call}
    return pipe(prompt, image, **settings).images


@contextmanager
def counted_samples(pipe: Any) -> Iterator[list[int]]:
    """How many samples went through the U-Net, call by call."""
    counts: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    yield counts
    handle.remove()


def image_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    return CLIPVisionModelWithProjection(config).eval()


def feature_extractor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def picture(seed: int = 0, width: int = 64, height: int = 64) -> Image.Image:
    """A smooth random RGB picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distance(a: Any, b: Any) -> float:
    """Largest difference between two pictures or batches of them, PIL on the 0 to 255 scale."""
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


def lora(make: Any, folder: Path, seed: int = 0) -> Path:
    """A random LoRA of the U-Net and of the text encoders, saved as the training scripts save it."""
    pipe = make()
    layers = {}
    for name in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, name)
        if model is None:
            continue
        targets = ["to_q", "to_v"] if name == "unet" else ["q_proj", "v_proj"]
        model.add_adapter(LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
        torch.manual_seed(seed)
        state = {key: torch.randn_like(part) * 0.5 for key, part in get_peft_model_state_dict(model).items()}
        layers[f"{name}_lora_layers"] = state if name == "unet" else convert_state_dict_to_diffusers(state)
    InstructPix2PixPipeline.save_lora_weights(folder, **layers)
    return folder

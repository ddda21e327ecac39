"""Single files in the original layout, and the true configurations of released checkpoints."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from accelerate import init_empty_weights
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.original_layout import VAE, original_layout, unet_weights, vae_weights
from ip2p.ip2p_pipeline.single_file import CONV_IN, SD, SDXL, clip_tokenizer, write_configuration
from safetensors.torch import save_file
from tiny_models import (
    SD_SCHEDULE,
    TEXT_WIDTH,
    TEXT_WIDTH_2,
    distance,
    edit,
    quiet,
    sd_pipeline,
    sdxl_pipeline,
    text_config,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

CLOSE = 1e-4


def original(pipe: Any) -> dict[str, torch.Tensor]:
    """What a single file holds of a pipeline."""
    return {name: tensor.detach().contiguous().clone() for name, tensor in original_layout(pipe).items()}


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_a_single_file_gives_the_same_pipeline(make, tmp_path: Path) -> None:
    pipe = make()
    pipe.save_pretrained(tmp_path / "config")
    for weights in (tmp_path / "config").rglob("*.safetensors"):
        weights.unlink()
    save_file(original(pipe), tmp_path / "model.safetensors")
    again = InstructPix2PixPipeline.from_single_file(tmp_path / "model.safetensors", config=str(tmp_path / "config"))
    assert distance(edit(quiet(again)), edit(pipe)) < CLOSE


def test_files_that_hold_no_such_checkpoint_are_told(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    weights = original(pipe)
    save_file(weights, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:1000])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"lora.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    for channels in (4, 9):
        conv = {CONV_IN: torch.zeros(16, channels, 3, 3)}
        save_file({**weights, **conv}, tmp_path / f"{channels}_channels.safetensors")
    (tmp_path / "model.ckpt").write_bytes(b"")
    for name, sentence in (
        ("cut.safetensors", "cut short"),
        ("empty.safetensors", "cut short"),
        ("lora.safetensors", "no whole checkpoint"),
        ("4_channels.safetensors", "text-to-image checkpoint: its U-Net takes 4"),
        ("9_channels.safetensors", "inpainting checkpoint: its U-Net takes 9"),
        ("model.ckpt", "pickle"),
        ("nowhere.safetensors", "There is no file"),
        ("https://example.com/model.safetensors", "not a link to a file on the Hub"),
        ("https://example.com/model.ckpt?download=true", "pickle"),
    ):
        with pytest.raises((ValueError, OSError), match=sentence) as error:
            InstructPix2PixPipeline.from_single_file(name if name.startswith("https") else tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    """A diffusers folder of a tiny SD pipeline, without weights."""
    sd_pipeline().save_pretrained(tmp_path / "config")
    for weights in (tmp_path / "config").rglob("*.safetensors"):
        weights.unlink()
    return str(tmp_path / "config")


@pytest.mark.parametrize(
    ("make", "part", "prefix"),
    [
        (sd_pipeline, "vae", "first_stage_model."),
        (sd_pipeline, "text_encoder", "cond_stage_model."),
        (sdxl_pipeline, "vae", "first_stage_model."),
        (sdxl_pipeline, "text_encoder", "conditioner.embedders.0."),
        (sdxl_pipeline, "text_encoder_2", "conditioner.embedders.1."),
    ],
)
def test_a_part_that_the_file_lacks_is_told_and_can_be_passed(make, part: str, prefix: str, tmp_path: Path) -> None:
    pipe = make()
    save_file({k: v for k, v in original(pipe).items() if not k.startswith(prefix)}, tmp_path / "model.safetensors")
    pipe.save_pretrained(tmp_path / "config")
    for weights in (tmp_path / "config").rglob("*.safetensors"):
        weights.unlink()
    for config in ({}, {"config": str(tmp_path / "config")}):
        with pytest.raises(ValueError, match=f"holds no {part}: pass") as error:
            InstructPix2PixPipeline.from_single_file(tmp_path / "model.safetensors", **config)
        assert "\n" not in str(error.value)
    # diffusers finds SDXL's first text encoder only beside the second.
    passed = {name: getattr(pipe, name) for name in ({part, "text_encoder"} if part == "text_encoder_2" else {part})}
    again = InstructPix2PixPipeline.from_single_file(tmp_path / "model.safetensors", **config, **passed)
    assert distance(edit(quiet(again)), edit(pipe)) < CLOSE


def test_a_link_to_a_file_on_the_hub(configuration: str, tmp_path: Path) -> None:
    """Here from a cache of its own; the links that the Hub's pages give end in ?download=true."""
    repo, commit = tmp_path / "cache" / "models--owner--name", "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    pipe = sd_pipeline()
    save_file(original(pipe), repo / "snapshots" / commit / "model.safetensors")
    for link in ("blob/main/model.safetensors", "resolve/main/model.safetensors?download=true"):
        link = f"https://huggingface.co/owner/name/{link}"
        options = {"cache_dir": str(tmp_path / "cache"), "local_files_only": True}
        again = InstructPix2PixPipeline.from_single_file(link, config=configuration, **options)
        assert distance(edit(quiet(again)), edit(pipe)) < CLOSE


def on_meta(parts: dict[str, dict[str, Any]]) -> dict[str, torch.nn.Module]:
    """The models of a configuration, without memory for their weights."""
    with init_empty_weights():
        models = {
            "unet": diffusers.UNet2DConditionModel(**parts["unet"]),
            "vae": diffusers.AutoencoderKL(**parts["vae"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**parts["text_encoder"])),
        }
        if "text_encoder_2" in parts:
            models["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**parts["text_encoder_2"]))
    return models


# Parameters of the released weights; InstructPix2Pix has 320×4×3×3 more in the U-Net than its base model.
RELEASED = {
    "sd": (SD, {"unet": 859_520_964 + 11_520, "vae": 83_653_863, "text_encoder": 123_060_480}),
    "sdxl": (
        SDXL,
        {
            "unet": 2_567_463_684 + 11_520,
            "vae": 83_653_863,
            "text_encoder": 123_060_480,
            "text_encoder_2": 694_659_840,
        },
    ),
}
# Names and shapes of released files: one or more of each kind of layer, at both ends and in the middle.
TENSORS = {
    "sd": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.0.attn2.to_k.weight": (1280, 768),
        "model.diffusion_model.input_blocks.8.1.proj_in.weight": (1280, 1280, 1, 1),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (10240, 1280),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.0.in_layers.2.weight": (320, 640, 3, 3),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "model.diffusion_model.time_embed.0.weight": (1280, 320),
    },
    "sdxl": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 8, 3, 3),
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (640, 2048),
        "model.diffusion_model.input_blocks.8.1.transformer_blocks.9.attn2.to_k.weight": (1280, 2048),
        "model.diffusion_model.input_blocks.8.1.proj_in.weight": (1280, 1280),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.8.0.in_layers.2.weight": (320, 640, 3, 3),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
    },
}
VAE_TENSORS = {
    "encoder.down.1.block.0.nin_shortcut.weight": (256, 128, 1, 1),
    "encoder.mid.attn_1.q.weight": (512, 512, 1, 1),
    "decoder.up.1.block.0.nin_shortcut.weight": (256, 512, 1, 1),
    "decoder.conv_out.weight": (3, 128, 3, 3),
    "quant_conv.weight": (8, 8, 1, 1),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_true_configurations_fit_the_released_weights(name: str) -> None:
    parts, parameters = RELEASED[name]
    models = on_meta(parts)
    assert {part: sum(p.numel() for p in model.parameters()) for part, model in models.items()} == parameters
    unet_shapes = {key: tuple(tensor.shape) for key, tensor in unet_weights(models["unet"]).items()}
    assert len(unet_shapes) == len(models["unet"].state_dict())
    assert TENSORS[name].items() <= unet_shapes.items()
    vae_shapes = {key.removeprefix(VAE): tuple(tensor.shape) for key, tensor in vae_weights(models["vae"]).items()}
    assert VAE_TENSORS.items() <= vae_shapes.items()


@pytest.mark.parametrize(
    ("make", "edm", "predicts"),
    [
        (sd_pipeline, False, "epsilon"),
        (sd_pipeline, False, "v_prediction"),
        (sdxl_pipeline, False, "epsilon"),
        (sdxl_pipeline, False, "v_prediction"),
        (sdxl_pipeline, True, "v_prediction"),
    ],
)
def test_single_files_need_neither_configuration_nor_network(
    make, edm: bool, predicts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the built-in configurations, here of a tiny model's size."""
    own = diffusers.EulerDiscreteScheduler(**SD_SCHEDULE, prediction_type=predicts)
    pipe = make(is_cosxl_edit=edm, scheduler=own)
    widths = {"text_encoder": TEXT_WIDTH, "text_encoder_2": TEXT_WIDTH_2}
    known = SDXL if pipe.is_xl else SD
    for name, width in widths.items():
        if name in known:
            config = text_config(width, vocab_size=49408)
            cls = CLIPTextModel if name == "text_encoder" else CLIPTextModelWithProjection
            pipe.register_modules(**{name: cls(config).eval()})
            monkeypatch.setitem(known, name, {**config.to_diff_dict(), "model_type": "clip_text_model"})
    pipe.register_modules(tokenizer=clip_tokenizer("<|endoftext|>"))
    if pipe.is_xl:
        pipe.register_modules(tokenizer_2=clip_tokenizer("!"))
    for name in ("unet", "vae"):
        monkeypatch.setitem(known, name, {k: v for k, v in getattr(pipe, name).config.items() if k[0] != "_"})

    weights = original(pipe)
    if edm:
        weights["edm_vpred.sigma_max"] = torch.tensor(120.0)
    save_file(weights, tmp_path / "model.safetensors")
    again = quiet(InstructPix2PixPipeline.from_single_file(tmp_path / "model.safetensors", config=None))
    assert again.config.is_cosxl_edit is edm
    assert isinstance(again.scheduler, diffusers.EDMEulerScheduler) is edm
    assert again.scheduler.config.prediction_type == predicts
    pipe.scheduler = again.scheduler
    assert distance(edit(again), edit(pipe)) < CLOSE


def test_built_in_configurations_are_read_as_they_are_written(tmp_path: Path) -> None:
    for folder, parts in ((tmp_path / "sd", SD), (tmp_path / "sdxl", SDXL)):
        write_configuration(folder, xl=parts is SDXL)
        for name, config in parts.items():
            cls = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}.get(name)
            written = cls.load_config(folder / name) if cls else CLIPTextConfig.from_pretrained(folder / name).to_dict()
            for key, value in config.items():
                assert written[key] == (list(value) if isinstance(value, tuple) else value)


def test_the_tokenizer_is_clips() -> None:
    """The ids that every released checkpoint was trained with."""
    tokenizer = clip_tokenizer("<|endoftext|>")
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("Don't stop: MAKE it SNOW!").input_ids[1:3] == [847, 713]
    assert clip_tokenizer("!").pad_token_id == 0

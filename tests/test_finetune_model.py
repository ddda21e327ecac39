"""What training begins with computes what it was made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from finetune_data import encoder, settings
from ip2p.training.finetune.encode import fingerprint
from ip2p.training.finetune.model import load_start
from ip2p.training.finetune.trainee import choose
from ip2p.training.shapes.models import SHAPES_BASE
from pairs_models import base_pipeline, xl_pipeline
from safetensors.torch import save_file
from tiny_models import sd_pipeline, sdxl_pipeline


@pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
def test_a_text_to_image_model_is_widened_and_computes_what_it_did(xl: bool, tmp_path: Path) -> None:
    base = xl_pipeline() if xl else base_pipeline()
    base.save_pretrained(tmp_path)
    pipe = load_start(str(tmp_path))
    assert pipe.is_xl is xl and pipe.unet.config.in_channels == 8 and pipe.unet.dtype == torch.float32
    width = base.unet.config.cross_attention_dim
    latents, source, text, t = (
        torch.randn(2, 4, 8, 8),
        torch.randn(2, 4, 8, 8),
        torch.randn(2, 5, width),
        torch.tensor([3, 900]),
    )
    added = {"text_embeds": torch.randn(2, 48), "time_ids": torch.ones(2, 6)} if xl else None
    with torch.no_grad():
        before = base.unet(latents, t, text, added_cond_kwargs=added).sample
        after = pipe.unet(torch.cat([latents, source], dim=1), t, text, added_cond_kwargs=added).sample
    assert torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("make", [sd_pipeline, base_pipeline])
def test_an_autoencoder_of_another_kind_is_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "model")
    AutoencoderKL(latent_channels=16).save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match=r"--vae .* has latents of 16 channels"):
        load_start(str(tmp_path / "model"), str(tmp_path / "vae"))


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_an_editor_goes_on_from_a_folder_or_a_file(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    editor = make()
    editor.save_pretrained(tmp_path / "folder")
    pipe = load_start(str(tmp_path / "folder"))
    assert all(torch.equal(a, b) for a, b in zip(pipe.unet.parameters(), editor.unet.parameters(), strict=True))


def test_the_base_of_the_shapes_world_is_known_by_name() -> None:
    pipe = load_start("shapes")
    base = StableDiffusionPipeline.from_pretrained(SHAPES_BASE)
    assert torch.equal(pipe.unet.conv_in.weight[:, :4], base.unet.conv_in.weight.float())
    assert not pipe.unet.conv_in.weight[:, 4:].any() and torch.equal(pipe.unet.conv_in.bias, base.unet.conv_in.bias)
    assert pipe.unet.dtype == pipe.text_encoder.dtype == torch.float32


def test_other_models_are_refused_in_a_sentence(tmp_path: Path) -> None:
    base_pipeline().save_pretrained(tmp_path / "inpaint")
    config = tmp_path / "inpaint" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}))
    with pytest.raises(ValueError, match="takes 9 channels: training begins with a text-to-image model, of 4"):
        load_start(str(tmp_path / "inpaint"))
    save_file({"weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="holds no whole checkpoint"):
        load_start(str(tmp_path / "lora.safetensors"))
    with pytest.raises(FileNotFoundError, match="There is no model folder"):
        load_start("./nowhere")
    sdxl_pipeline(is_cosxl_edit=True).save_pretrained(tmp_path / "cosxl")
    with pytest.raises(ValueError, match="CosXL-Edit"):
        load_start(str(tmp_path / "cosxl"))


def test_layers_that_are_named_are_trained_and_no_others() -> None:
    pipe = encoder().pipe
    trainee = choose(pipe, settings(train="layers", layers=["attn2.to_v", "conv_in"]))
    trained = {name for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    assert trained and all("attn2.to_v" in name or "conv_in" in name for name in trained)
    with pytest.raises(ValueError, match="--layers attn7 is in the name of no layer"):
        choose(pipe, settings(train="layers", layers=["attn7"]))


def test_a_lora_changes_nothing_before_it_learns_and_little_is_trained() -> None:
    pipe = encoder().pipe
    inputs = torch.randn(2, 8, 8, 8), torch.tensor([3, 900]), torch.randn(2, 5, 32)
    with torch.no_grad():
        before = pipe.unet(*inputs).sample
        trainee = choose(pipe, settings(train="lora", lora_rank=2))
        after = pipe.unet(*inputs).sample
    assert torch.allclose(before, after, atol=1e-5)
    shapes = {name: p.shape for name, p in trainee.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in shapes)
    assert next(shape for name, shape in shapes.items() if "conv_in.lora_A" in name)[0] == 8 * 9  # its whole rank
    assert next(shape for name, shape in shapes.items() if "to_q.lora_A" in name)[0] == 2
    with pytest.raises(ValueError, match="--lora-layers nothing are no layers"):
        choose(encoder().pipe, settings(train="lora", lora_layers=["nothing"]))


def test_the_text_encoder_is_trained_where_asked_for() -> None:
    trainee = choose(encoder().pipe, settings(train_text_encoder=True))
    assert trainee.text_encoder is not None and all(p.requires_grad for p in trainee.text_encoder.parameters())
    assert choose(encoder().pipe, settings()).text_encoder is None
    with pytest.raises(ValueError, match="not for SDXL"):
        choose(encoder(xl=True).pipe, settings(train_text_encoder=True))


def test_fingerprints_tell_weights_apart() -> None:
    one, other = encoder().pipe, encoder().pipe
    assert fingerprint(one.vae, one.text_encoder) == fingerprint(other.vae, other.text_encoder)
    with torch.no_grad():
        next(other.vae.parameters())[0, 0, 0, 0].add_(1e-3)
    assert fingerprint(one.vae, one.text_encoder) != fingerprint(other.vae, other.text_encoder)

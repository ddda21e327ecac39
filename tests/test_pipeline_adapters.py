"""LoRA, textual inversion and IP-Adapter, as in diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import IPAdapterFullImageProjection
from diffusers.utils import convert_state_dict_to_diffusers
from ip2p import InstructPix2PixPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from tiny_models import (
    TEXT_WIDTH,
    counted_samples,
    distance,
    edit,
    feature_extractor,
    image_encoder,
    noise,
    picture,
    sd_pipeline,
    sdxl_pipeline,
    stock,
)

CLOSE = 1e-4
MAKERS = [sd_pipeline, sdxl_pipeline]


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


@pytest.mark.parametrize("make", MAKERS)
def test_lora_loads_scales_and_unloads(make, tmp_path: Path) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.load_lora_weights(lora(make, tmp_path))
    full = edit(pipe)
    assert distance(full, plain) > 0.01
    assert distance(edit(pipe, cross_attention_kwargs={"scale": 0.0}), plain) < CLOSE
    half = edit(pipe, cross_attention_kwargs={"scale": 0.5})
    assert min(distance(half, plain), distance(half, full)) > CLOSE
    assert distance(edit(pipe), full) < CLOSE  # the scale holds for one call only
    pipe.unload_lora_weights()
    assert distance(edit(pipe), plain) < CLOSE


@pytest.mark.parametrize("make", MAKERS)
def test_lora_equals_stocks(make, tmp_path: Path) -> None:
    pipe, theirs = make(), stock(make())
    for each in (pipe, theirs):
        each.load_lora_weights(lora(make, tmp_path))
    size = {"height": 64, "width": 64} if pipe.is_xl else {}
    want = theirs(
        "make it winter", image=picture(), num_inference_steps=3, generator=noise(), output_type="pt", **size
    ).images
    assert distance(edit(pipe), want) < CLOSE


@pytest.mark.parametrize("make", MAKERS)
def test_lora_fuses(make, tmp_path: Path) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.load_lora_weights(lora(make, tmp_path))
    full = edit(pipe)
    pipe.fuse_lora()
    assert pipe.num_fused_loras == 1
    assert distance(edit(pipe), full) < 1e-3
    pipe.unfuse_lora()
    pipe.unload_lora_weights()
    assert distance(edit(pipe), plain) < 1e-3


@pytest.mark.parametrize("make", MAKERS)
def test_several_loras(make, tmp_path: Path) -> None:
    pipe = make()
    plain = edit(pipe)
    results = {}
    for seed, name in enumerate("ab"):
        pipe.load_lora_weights(lora(make, tmp_path / name, seed), adapter_name=name)
        pipe.set_adapters(name)
        results[name] = edit(pipe)
    pipe.set_adapters(["a", "b"], [1.0, 0.5])
    both = edit(pipe)
    assert min(distance(x, y) for x, y in ((both, results["a"]), (both, results["b"]), (*results.values(),))) > CLOSE
    pipe.set_adapters("a")
    assert distance(edit(pipe), results["a"]) < CLOSE
    pipe.disable_lora()
    assert distance(edit(pipe), plain) < CLOSE
    pipe.enable_lora()
    pipe.delete_adapters("b")
    assert pipe.get_list_adapters()["unet"] == ["a"]


def test_textual_inversion() -> None:
    pipe = sd_pipeline()
    before = edit(pipe, "make it <style>")
    torch.manual_seed(0)
    pipe.load_textual_inversion({"<style>": torch.randn(3, TEXT_WIDTH)})
    after = edit(pipe, "make it <style>")
    assert distance(before, after) > CLOSE
    # A word of three vectors is read as three tokens, as stock's class reads it.
    theirs = stock(pipe)(
        "make it <style>", picture(), num_inference_steps=3, generator=noise(), output_type="pt"
    ).images
    assert distance(after, theirs) < CLOSE
    assert distance(edit(pipe, "red", negative_prompt="<style>"), edit(pipe, "red")) > CLOSE
    pipe.unload_textual_inversion()
    assert distance(edit(pipe, "make it <style>"), before) < CLOSE


def ip_adapter(pipe: InstructPix2PixPipeline) -> dict[str, Any]:
    """A random IP-Adapter for the pipeline's U-Net, in the published format."""
    torch.manual_seed(0)
    width, tokens = pipe.unet.config.cross_attention_dim, 4
    projection = {
        "proj.weight": torch.randn(tokens * width, TEXT_WIDTH),
        "proj.bias": torch.randn(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    keys = {}
    sizes = [
        pipe.unet.get_submodule(name.removesuffix(".processor")).inner_dim
        for name in pipe.unet.attn_processors
        if name.endswith("attn2.processor")
    ]
    for i, size in enumerate(sizes):
        for kind in ("k", "v"):
            keys[f"{2 * i + 1}.to_{kind}_ip.weight"] = torch.randn(size, width)
    return {"image_proj": projection, "ip_adapter": keys}


def with_ip_adapter(make: Any) -> InstructPix2PixPipeline:
    pipe = make(feature_extractor=feature_extractor(), image_encoder=image_encoder())
    pipe.unet._load_ip_adapter_weights([ip_adapter(pipe)])
    return pipe


@pytest.mark.parametrize("make", MAKERS)
def test_ip_adapter(make) -> None:
    pipe = with_ip_adapter(make)
    first = edit(pipe, ip_adapter_image=picture(5))
    assert distance(first, edit(pipe, ip_adapter_image=picture(6))) > CLOSE
    pipe.set_ip_adapter_scale(0.0)
    assert distance(edit(pipe, ip_adapter_image=picture(5)), edit(pipe, ip_adapter_image=picture(6))) < CLOSE
    pipe.set_ip_adapter_scale(1.0)
    with counted_samples(pipe) as counts:
        edit(pipe, ip_adapter_image=picture(5), image_guidance_scale=1.0)
    assert counts == [2, 2, 2]
    batch = edit(pipe, "make it winter", [picture(), picture(1)], ip_adapter_image=picture(5), generator=[noise()] * 2)
    assert len(batch) == 2


def test_ip_adapter_equals_stocks() -> None:
    pipe = with_ip_adapter(sd_pipeline)
    call = {"num_inference_steps": 3, "generator": noise(), "output_type": "pt", "ip_adapter_image": picture(5)}
    assert (
        distance(edit(pipe, ip_adapter_image=picture(5)), stock(pipe)("make it winter", picture(), **call).images)
        < CLOSE
    )


def test_ip_adapter_embeddings_alone_are_used() -> None:
    """diffusers' own pipeline drops them unless ip_adapter_image is given as well."""
    pipe = with_ip_adapter(sd_pipeline)
    pixels = pipe.feature_extractor(picture(5), return_tensors="pt").pixel_values
    with torch.no_grad():
        shown = pipe.image_encoder(pixels).image_embeds[None]
    embeds = torch.cat([shown, torch.zeros_like(shown), torch.zeros_like(shown)])
    assert distance(edit(pipe, ip_adapter_image_embeds=[embeds]), edit(pipe, ip_adapter_image=picture(5))) < CLOSE


def test_ip_adapter_images_must_match_the_adapters() -> None:
    pipe = with_ip_adapter(sd_pipeline)
    with pytest.raises(ValueError, match="2 entries for 1"):
        edit(pipe, ip_adapter_image=[picture(1), picture(2)])
    with pytest.raises(ValueError, match="0 entries for 1"):
        edit(pipe)
    for shape in ((2, 1, TEXT_WIDTH), (6, 1, TEXT_WIDTH), (3, TEXT_WIDTH)):
        with pytest.raises(ValueError, match="the shown ones, then twice the hidden ones"):
            edit(pipe, ip_adapter_image_embeds=[torch.zeros(shape)])
    with pytest.raises(ValueError, match="load_ip_adapter"):
        edit(sd_pipeline(), ip_adapter_image=picture(1))
    pipe.image_encoder = None
    with pytest.raises(ValueError, match="no image_encoder"):
        edit(pipe, ip_adapter_image=picture(1))


def test_an_image_prompt_may_be_any_picture(tmp_path: Path) -> None:
    pipe = with_ip_adapter(sd_pipeline)
    picture(5).save(tmp_path / "prompt.png")
    want = edit(pipe, ip_adapter_image=picture(5))
    for same in (tmp_path / "prompt.png", np.asarray(picture(5)), [picture(5)]):
        assert distance(edit(pipe, ip_adapter_image=[same]), want) < CLOSE


def test_a_plus_adapter_reads_the_last_but_one_layer() -> None:
    """Every other layer of the encoder gives another picture, and stock's class agrees on which."""
    pipe = with_ip_adapter(sd_pipeline)
    pipe.unet.encoder_hid_proj.image_projection_layers[0] = IPAdapterFullImageProjection(
        image_embed_dim=TEXT_WIDTH, cross_attention_dim=TEXT_WIDTH
    )
    call = {"num_inference_steps": 3, "generator": noise(), "output_type": "pt", "ip_adapter_image": picture(5)}
    want = stock(pipe)("make it winter", picture(), **call).images
    assert distance(edit(pipe, ip_adapter_image=picture(5)), want) < CLOSE


@pytest.mark.parametrize("make", MAKERS)
def test_load_ip_adapter(make, tmp_path: Path) -> None:
    pipe = make(feature_extractor=feature_extractor(), image_encoder=image_encoder())
    tensors = {f"{kind}.{name}": part for kind, parts in ip_adapter(pipe).items() for name, part in parts.items()}
    save_file(tensors, tmp_path / "adapter.safetensors")
    pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None)
    loaded = edit(pipe, ip_adapter_image=picture(5))
    other = with_ip_adapter(make)
    other.register_modules(image_encoder=pipe.image_encoder)
    assert distance(loaded, edit(other, ip_adapter_image=picture(5))) < CLOSE
    pipe.unload_ip_adapter()
    assert distance(edit(pipe), loaded) > CLOSE


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.ckpt"])
def test_an_adapter_that_is_a_pickle_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"<style>": torch.randn(1, TEXT_WIDTH)}, tmp_path / name)
    pipe = sd_pipeline()
    for load in (
        lambda: pipe.load_lora_weights(tmp_path, weight_name=name),
        lambda: pipe.load_textual_inversion(str(tmp_path), weight_name=name, token="<style>"),
        lambda: pipe.load_textual_inversion(str(tmp_path / name), token="<style>"),
        lambda: pipe.load_ip_adapter(str(tmp_path), subfolder="", weight_name=name),
    ):
        with pytest.raises(ValueError, match="a pickle"):
            load()


def test_a_pickle_is_not_fallen_back_on(tmp_path: Path) -> None:
    torch.save({"unet.x.lora_A.weight": torch.randn(1, 1)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises((OSError, ValueError)):
        sd_pipeline().load_lora_weights(tmp_path)

"""LoRA, textual inversion and IP-Adapter, as in diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ip2p import InstructPix2PixPipeline
from safetensors.torch import load_file, save_file
from tiny_models import (
    TEXT_WIDTH,
    counted_samples,
    distance,
    edit,
    image_encoder,
    lora,
    noise,
    picture,
    sd_pipeline,
    sdxl_pipeline,
    stock,
)
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

CLOSE = 1e-4
MAKERS = [sd_pipeline, sdxl_pipeline]


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


def test_textual_inversion_from_a_file(tmp_path: Path) -> None:
    word = {"<style>": torch.randn(3, TEXT_WIDTH)}
    save_file(word, tmp_path / "style.safetensors")
    results = []
    for source in (word, tmp_path / "style.safetensors"):
        pipe = sd_pipeline()
        pipe.load_textual_inversion(source)
        results.append(edit(pipe, "make it <style>"))
    assert distance(*results) == 0


def plain_projection(width: int) -> dict[str, torch.Tensor]:
    """What a plain IP-Adapter makes its tokens with, of an image encoder's one vector a picture."""
    return {
        "proj.weight": torch.randn(4 * width, TEXT_WIDTH),
        "proj.bias": torch.randn(4 * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }


def plus_projection(width: int) -> dict[str, torch.Tensor]:
    """What a "plus" one makes them with, of all the image encoder's tokens: a resampler of four layers."""
    inner = 64
    weights = {
        "latents": torch.randn(1, 4, inner),
        "proj_in.weight": torch.randn(inner, TEXT_WIDTH),
        "proj_in.bias": torch.randn(inner),
        "proj_out.weight": torch.randn(width, inner),
        "proj_out.bias": torch.randn(width),
        "norm_out.weight": torch.ones(width),
        "norm_out.bias": torch.zeros(width),
    }
    for layer in (f"layers.{i}" for i in range(4)):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            weights |= {f"{layer}.{norm}.weight": torch.ones(inner), f"{layer}.{norm}.bias": torch.zeros(inner)}
        shapes = {"0.to_q": (1, 1), "0.to_kv": (2, 1), "0.to_out": (1, 1), "1.1": (4, 1), "1.3": (1, 4)}
        for name, (rows, columns) in shapes.items():
            weights[f"{layer}.{name}.weight"] = torch.randn(rows * inner, columns * inner) / inner**0.5
    return weights


def ip_adapter(pipe: InstructPix2PixPipeline, folder: Path, projection: Any = plain_projection) -> dict[str, Any]:
    """Write a random IP-Adapter for the pipeline's U-Net, in the published format. Returns `load_ip_adapter`'s call."""
    torch.manual_seed(0)
    width = pipe.unet.config.cross_attention_dim
    weights = {f"image_proj.{name}": part for name, part in projection(width).items()}
    layers = [name.removesuffix(".processor") for name in pipe.unet.attn_processors if "attn2" in name]
    for i, layer in enumerate(layers):
        for kind in ("k", "v"):
            size = pipe.unet.get_submodule(layer).inner_dim
            weights[f"ip_adapter.{2 * i + 1}.to_{kind}_ip.weight"] = torch.randn(size, width)
    (folder / "models").mkdir()
    save_file(weights, folder / "models" / "ip_adapter.safetensors")
    image_encoder().save_pretrained(folder / "models" / "image_encoder")
    return {
        "pretrained_model_name_or_path_or_dict": str(folder),
        "subfolder": "models",
        "weight_name": "ip_adapter.safetensors",
    }


def with_ip_adapter(make: Any, folder: Path, projection: Any = plain_projection) -> InstructPix2PixPipeline:
    pipe = make()
    pipe.load_ip_adapter(**ip_adapter(pipe, folder, projection))
    return pipe


@pytest.mark.parametrize("make", MAKERS)
def test_ip_adapter(make, tmp_path: Path) -> None:
    pipe = make()
    plain = edit(pipe)
    pipe.load_ip_adapter(**ip_adapter(pipe, tmp_path))
    first = edit(pipe, ip_adapter_image=picture(5))
    assert distance(first, edit(pipe, ip_adapter_image=picture(6))) > CLOSE
    pipe.set_ip_adapter_scale(0.0)
    assert distance(edit(pipe, ip_adapter_image=picture(5)), plain) < CLOSE
    pipe.set_ip_adapter_scale(1.0)
    with counted_samples(pipe) as counts:
        edit(pipe, ip_adapter_image=picture(5), image_guidance_scale=1.0)
    assert counts == [2, 2, 2]
    batch = edit(pipe, "make it winter", [picture(), picture(1)], ip_adapter_image=picture(5), generator=[noise()] * 2)
    assert len(batch) == 2
    pipe.unload_ip_adapter()
    assert distance(edit(pipe), plain) < CLOSE


@pytest.mark.parametrize("projection", [plain_projection, plus_projection])
def test_ip_adapter_equals_stocks(projection, tmp_path: Path) -> None:
    pipe = with_ip_adapter(sd_pipeline, tmp_path, projection)
    for shown in (picture(5), [[picture(5), picture(6)]]):
        call = {"num_inference_steps": 3, "generator": noise(), "output_type": "pt", "ip_adapter_image": shown}
        want = stock(pipe)("make it winter", picture(), **call).images
        assert distance(edit(pipe, ip_adapter_image=shown), want) < CLOSE


@pytest.mark.parametrize("projection", [plain_projection, plus_projection])
def test_ip_adapter_embeddings_alone_are_used(projection, tmp_path: Path) -> None:
    """diffusers' own pipeline drops them unless ip_adapter_image is given as well. One for all, or one each."""
    pipe = with_ip_adapter(sd_pipeline, tmp_path, projection)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        output = pipe.image_encoder(pixels, output_hidden_states=True)
        return (output.image_embeds if projection is plain_projection else output.hidden_states[-2])[None]

    pixels = [pipe.feature_extractor(picture(i), return_tensors="pt").pixel_values for i in (5, 6)]
    with torch.no_grad():
        shown = [encode(each) for each in pixels]
        hidden = torch.zeros_like(shown[0]) if projection is plain_projection else encode(torch.zeros_like(pixels[0]))
    alone = [edit(pipe, ip_adapter_image=picture(i)) for i in (5, 6)]
    embeds = torch.cat([shown[0], hidden, hidden])
    assert distance(edit(pipe, ip_adapter_image_embeds=[embeds]), alone[0]) < CLOSE
    each = torch.cat([*shown, *[hidden] * 4])
    both = edit(pipe, ["make it winter"] * 2, ip_adapter_image_embeds=[each], generator=[noise(), noise()])
    assert distance(both, torch.cat(alone)) < CLOSE


def test_ip_adapter_reads_any_picture(tmp_path: Path) -> None:
    pipe = with_ip_adapter(sd_pipeline, tmp_path)
    shown = picture(5)
    want = edit(pipe, ip_adapter_image=shown)
    shown.save(tmp_path / "shown.png")
    clear = shown.copy()
    clear.putalpha(255)
    pixels = pipe.feature_extractor(shown, return_tensors="pt").pixel_values
    array = np.asarray(shown)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for given in (tmp_path / "shown.png", str(tmp_path / "shown.png"), array, tensor, clear, [[shown]], pixels):
        assert distance(edit(pipe, ip_adapter_image=given), want) < CLOSE


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({}, "0 entries for 1"),
        ({"ip_adapter_image": [picture(1), picture(2)]}, "2 entries for 1"),
        ({"ip_adapter_image": "nowhere.png"}, "There is no picture at"),
        ({"ip_adapter_image_embeds": [torch.zeros(2, 1, TEXT_WIDTH)]}, r"takes \(3, pictures, 32\), the shown"),
        ({"ip_adapter_image_embeds": [torch.zeros(6, 1, TEXT_WIDTH)]}, r"takes \(3, pictures, 32\)"),
        ({"ip_adapter_image_embeds": [torch.zeros(3, TEXT_WIDTH)]}, r"has shape \(3, 32\)"),
        ({"ip_adapter_image_embeds": [torch.zeros(3, 1, 2, TEXT_WIDTH)]}, r"has shape \(3, 1, 2, 32\)"),
        ({"ip_adapter_image_embeds": [torch.zeros(3, 1, 7)]}, r"has shape \(3, 1, 7\)"),
        ({"prompt": ["a", "b"], "ip_adapter_image_embeds": [torch.zeros(9, 1, TEXT_WIDTH)]}, "takes .3 or 6, pictures"),
    ],
)
def test_wrong_image_prompts_are_told(call: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    pipe = with_ip_adapter(sd_pipeline, tmp_path)
    with pytest.raises((ValueError, OSError), match=sentence):
        edit(pipe, **call)


def test_wrong_image_prompts_of_the_plus_adapter_are_told(tmp_path: Path) -> None:
    pipe = with_ip_adapter(sd_pipeline, tmp_path, plus_projection)
    with pytest.raises(ValueError, match=r"takes \(3, pictures, tokens, 32\)"):
        edit(pipe, ip_adapter_image_embeds=[torch.zeros(3, 1, TEXT_WIDTH)])


def test_image_prompts_without_what_reads_them_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="load_ip_adapter"):
        edit(sd_pipeline(), ip_adapter_image=picture(1))
    pipe = with_ip_adapter(sd_pipeline, tmp_path)
    for name in ("feature_extractor", "image_encoder"):
        without = InstructPix2PixPipeline.from_pipe(pipe, **{name: None})
        with pytest.raises(ValueError, match="no image_encoder or no feature_extractor"):
            edit(without, ip_adapter_image=picture(1))
    config = CLIPVisionConfig.from_dict(pipe.image_encoder.config.to_dict() | {"projection_dim": 64})
    wide = CLIPVisionModelWithProjection(config)
    with pytest.raises(ValueError, match="are 64 wide and the IP-Adapter reads 32"):
        edit(InstructPix2PixPipeline.from_pipe(pipe, image_encoder=wide), ip_adapter_image=picture(1))


def test_adapters_in_pickles_are_refused(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    for name in ("x.bin", "x.pt", "X.BIN", "x.dat"):
        torch.save({}, tmp_path / name)
    refusals = [
        (pipe.load_lora_weights, {"weight_name": "x.bin"}, "x.bin is a pickle"),
        (pipe.load_lora_weights, {"weight_name": "X.BIN"}, "X.BIN is a pickle"),
        (pipe.load_lora_weights, {"weight_name": "x.dat"}, "name of a .safetensors file"),
        (pipe.load_lora_weights, {"use_safetensors": False}, "leave use_safetensors at True"),
        (pipe.load_textual_inversion, {"weight_name": "x.pt"}, "x.pt is a pickle"),
        (pipe.load_textual_inversion, {"use_safetensors": False}, "leave use_safetensors at True"),
        (pipe.load_ip_adapter, {"subfolder": "", "weight_name": "x.bin"}, "x.bin is a pickle"),
        (pipe.load_ip_adapter, {"subfolder": "", "weight_name": ["x.safetensors", "x.bin"]}, "x.bin is a pickle"),
    ]
    for load, call, sentence in refusals:
        with pytest.raises(ValueError, match=sentence):
            load(str(tmp_path), **call)
    torch.save({"unet.x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(OSError, match=r"no file named pytorch_lora_weights\.safetensors"):
        pipe.load_lora_weights(tmp_path)
    for load in (pipe.load_lora_weights, pipe.load_textual_inversion):
        for file in (tmp_path / "x.bin", str(tmp_path / "x.pt")):
            with pytest.raises(ValueError, match="is a pickle"):
                load(file)
        with pytest.raises(ValueError, match="is not a safetensors file"):
            load(tmp_path / "x.dat")


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    pipe, file = sd_pipeline(), tmp_path / "cut.safetensors"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    for load, call in (
        (pipe.load_lora_weights, {}),
        (pipe.load_textual_inversion, {}),
        (pipe.load_ip_adapter, {"subfolder": "", "weight_name": file.name, "image_encoder_folder": None}),
    ):
        with pytest.raises(ValueError, match=r"cut\.safetensors is not a safetensors file"):
            load(tmp_path if call else file, **call)


def test_an_image_encoder_in_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    call = ip_adapter(pipe, tmp_path)
    weights = tmp_path / "models" / "image_encoder" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        pipe.load_ip_adapter(**call)
    assert pipe.image_encoder is None

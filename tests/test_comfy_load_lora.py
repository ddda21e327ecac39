"""The LoRA node: adapters stack, are told apart by node, and leave the shared weights alone."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_graphs import load, node, scene
from comfy_host import Host, a_host  # noqa: F401 - a fixture
from ip2p import InstructPix2PixPipeline
from safetensors.torch import save_file
from tiny_models import lora, sd_pipeline, sdxl_pipeline

CALL: dict[str, Any] = {"instruction": "red", "seed": 3, "steps": 2, "size": "picture"}


@pytest.fixture
def models(host: Host) -> Host:
    """A model and two LoRAs for it."""
    sd_pipeline().save_pretrained(host.folder / "diffusers" / "sd")
    for name, seed in (("a", 1), ("b", 2)):
        lora(sd_pipeline, host.folder / "made", seed)
        (host.folder / "made" / "pytorch_lora_weights.safetensors").rename(
            host.folder / "loras" / f"{name}.safetensors"
        )
    return host


def adapter(model: str, name: str, strength: float = 1.0) -> dict[str, Any]:
    return node("Ip2pLoadLora", model=[model, 0], lora=f"{name}.safetensors", strength=strength)


def edit(model: str) -> dict[str, Any]:
    return node("Ip2pEdit", model=[model, 0], image=scene(), **CALL)


def by_pipeline(host: Host, **strengths: float) -> torch.Tensor:
    pipe = InstructPix2PixPipeline.from_pretrained(host.folder / "diffusers" / "sd")
    for name in strengths:
        pipe.load_lora_weights(host.folder / "loras", weight_name=f"{name}.safetensors", adapter_name=name)
    if strengths:
        pipe.set_adapters(list(strengths), list(strengths.values()))
    generator = torch.Generator().manual_seed(3)
    image = scene()[0].movedim(-1, 0)
    call = {"num_inference_steps": 2, "guidance_scale": 7.5, "image_guidance_scale": 1.5}
    return pipe("red", image, generator=generator, output_type="pt", **call).images[0].movedim(0, -1)


def test_loras_stack_and_each_edit_has_its_own(models: Host) -> None:
    graph = {
        "1": load("sd"),
        "2": adapter("1", "a"),
        "3": adapter("2", "b", 0.5),
        "one": edit("2"),
        "two": edit("3"),
        "none": edit("1"),
    }
    outputs = models.run(graph)
    images = {name: outputs[name][0][0] for name in ("one", "two", "none")}
    assert torch.allclose(images["one"], by_pipeline(models, a=1.0), atol=1e-5)
    assert torch.allclose(images["two"], by_pipeline(models, a=1.0, b=0.5), atol=1e-5)
    assert torch.equal(images["none"], by_pipeline(models))
    assert len({float(image.sum()) for image in images.values()}) == 3
    assert outputs["1"][0].loaded is outputs["3"][0].loaded
    assert outputs["3"][0].name == "sd + a.safetensors × 1 + b.safetensors × 0.5"


def test_a_strength_of_zero_is_no_lora(models: Host) -> None:
    outputs = models.run({"1": load("sd"), "2": adapter("1", "a", 0.0), "3": edit("2"), "4": edit("1")})
    assert torch.equal(outputs["3"][0], outputs["4"][0])


def test_a_lora_that_changed_is_loaded_again(models: Host) -> None:
    graph = {"1": load("sd"), "2": adapter("1", "a"), "3": edit("2")}
    first, node_class = models.run(graph), models.nodes["Ip2pLoadLora"]
    before = node_class.fingerprint_inputs(lora="a.safetensors")
    shutil.copy(models.folder / "loras" / "b.safetensors", models.folder / "loras" / "a.safetensors")
    os.utime(models.folder / "loras" / "a.safetensors", (2e9, 2e9))
    assert node_class.fingerprint_inputs(lora="a.safetensors") != before
    again = models.run(graph)
    assert again["1"][0].loaded is first["1"][0].loaded
    assert torch.allclose(again["3"][0][0], by_pipeline(models, b=1.0), atol=1e-5)


def refused(host: Host, sentence: str) -> None:
    loaded = host.run({"1": load("sd")})["1"]  # is held, as ComfyUI's cache does
    graph = {"1": load("sd"), "2": adapter("1", "a"), "3": adapter("2", "odd"), "4": edit("3")}
    with pytest.raises(ValueError, match=sentence):
        host.run(graph)
    again, plain = host.run({"1": load("sd"), "2": edit("1")}).values()
    assert again[0].loaded is loaded[0].loaded
    assert torch.equal(plain[0][0], by_pipeline(host))  # nothing of the stack stays behind


def test_a_lora_of_another_architecture_is_refused(models: Host) -> None:
    folder = lora(sdxl_pipeline, models.folder / "xl")
    (folder / "pytorch_lora_weights.safetensors").rename(models.folder / "loras" / "odd.safetensors")
    refused(models, "odd.safetensors does not fit|holds nothing for this model")


def test_a_lora_of_another_family_is_refused(models: Host) -> None:
    name = "transformer.single_transformer_blocks.0.attn.to_q"  # as of FLUX.1
    weights = {f"{name}.lora_A.weight": torch.ones(2, 8), f"{name}.lora_B.weight": torch.ones(8, 2)}
    save_file(weights, models.folder / "loras" / "odd.safetensors")
    refused(models, "odd.safetensors holds nothing for this model")


def test_a_file_that_holds_no_lora_is_refused(models: Host) -> None:
    save_file({"something": torch.zeros(2)}, models.folder / "loras" / "odd.safetensors")
    refused(models, "odd.safetensors does not fit|holds nothing for this model")


def test_a_damaged_file_is_refused(models: Host) -> None:
    Path(models.folder / "loras" / "odd.safetensors").write_bytes(b"x")
    refused(models, "odd.safetensors does not fit")

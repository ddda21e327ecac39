"""Each setting of an edit reaches the pipeline."""

from pathlib import Path
from typing import Any

import pytest
from cli_runner import Ip2p
from diffusers import HeunDiscreteScheduler
from ip2p import InstructPix2PixPipeline
from PIL import Image
from tiny_models import distance, noise

pytest_plugins = ["cli_fixtures"]

MASK = ["--mask", "mask.png"]
MASKED: dict[str, Any] = {"mask_image": "mask.png"}


@pytest.mark.parametrize(
    ("flags", "arguments", "without"),
    [
        (["--guidance-scale", 3], {"guidance_scale": 3.0}, {}),
        (["--image-guidance-scale", 3], {"image_guidance_scale": 3.0}, {}),
        (["--steps", 3], {"num_inference_steps": 3}, {}),
        (["--seed", 6], {"generator": 6}, {}),
        (["--strength", 0.5], {"strength": 0.5}, {}),
        (["--negative-prompt", "snow"], {"negative_prompt": "snow"}, {}),
        (["--resolution", 32], {"resolution": 32}, {}),
        (["--scheduler", "heun"], {"scheduler": HeunDiscreteScheduler}, {}),
        (["--guidance-interval", 0.5, 1], {"guidance_interval": (0.5, 1)}, {}),
        (["--image-guidance-interval", 0.5, 1], {"image_guidance_interval": (0.5, 1)}, {}),
        (["--guidance-schedule", "cosine"], {"guidance_schedule": "cosine"}, {}),
        (["--guidance-rescale", 0.7], {"guidance_rescale": 0.7}, {}),
        (["--adaptive-projection"], {"adaptive_projection": True}, {}),
        (["--adaptive-stop", 1e-6], {"adaptive_stop": 1e-6}, {}),
        (["--relevance-mask", "--relevance-threshold", 7], {"relevance_mask": {"threshold": 7.0}}, {}),
        (MASK, MASKED, {}),
        ([*MASK, "--mask-feather", 3], {**MASKED, "mask_feather": 3.0}, MASKED),
    ],
    ids=lambda value: next((str(flag)[2:] for flag in reversed(value) if "--" in str(flag)), ""),
)
def test_a_setting_reaches_the_pipeline(
    ip2p: Ip2p, tiny_model: Path, flags: list[Any], arguments: dict[str, Any], without: dict[str, Any]
) -> None:
    mask = Image.new("L", (48, 32))
    mask.paste(255, (8, 8, 40, 32))
    mask.save("mask.png")

    def expected(scheduler: Any = None, generator: int = 5, **settings: Any) -> Image.Image:
        pipe = InstructPix2PixPipeline.from_pretrained(tiny_model)
        if scheduler is not None:
            pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
        given = {"num_inference_steps": 2, "resolution": 64, "generator": noise(generator), **settings}
        return pipe("make it winter", "cat.jpg", **given).images[0]

    defaults = ["--model", tiny_model, "--steps", 2, "--seed", 5]
    result = ip2p("edit", "cat.jpg", "make it winter", *defaults, *flags)
    assert result.code == 0, result.err
    edited = Image.open("cat-edited.png")
    assert distance(edited, expected(**arguments)) == 0
    assert distance(edited, expected(**without)) > 0


def test_a_grid_begins_from_the_noised_input(ip2p: Ip2p, tiny_model: Path) -> None:
    scales = ["--guidance-scale", 3, "--image-guidance-scale", 1.5]
    flags = [*scales, "--model", tiny_model, "--steps", 2, "--seed", 5]
    sheets = []
    for strength in ("0.5", "1"):
        assert ip2p("grid", "cat.jpg", "make it winter", *flags, "--strength", strength).code == 0
        sheets.append(Image.open("cat-grid.png" if strength == "0.5" else "cat-grid-2.png").convert("RGB"))
    assert distance(*sheets) > 0

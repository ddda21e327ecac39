"""The Edit node: the pipeline's own result, picture by picture, with progress, previews and an end on request."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from comfy_graphs import QUICK, instruction, load, node, scene
from comfy_host import Host, a_host, comfy_utils, latent_preview, management  # noqa: F401 - a fixture
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from PIL import Image


def edit(host: Host, **inputs: Any) -> tuple:
    given = {"image": scene(), "instruction": instruction(), "negative": "", "scheduler": "model", "size": "trained"}
    graph = {"1": load(), "2": node("Ip2pEdit", **{"model": ["1", 0], **given, **QUICK, **inputs})}
    return host.run(graph)["2"]


def by_pipeline(image: torch.Tensor, seed: int, **settings: Any) -> torch.Tensor:
    """What Python users get for the same picture."""
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.set_progress_bar_config(disable=True)
    call = {"guidance_scale": 1.5, "image_guidance_scale": 1.2, "num_inference_steps": 3, **settings}
    picture = Image.fromarray((image.numpy() * 255).round().astype(np.uint8))
    generator = torch.Generator().manual_seed(seed)
    call |= {"resolution": 64, "generator": generator, "output_type": "pt"}
    return pipe(instruction(), picture, **call).images[0].movedim(0, -1)


def test_an_edit_is_the_pipelines_to_the_bit(host: Host) -> None:
    image, _ = edit(host, seed=5)
    assert image.shape == (1, 64, 64, 3)
    assert torch.equal(image[0], by_pipeline(scene()[0], 5))


def test_every_setting_reaches_the_pipeline(host: Host) -> None:
    mask = torch.zeros(1, 64, 64)
    mask[:, 20:50, 20:50] = 1
    told = {"guidance_start": 0.2, "guidance_stop": 0.8, "image_guidance_stop": 0.9, "guidance_rescale": 0.4}
    told["relevance_threshold"] = 0.3
    image, settings = edit(host, mask=mask, mask_feather=2.0, negative="a circle", scheduler="euler", steps=5, **told)
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    from diffusers import EulerDiscreteScheduler

    expected = pipe.__class__(
        **{**pipe.components, "scheduler": EulerDiscreteScheduler.from_config(pipe.scheduler.config)}
    )(
        instruction(),
        scene()[0].movedim(-1, 0),
        mask_image=mask[0],
        mask_feather=2.0,
        negative_prompt="a circle",
        num_inference_steps=5,
        guidance_scale=1.5,
        image_guidance_scale=1.2,
        guidance_interval=(0.2, 0.8),
        image_guidance_interval=(0.0, 0.9),
        guidance_rescale=0.4,
        relevance_mask={"threshold": 0.3},
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images[0]
    assert torch.equal(image[0], expected.movedim(0, -1))
    assert json.loads(settings)["guidance_stop"] == 0.8
    assert json.loads(settings)["model"] == "shapes"


def test_pictures_of_a_batch_do_not_mix(host: Host) -> None:
    two = torch.cat([scene(0), scene(3)])
    both, _ = edit(host, image=two, seed=7)
    alone, _ = edit(host, image=two[1:], seed=8)  # picture n has the seed plus n
    assert torch.equal(both[1], alone[0])
    assert torch.equal(both[0], edit(host, image=two[:1], seed=7)[0][0])


def test_the_last_seed_counts_on_from_the_first(host: Host) -> None:
    batch, _ = edit(host, image=torch.cat([scene()] * 2), seed=2**64 - 1)
    assert torch.equal(batch[1], edit(host, seed=0)[0][0])


def test_transparency_is_composited(host: Host) -> None:
    clear = torch.cat([scene(), torch.zeros(1, 64, 64, 1)], dim=-1)
    image, _ = edit(host, image=clear)
    assert image.shape == (1, 64, 64, 3)
    assert torch.equal(image, edit(host, image=torch.ones(1, 64, 64, 3))[0])


def test_the_bar_moves_with_every_step_and_shows_the_picture(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, Any]] = []
    monkeypatch.setattr(
        comfy_utils, "PROGRESS_BAR_HOOK", lambda at, total, preview, **_: told.append((at, total, preview))
    )
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: object())
    monkeypatch.setattr(latent_preview, "MAX_PREVIEW_RESOLUTION", 512, raising=False)
    final, _ = edit(host, image=torch.cat([scene()] * 2))
    assert [each[:2] for each in told] == [(n, 6) for n in range(1, 7)]
    kind, shown, most = told[2][2]  # once the first picture is done
    assert (kind, most) == ("JPEG", 512)
    assert np.abs(np.asarray(shown) / 255 - final[0].numpy()).mean() < 0.01


def test_no_preview_is_made_where_they_are_off(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(comfy_utils, "PROGRESS_BAR_HOOK", lambda at, total, preview, **_: told.append(preview))
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: None)
    edit(host)
    assert set(told) == {None}


def test_an_interrupt_ends_the_edit_within_a_step(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def hook(at: int, *_: Any, **__: Any) -> None:
        steps.append(at)
        if at == 2:
            management.interrupt_current_processing()

    monkeypatch.setattr(comfy_utils, "PROGRESS_BAR_HOOK", hook)
    with pytest.raises(management.InterruptProcessingException):
        edit(host, steps=50)
    assert steps == [1, 2]
    monkeypatch.undo()
    assert torch.equal(edit(host)[0], edit(host)[0])  # and the model edits on


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"image": torch.zeros(0, 64, 64, 3)}, "batch of pictures is empty"),
        ({"image": torch.zeros(1, 0, 64, 3)}, "batch of pictures is empty"),
        ({"image": torch.zeros(64, 64, 3)}, "no batch of pictures"),
        ({"image": torch.full((1, 64, 64, 3), float("nan"))}, "no numbers"),
        ({"instruction": "  "}, "instruction is empty"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be finite"),
        ({"image_guidance_scale": -1.0}, "at least 0"),
        ({"guidance_start": 0.7, "guidance_stop": 0.3}, "guidance_interval"),
        ({"scheduler": "nonsense"}, "scheduler is one of model, ddim, .*, not “nonsense”"),
        ({"size": None}, "size is one of trained, picture, custom"),
        ({"fit": 3}, "fit is one of pad, resize"),
        ({"model": None}, "connect Load InstructPix2Pix"),
        ({"image": None}, "There is no picture: connect one"),
        ({"mask": 3}, "This is no mask: connect one"),
        ({"steps": 0}, "num_inference_steps is a whole number"),
        ({"mask": torch.zeros(1, 64, 64)}, "black everywhere"),
        ({"mask": torch.ones(1, 64, 32)}, "make a mask of this picture"),
        ({"mask": torch.ones(3, 64, 64)}, "need one mask"),
        ({"mask": torch.full((1, 64, 64), float("nan"))}, "mask has values that are no numbers"),
    ],
)
def test_bad_input_is_told_in_a_sentence(host: Host, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        edit(host, **inputs)


def test_a_mask_of_the_same_proportions_is_scaled(host: Host) -> None:
    small = torch.zeros(32, 32)
    small[8:24, 8:24] = 1
    image, _ = edit(host, mask=small)
    assert torch.equal(image[0, :12], scene()[0, :12])
    assert not torch.equal(image[0, 20:40, 20:40], scene()[0, 20:40, 20:40])

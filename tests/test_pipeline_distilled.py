"""Guidance-distilled checkpoints: both dials in one evaluation a step, said in the config, all else as ever."""

import logging
import math
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionInstructPix2PixPipeline
from distilled_models import distilled
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.distilled import scale_embedding
from ip2p.ip2p_pipeline.original_layout import original_layout
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, quiet, sd_pipeline, unet

CLOSE = 1e-4
BOTH = pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
SCALES = {"guidance_scale": 4.0, "image_guidance_scale": 1.5}


@BOTH
def test_a_step_takes_one_evaluation_and_both_dials_count(xl: bool) -> None:
    pipe = distilled(xl)
    with counted_samples(pipe) as samples:
        usual = edit(pipe, **SCALES)
    assert samples == [1, 1, 1]
    assert distance(usual, edit(pipe, **{**SCALES, "guidance_scale": 6.0})) > 0.01
    assert distance(usual, edit(pipe, **{**SCALES, "image_guidance_scale": 2.5})) > 0.01
    assert distance(usual, edit(pipe, guidance_scale=1.5, image_guidance_scale=4.0 - 1.0)) > 0.01  # they differ


@BOTH
def test_each_picture_of_a_batch_has_its_own_scales(xl: bool) -> None:
    pipe = distilled(xl)
    text, image = [2.0, 7.0, 4.0], [1.0, 1.5, 3.0]
    prompts, pictures = ["red", "blue", "winter"], [picture(i) for i in range(3)]
    with counted_samples(pipe) as samples:
        batch = edit(
            pipe, prompts, pictures, guidance_scale=text, image_guidance_scale=image,
            generator=[noise(i) for i in range(3)],
        )  # fmt: skip
    assert samples == [3, 3, 3]
    for i in range(3):
        alone = edit(
            pipe, prompts[i], pictures[i], guidance_scale=text[i], image_guidance_scale=image[i], generator=noise(i)
        )
        assert distance(batch[i], alone[0]) < CLOSE


def test_the_embedding_is_sines_and_cosines_one_half_for_each_scale() -> None:
    text, image = torch.tensor([1.0, 7.5, 13.25]), torch.tensor([1.0, 1.5, 2.9])
    found = scale_embedding(unet(time_cond_proj_dim=64), text, image, torch.zeros(1))
    assert found is not None and found.shape == (3, 64)
    radians = torch.logspace(math.log10(8), math.log10(0.08), 16)  # a unit
    waves = [
        wave for scale in (text, image) for wave in ((scale[:, None] * radians).sin(), (scale[:, None] * radians).cos())
    ]
    assert torch.allclose(found, torch.cat(waves, dim=1), atol=1e-4)
    assert scale_embedding(unet(), text, image, torch.zeros(1)) is None


def test_what_the_unet_is_told_is_the_embedding_of_the_scales() -> None:
    pipe = distilled()
    told: list[Any] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, args, kwargs: told.append(kwargs["timestep_cond"]), with_kwargs=True
    )
    edit(pipe, image_guidance_scale=1.5, guidance_scale=4.0, guidance_interval=(0.0, 0.5), num_inference_steps=2)
    handle.remove()
    for found, s_text in zip(told, (4.0, 1.0), strict=True):  # the interval ends after the first step
        expected = scale_embedding(pipe.unet, torch.tensor([s_text]), torch.tensor([1.5]), found)
        assert torch.allclose(found, expected)  # type: ignore[arg-type]


@BOTH
@pytest.mark.parametrize("scheduler", ["LCM", "DDIM"])
def test_saved_it_says_so_and_loads_again(xl: bool, scheduler: str, tmp_path: Path) -> None:
    pipe = distilled(xl)
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler")(**SD_SCHEDULE)
    pipe.save_pretrained(tmp_path)
    again = quiet(InstructPix2PixPipeline.from_pretrained(tmp_path, requires_safety_checker=False))
    assert again.config.distilled_scales == {"guidance_scale": [1.0, 10.0], "image_guidance_scale": [0.5, 3.0]}
    assert again.unet.config.time_cond_proj_dim == pipe.unet.config.time_cond_proj_dim
    assert distance(edit(again, **SCALES), edit(pipe, **SCALES)) < CLOSE
    taken = quiet(InstructPix2PixPipeline.from_pipe(again))
    assert distance(edit(taken, **SCALES), edit(pipe, **SCALES)) < CLOSE
    half = quiet(InstructPix2PixPipeline.from_pretrained(tmp_path, torch_dtype=torch.float16))
    assert edit(half, num_inference_steps=1, **SCALES).isfinite().all()


def test_it_loads_where_ip2p_is_not_installed_and_stock_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = distilled()
    pipe.save_pretrained(tmp_path)
    custom = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    assert distance(edit(quiet(custom), **SCALES), edit(pipe, **SCALES)) < CLOSE
    with pytest.raises(AttributeError, match="InstructPix2PixPipeline"):
        DiffusionPipeline.from_pretrained(tmp_path)
    # Whatever tests before have done to it.
    caplog.set_level(logging.WARNING, "diffusers")
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path, safety_checker=None)
    assert "distilled_scales" in caplog.text and "not expected" in caplog.text


def test_scales_beyond_what_it_learnt_are_held_and_told(caplog: pytest.LogCaptureFixture) -> None:
    pipe = distilled()
    most = edit(pipe, guidance_scale=10.0, image_guidance_scale=0.5)
    assert not caplog.records
    assert distance(edit(pipe, guidance_scale=20.0, image_guidance_scale=0.1), most) == 0
    assert "distilled for guidance_scale 1 to 10: 20 counts as 10" in caplog.text
    assert "distilled for image_guidance_scale 0.5 to 3: 0.1 counts as 0.5" in caplog.text


def test_a_relevance_mask_costs_one_evaluation_more() -> None:
    pipe = distilled()
    plain = edit(pipe)
    with counted_samples(pipe) as counts:
        assert torch.equal(edit(pipe, relevance_mask={"threshold": 1e-9}), plain)
    assert counts == [1] * 4
    with pytest.raises(ValueError, match="leave out relevance_mask's against"):
        edit(pipe, relevance_mask={"against": "image"})


def test_a_relevance_mask_is_of_the_scales_asked_for_wherever_in_the_run_they_hold() -> None:
    pipe = distilled()
    told: list[Any] = []
    handle = pipe.unet.register_forward_pre_hook(
        lambda _, args, kwargs: told.append(kwargs["timestep_cond"]), with_kwargs=True
    )
    edit(pipe, guidance_scale=40.0, image_guidance_scale=1.5, guidance_interval=(0.5, 1.0), relevance_mask=True)
    handle.remove()
    expected = scale_embedding(pipe.unet, torch.tensor([10.0]), torch.tensor([1.5]), told[0])  # 10 is the highest
    assert torch.allclose(told[0], expected)  # type: ignore[arg-type]
    assert not torch.allclose(told[1], expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    [{"negative_prompt": "fog"}, {"guidance_rescale": 0.5}, {"adaptive_projection": True}, {"adaptive_stop": 0.9}],
    ids=lambda given: next(iter(given)),
)
def test_what_needs_branches_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"distilled into one branch, without {next(iter(given))}: leave it out"):
        edit(distilled(), **given)
    for nothing in ("", [""]):
        edit(distilled(), negative_prompt=nothing, guidance_rescale=0.0, adaptive_projection=False)


def test_an_interval_needs_a_scale_of_1_among_those_learnt() -> None:
    pipe = distilled()
    pipe.register_to_config(distilled_scales={"guidance_scale": [2.0, 14.0], "image_guidance_scale": [0.5, 3.0]})
    edit(pipe, image_guidance_interval=(0.0, 0.5))  # of which 1 is learnt
    with pytest.raises(ValueError, match=r"guidance_scale 2 to 14, .* leave out guidance_interval"):
        edit(pipe, guidance_interval=(0.0, 0.5))
    with pytest.raises(ValueError, match="leave out guidance_schedule"):
        edit(pipe, guidance_schedule="linear")


def test_bad_scales_are_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="guidance_scale must be finite and at least 0, got -1"):
        edit(distilled(), guidance_scale=-1.0)


@pytest.mark.parametrize("width", [None, 64])
def test_a_checkpoint_that_says_only_half_is_refused(width: int | None) -> None:
    says = {} if width else {"distilled_scales": {"guidance_scale": [1, 2], "image_guidance_scale": [1, 2]}}
    lacks = "distilled_scales" if width else "time_cond_proj_dim"
    with pytest.raises(ValueError, match=f"this one lacks {lacks}"):
        sd_pipeline(unet=unet(time_cond_proj_dim=width), **says)
    with pytest.raises(ValueError, match="distilled_scales says the lowest and highest"):
        sd_pipeline(unet=unet(time_cond_proj_dim=64), distilled_scales={"guidance_scale": [1, 2]})


def test_the_original_layout_has_no_place_for_it() -> None:
    with pytest.raises(ValueError, match=r"distilled .* keep it as a diffusers folder"):
        original_layout(distilled())


def test_more_steps_than_it_has_learnt_are_refused() -> None:
    pipe = distilled()
    pipe.scheduler = diffusers.LCMScheduler(**SD_SCHEDULE, original_inference_steps=4)
    edit(pipe, num_inference_steps=4)
    with pytest.raises(ValueError, match="distilled for at most 4 steps, not 5"):
        edit(pipe, num_inference_steps=5)


def test_masks_previews_and_few_steps_work_as_ever() -> None:
    pipe = distilled()
    pipe.scheduler = diffusers.LCMScheduler(**SD_SCHEDULE)
    seen: list[torch.Tensor] = []
    mask = torch.zeros(64, 64)
    mask[:, 32:] = 1
    source = picture()
    found = edit(
        pipe, image=source, mask_image=mask.numpy(), num_inference_steps=1, watch=lambda *told: seen.append(told[2]()),
        **SCALES,
    )  # fmt: skip
    before = torch.from_numpy(np.array(source)).permute(2, 0, 1) / 255
    assert torch.allclose(found[0][:, :, :31], before[:, :, :31], atol=1e-3)
    assert len(seen) == 1 and seen[0].isfinite().all()


@BOTH
def test_there_is_one_branch_also_of_the_text_and_for_callbacks(xl: bool) -> None:
    pipe = distilled(xl)
    read: list[int] = []
    handle = pipe.text_encoder.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )
    usual = edit(pipe, **SCALES)
    assert read == [1]  # ∅ is in no branch
    handle.remove()

    def same(pipe: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert {name: len(tensor) for name, tensor in tensors.items()} == {"prompt_embeds": 1, "image_latents": 1}
        return tensors

    told = {"callback_on_step_end": same, "callback_on_step_end_tensor_inputs": ["prompt_embeds", "image_latents"]}
    assert distance(usual, edit(pipe, **SCALES, **told)) == 0
    told["callback_on_step_end"] = lambda pipe, step, t, tensors: {"prompt_embeds": tensors["prompt_embeds"] * 2}
    assert distance(usual, edit(pipe, **SCALES, **told)) > 1e-3

"""Whole distillations of a tiny editor: what they give, that they go on exactly, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import LCMScheduler
from distilled_models import distilled
from finetune_data import lines, write_pairs
from finetune_data import settings as finetuning
from ip2p import InstructPix2PixPipeline
from ip2p.training.distill.run import distil
from ip2p.training.distill.settings import DistilSettings
from ip2p.training.finetune import run
from pairs_models import base_pipeline
from safetensors.torch import load_file
from test_finetune_run import UNET, Killed, dying_after, same
from tiny_models import counted_samples, distance, edit, picture, sd_pipeline, sdxl_pipeline

USUAL = {
    "resolution": 32, "resize_max": 32, "steps": 4, "batch_size": 2, "held_out": 2, "save_every": 2,
    "validate_every": 0, "tracker": "none", "cpu": True, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def a_new_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An editor to distil, and pairs."""
    folder = tmp_path_factory.mktemp("start")
    sd_pipeline().save_pretrained(folder / "editor")
    return {"model": str(folder / "editor"), "data": str(write_pairs(folder / "pairs.parquet", count=20))}


def settings(**given: Any) -> DistilSettings:
    return DistilSettings(**{**USUAL, **given})


def learn(folder: Path, start: dict[str, str], **given: Any) -> dict[str, torch.Tensor]:
    """The state that a distillation ends with."""
    AcceleratorState._reset_state(reset_partial_state=True)
    distil(settings(**{**start, **given}), folder, print)
    return load_file(folder / "state.safetensors")


def opened(folder: Path) -> Any:
    pipe = InstructPix2PixPipeline.from_pretrained(folder / "pipeline", requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_guidance_then_few_steps(start: dict[str, str], tmp_path: Path) -> None:
    assert distil(settings(**start), tmp_path / "guided", print) == [tmp_path / "guided" / "pipeline"]
    guided = opened(tmp_path / "guided")
    assert guided.config.distilled_scales == {"guidance_scale": [2.0, 14.0], "image_guidance_scale": [1.0, 3.0]}
    assert guided.unet.time_embedding.cond_proj.weight.abs().max() > 0
    dials = edit(guided, guidance_scale=3.0), edit(guided, guidance_scale=9.0), edit(guided, image_guidance_scale=2.5)
    assert distance(dials[0], dials[1]) > 1e-4 and distance(dials[0], dials[2]) > 1e-4
    few_from = {"model": str(tmp_path / "guided" / "pipeline"), "guidance_scales": (1.0, 2.0)}
    learn(tmp_path / "few", start, stage="steps", few_steps=2, **few_from)
    few = opened(tmp_path / "few")
    assert isinstance(few.scheduler, LCMScheduler) and few.scheduler.config.original_inference_steps == 50
    assert few.config.distilled_scales == guided.config.distilled_scales  # its own, not the flags'
    with counted_samples(few) as samples:
        few("red", picture(), generator=torch.Generator().manual_seed(0))
    assert samples == [1, 1]


@pytest.mark.parametrize("given", [{"stage": "guidance"}, {"stage": "steps", "segments": 1, "few_steps": 1}])
def test_it_learns_what_its_teacher_says(given: dict[str, Any], start: dict[str, str], tmp_path: Path) -> None:
    looks = {"validate_every": 30, "validation_edits": 1, "validation_steps": 1}
    learn(tmp_path, start, steps=60, save_every=60, batch_size=4, huber_c=0.1, ema_decay=0.5, **given, **looks)
    losses = [row["validation_loss"] for row in lines(tmp_path / "validation.jsonl")]
    assert losses[-1] < losses[0]
    assert (tmp_path / "validation" / "step-00000060.png").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"stage": "guidance", "cache": True},
        {"stage": "steps", "accumulation": 2},
        {"stage": "steps", "train": "lora", "lora_rank": 2},
    ],
    ids=["guidance", "steps", "lora"],
)
def test_a_killed_distillation_ends_with_the_same_weights(
    given: dict[str, Any], start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = learn(tmp_path / "whole", start, **given)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, "Validation", dying_after(3))
        learn(tmp_path / "cut", start, **given)
    assert same(learn(tmp_path / "cut", start, **given), expected)
    assert same(load_file(tmp_path / "cut" / UNET), load_file(tmp_path / "whole" / UNET))


def test_a_lora_is_merged_with_dials_that_count(start: dict[str, str], tmp_path: Path) -> None:
    written = distil(settings(**start, train="lora", lora_rank=2, ema_decay=0.0), tmp_path, print)
    assert written == [tmp_path / "pipeline"]  # alone it would fit no other model
    pipe = opened(tmp_path)
    assert not any("lora" in name for name, _ in pipe.unet.named_parameters())
    assert distance(edit(pipe, guidance_scale=3.0), edit(pipe, guidance_scale=9.0)) > 1e-5
    trained = load_file(tmp_path / "state.safetensors")
    assert sum(tensor.numel() for name, tensor in trained.items() if name.startswith("weight.")) < sum(
        parameter.numel() for parameter in pipe.unet.parameters()
    )


def test_sdxl_is_distilled_too(start: dict[str, str], tmp_path: Path) -> None:
    sdxl_pipeline().save_pretrained(tmp_path / "editor")
    for stage in ("guidance", "steps"):
        learn(tmp_path / stage, start, stage=stage, steps=2, model=str(tmp_path / "editor"), vae=None)
        pipe = InstructPix2PixPipeline.from_pretrained(tmp_path / stage / "pipeline")
        assert pipe.is_xl
        assert edit(pipe, num_inference_steps=1).isfinite().all()


def test_a_distilled_editor_is_not_fine_tuned(start: dict[str, str], tmp_path: Path) -> None:
    distilled().save_pretrained(tmp_path / "distilled")
    told = finetuning(data=start["data"], model=str(tmp_path / "distilled"))
    with pytest.raises(
        ValueError, match="is distilled, and fine-tuning would spoil what its scales do: start from the editor"
    ):
        run.finetune(told, tmp_path / "run", print)
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_what_cant_be_distilled_is_a_sentence(start: dict[str, str], tmp_path: Path) -> None:
    base_pipeline().save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="is a text-to-image model, not an editor: fine-tune it first"):
        learn(tmp_path / "run", start, model=str(tmp_path / "base"))
    learn(tmp_path / "guided", start, steps=1)
    with pytest.raises(ValueError, match="is distilled already: go on with --stage steps"):
        learn(tmp_path / "again", start, model=str(tmp_path / "guided" / "pipeline"))
    learn(tmp_path / "few", start, steps=1, stage="steps")
    for stage in ("guidance", "steps"):
        with pytest.raises(ValueError, match="edits in few steps already, which no teacher does: distil the editor"):
            learn(tmp_path / f"fewer-{stage}", start, stage=stage, model=str(tmp_path / "few" / "pipeline"))
    with pytest.raises(ValueError, match=r"--guidance-scales 2 14 leaves out 1\.5, which the model recommends"):
        learn(tmp_path / "other", start, model="shapes")
    with pytest.raises(ValueError, match=r"holds another run \(guidance_scales is"):
        learn(tmp_path / "guided", start, guidance_scales=(1.0, 14.0))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"guidance_scales": (3.0, 2.0)}, "--guidance-scales is the lowest and the highest scale"),
        ({"image_guidance_scales": (-1.0, 2.0)}, "--image-guidance-scales is the lowest"),
        ({"huber_c": 0.0}, "--huber-c is a number above 0"),
        ({"segments": 0}, "--segments is at least 1"),
        ({"few_steps": 60}, "--few-steps is at most the number of segments, 50"),
        ({"stage": "steps", "segments": 2, "few_steps": 2}, "--validation-steps is at most the number of segments, 2"),
        ({"single_file": True}, "the original layout has no place"),
        ({"learning_rate": 0.0}, "--learning-rate is a number above 0"),
        ({"resolution": 33}, "--resolution is a multiple of 8"),
    ],
)
def test_settings_without_meaning_are_a_sentence(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**wrong)

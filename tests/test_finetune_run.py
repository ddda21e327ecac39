"""Whole trainings of a tiny model: what they write, that they go on exactly, and how they stop."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from finetune_data import encoder, examples, lines, settings, write_pairs
from ip2p import InstructPix2PixPipeline
from ip2p.training.finetune import run
from ip2p.training.finetune.cache import build
from ip2p.training.finetune.loop import StoppedError, Training
from ip2p.training.finetune.run import finetune
from pairs_data import picture
from pairs_models import base_pipeline, xl_pipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

UNET = Path("pipeline", "unet", "diffusion_pytorch_model.safetensors")


@pytest.fixture(autouse=True)
def a_new_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What to begin with, and what to train on."""
    folder = tmp_path_factory.mktemp("start")
    base_pipeline().save_pretrained(folder / "base")
    return {"model": str(folder / "base"), "data": str(write_pairs(folder / "pairs.parquet", count=20))}


def train(folder: Path, start: dict[str, str], **given: Any) -> dict[str, torch.Tensor]:
    """The state that a training ends with."""
    AcceleratorState._reset_state(reset_partial_state=True)
    finetune(settings(**start, **given), folder, print)
    return load_file(folder / "state.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class Killed(BaseException):
    """What nothing catches."""


def dying_after(step: int) -> Any:
    """A validation that ends the process, as far as a test can."""

    class Dying(run.Validation):
        def __call__(self, training: Training) -> None:
            if training.step == step:
                raise Killed

    return Dying


def test_a_training_gives_a_pipeline_that_has_learnt_and_tells_how(start: dict[str, str], tmp_path: Path) -> None:
    written = finetune(settings(**start, steps=5, learning_rate=1e-3, ema_decay=0.5), tmp_path, print)
    assert written == [tmp_path / "pipeline"]
    pipe = InstructPix2PixPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe.unet.conv_in.weight[:, 4:].abs().max() > 0  # it reads the source now
    state = load_file(tmp_path / "state.safetensors")
    averaged = dict(zip((name for name, _ in pipe.unet.named_parameters()), range(1000), strict=False))
    weight, index = pipe.unet.conv_out.weight, averaged["conv_out.weight"]
    assert torch.equal(weight, state[f"ema.{index}"]) and not torch.equal(weight, state[f"weight.{index}"])
    [row] = lines(tmp_path / "log.jsonl")
    assert row["step"] == 5 and 0.1 < row["loss"] < 5 and row["images_per_second"] > 0


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cache": True, "cache_variants": 2},
        {"train": "lora", "lora_rank": 2, "accumulation": 2, "ema_update": "batch"},
        {"train_text_encoder": True, "schedule": "cosine", "ema_decay": 0.0, "max_grad_norm": 0.1},
        {"optimizer": "muon"},
    ],
    ids=["plain", "cache", "lora", "text", "muon"],
)
def test_a_killed_training_ends_with_the_same_weights(
    given: dict[str, Any], start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tmp_path / "whole", start, steps=5, **given)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, "Validation", dying_after(3))
        train(tmp_path / "cut", start, steps=5, **given)
    assert same(train(tmp_path / "cut", start, steps=5, **given), expected)
    assert same(load_file(tmp_path / "cut" / UNET), load_file(tmp_path / "whole" / UNET))


def test_ctrl_c_ends_the_step_and_the_next_run_goes_on(
    start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tmp_path / "whole", start, steps=5)
    moved = Training._move

    def interrupted(training: Training) -> None:
        if training.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        moved(training)

    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="stopped at step 4"):
        patch.setattr(Training, "_move", interrupted)
        train(tmp_path / "cut", start, steps=5, save_every=100)
    assert same(train(tmp_path / "cut", start, steps=5, save_every=100), expected)


def test_more_steps_go_on_from_where_it_ended(start: dict[str, str], tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", start, steps=5)
    train(tmp_path / "parts", start, steps=2)
    assert same(train(tmp_path / "parts", start, steps=5), expected)


@pytest.mark.parametrize("emulated", [True, False])
def test_bf16_is_float32_where_the_cpu_would_emulate_it(
    emulated: bool,
    start: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    expected = train(tmp_path / "float32", start, steps=2, mixed_precision="no")
    monkeypatch.setattr(run, "emulates", lambda dtype, device: emulated)
    assert same(train(tmp_path / "bf16", start, steps=2, mixed_precision="bf16"), expected) == emulated
    assert ("float32 is taken instead" in capsys.readouterr().out) == emulated


def test_validation_changes_nothing(start: dict[str, str], tmp_path: Path) -> None:
    looks = {"validate_every": 2, "validation_edits": 1, "validation_steps": 2}
    expected = train(tmp_path / "without", start)
    for name, given in (("with", {}), ("cached", {"cache": True})):
        found = train(tmp_path / name, start, **looks, **given)
        assert name == "cached" or same(found, expected)
    assert same(train(tmp_path / "cached alone", start, cache=True), found)


def test_validation_is_seen(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path, start, steps=3, validate_every=2, validation_edits=2, validation_steps=2, learning_rate=1e-3)
    rows = lines(tmp_path / "validation.jsonl")
    assert [row["step"] for row in rows] == [2, 3]
    levels = {name: value for name, value in rows[0].items() if name.startswith("loss_at")}
    assert len(levels) == 10 and rows[0]["validation_loss"] == pytest.approx(np.mean(list(levels.values())))
    assert rows[0]["validation_loss"] != rows[1]["validation_loss"]
    sheets = sorted((tmp_path / "validation").iterdir())
    assert [path.name for path in sheets] == ["step-00000002.png", "step-00000003.png"]
    assert np.array(Image.open(sheets[0])).std() > 20
    best = min(rows, key=lambda row: row["validation_loss"])
    with safe_open(tmp_path / "best.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == str(best["step"])


def test_what_the_result_recommends_is_what_validation_edits_with(start: dict[str, str], tmp_path: Path) -> None:
    looks = {"steps": 1, "validate_every": 1, "validation_edits": 1, "validation_steps": 2}
    sheets = []
    for scale in (1.0, 6.0):
        own = {"default_guidance_scale": scale, "default_image_guidance_scale": 1.2, "default_num_inference_steps": 7}
        train(tmp_path / str(scale), start, **looks, **own)
        sheets.append(np.array(Image.open(tmp_path / str(scale) / "validation" / "step-00000001.png")))
        config = InstructPix2PixPipeline.from_pretrained(tmp_path / str(scale) / "pipeline").config
        assert {name: config[name] for name in own} == own
    assert not np.array_equal(*sheets)


def test_the_best_weights_are_published_if_asked_for(start: dict[str, str], tmp_path: Path) -> None:
    # Each step of this length makes it worse.
    given = {"steps": 2, "validate_every": 1, "validation_edits": 0, "learning_rate": 0.3, "ema_decay": 0.0}
    for which in ("last", "best"):
        train(tmp_path / which, start, publish=which, **given)
    losses = [row["validation_loss"] for row in lines(tmp_path / "best" / "validation.jsonl")]
    assert losses[0] < losses[1]
    best = load_file(tmp_path / "best" / "best.safetensors")
    published = [
        InstructPix2PixPipeline.from_pretrained(tmp_path / name / "pipeline").unet for name in ("last", "best")
    ]
    assert torch.equal(published[1].conv_out.weight, best["unet.conv_out.weight"])
    assert not torch.equal(published[0].conv_out.weight, best["unet.conv_out.weight"])


def test_a_validation_that_was_cut_off_is_made_when_the_training_goes_on(
    start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(run.Validation):
        def validate(self, *given: Any) -> dict[str, float]:
            raise Killed

    given = {"steps": 2, "validate_every": 2, "validation_edits": 0, "publish": "best"}
    train(tmp_path / "whole", start, **given)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(run, "Validation", Dying)
        train(tmp_path / "cut", start, **given)
    for _ in range(2):  # and no more than once
        train(tmp_path / "cut", start, **given)
        assert lines(tmp_path / "cut" / "validation.jsonl") == lines(tmp_path / "whole" / "validation.jsonl")
        assert same(load_file(tmp_path / "cut" / UNET), load_file(tmp_path / "whole" / UNET))


def test_the_result_says_what_it_was_trained_to_predict(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path, start, steps=1, prediction_type="v_prediction")
    pipe = InstructPix2PixPipeline.from_pretrained(tmp_path / "pipeline")
    assert pipe.scheduler.config.prediction_type == "v_prediction"


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(start: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"The loss at step \d is nan\. Begin anew .* with a lower --learning-rate"):
        train(tmp_path, start, steps=200, learning_rate=1e30, save_every=1)
    state = load_file(tmp_path / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_weights_that_are_no_numbers_are_not_kept_and_what_was_learnt_is_published(
    start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Training._move

    def spoil(training: Training) -> None:
        move(training)
        if training.step == 2:
            training.parameters[0].data.fill_(float("nan"))

    monkeypatch.setattr(Training, "_move", spoil)
    with pytest.raises(ValueError, match=r"The weights after step 3 are no numbers\. .* --steps 2 publishes it"):
        train(tmp_path, start, steps=3, save_every=1)
    state = train(tmp_path, start, steps=2, save_every=1)
    assert all(tensor.isfinite().all() for tensor in state.values()) and (tmp_path / UNET).exists()


def test_what_failed_before_a_checkpoint_may_be_mended_in_the_same_folder(
    start: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="has no column before"):
        train(tmp_path, start, steps=1, original_image_column="before")
    train(tmp_path, start, steps=1)


def test_other_data_than_before_are_refused(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path / "run", start, steps=1)
    more = str(write_pairs(tmp_path / "more.parquet", count=21))
    with pytest.raises(ValueError, match="was trained on other data than these 42 rows: give another --output"):
        train(tmp_path / "run", {**start, "data": more}, steps=2)


def test_averages_after_each_batch_follow_the_last_step(start: dict[str, str], tmp_path: Path) -> None:
    given = {"steps": 1, "learning_rate": 1e-2, "ema_decay": 0.5}
    each, step = (train(tmp_path / how, start, ema_update=how, **given) for how in ("batch", "step"))
    assert same(each, step)  # with one batch a step there is no difference


def test_another_runs_folder_is_refused_and_so_is_a_damaged_state(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path, start, steps=2)
    with pytest.raises(ValueError, match=r"holds another run \(learning_rate is 0.0001, not 0.1\)"):
        train(tmp_path, start, steps=3, learning_rate=0.1)
    (tmp_path / "state.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        train(tmp_path, start, steps=3)


def test_a_run_goes_on_with_as_many_batches_a_step(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path, start, steps=2, accumulation=2)
    with pytest.raises(ValueError, match=r"was trained with 2 batches a step, not 1: processes times --accumulation"):
        train(tmp_path, start, steps=3)
    (tmp_path / "state.json").write_text('{"step": "2", "processes": 2, "by": "FSDP"}')
    with pytest.raises(ValueError, match="was trained by FSDP, not by NO: go on so"):
        train(tmp_path, start, steps=3, accumulation=2)


def test_a_run_of_a_version_with_fewer_settings_goes_on(start: dict[str, str], tmp_path: Path) -> None:
    expected = train(tmp_path / "whole", start, steps=4)
    train(tmp_path / "old", start, steps=2)
    path = tmp_path / "old" / "settings.json"
    told = json.loads(path.read_text())
    del told["timestep_shift"]
    path.write_text(json.dumps(told))
    assert same(train(tmp_path / "old", start, steps=4), expected)
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"holds another run \(timestep_shift is 1\.0, not 3\.0\)"):
        train(tmp_path / "old", start, steps=5, timestep_shift=3.0)


def test_the_best_of_no_validation_is_refused(start: dict[str, str], tmp_path: Path) -> None:
    few = str(write_pairs(tmp_path / "few.parquet", count=6, each=1))
    with pytest.raises(ValueError, match="So little data leaves nothing to validate on"):
        train(tmp_path / "run", {**start, "data": few}, steps=1, validate_every=1, publish="best")


def test_an_sdxl_editor_works_at_the_size_it_was_trained_at(start: dict[str, str], tmp_path: Path) -> None:
    xl_pipeline().save_pretrained(tmp_path / "base")
    train(tmp_path / "run", {**start, "model": str(tmp_path / "base")}, steps=1)
    pipe = InstructPix2PixPipeline.from_pretrained(tmp_path / "run" / "pipeline")
    assert pipe.unet.config.sample_size * pipe.vae_scale_factor == 32


def test_rows_that_cant_be_used_are_told(start: dict[str, str], tmp_path: Path) -> None:
    images = [b"none", *[picture(0, 64, 64)] * 19]
    path = write_pairs(tmp_path / "p.parquet", 10, original_image=images, edit_prompt=["x"] * 19 + [""])
    told: list[str] = []
    finetune(settings(model=start["model"], data=str(path), cache=True, steps=1), tmp_path / "run", told.append)
    assert told[0] == "1 rows have no instruction and are left out."
    assert told[1].startswith("1 rows are left out, the first because row 0, the picture before is not a picture")


def test_a_cache_of_another_model_is_told_and_not_read(start: dict[str, str], tmp_path: Path) -> None:
    expected = train(tmp_path / "alone", start, cache=True, steps=1)
    other = encoder()
    with torch.no_grad():
        for weight in other.pipe.vae.parameters():
            weight.mul_(1.1)
    given = settings(**start, cache=True, steps=1)
    build(tmp_path / "run" / "cache", examples(Path(start["data"])), other, given)
    told: list[str] = []
    AcceleratorState._reset_state(reset_partial_state=True)
    finetune(given, tmp_path / "run", told.append)
    assert same(load_file(tmp_path / "run" / "state.safetensors"), expected)
    assert any(
        re.search(r"has 1 files \(.* GB\) of another model, other data or other settings", each) for each in told
    )


def test_a_compiled_unet_learns_the_same(
    start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tmp_path / "plain", start, steps=2)
    traced = []

    def backend(graph: torch.fx.GraphModule, _: list[Any]) -> Any:
        traced.append(graph)
        return graph.forward

    in_place = torch.nn.Module.compile  # without inductor, which needs a compiler of C++ and minutes
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: in_place(module, backend=backend))
    assert same(train(tmp_path / "compiled", start, steps=2, compile=True), expected)
    assert traced
    InstructPix2PixPipeline.from_pretrained(tmp_path / "compiled" / "pipeline")


def test_figures_go_to_tensorboard(start: dict[str, str], tmp_path: Path) -> None:
    train(tmp_path, start, steps=2, tracker="tensorboard", validate_every=2, validation_edits=1, validation_steps=1)
    [folder] = {path.parent for path in (tmp_path / "logs").rglob("events.out.tfevents.*")}
    seen = EventAccumulator(str(folder)).Reload()
    told = lines(tmp_path / "log.jsonl")[-1]
    assert {event.step: event.value for event in seen.Scalars("loss")}[2] == pytest.approx(told["loss"])


@pytest.mark.parametrize("cache", [False, True])
def test_damaged_pictures_stop_nothing(cache: bool, start: dict[str, str], tmp_path: Path) -> None:
    images = [b"none", None, b"none", None, *[picture(0, 64, 64)] * 16]
    path = write_pairs(tmp_path / "p.parquet", 20, each=1, original_image=images)
    given = {"model": start["model"], "data": str(path), "cache": cache, "steps": 12, "save_every": 12}
    told: list[str] = []
    for held_out in (0, 20):
        looks = {"held_out": held_out, "validate_every": 12, "validation_edits": 20, "validation_steps": 1}
        AcceleratorState._reset_state(reset_partial_state=True)
        finetune(settings(**given, **looks), tmp_path / str(held_out), told.append)
    assert told
    for each in told:
        assert re.search("row [0-3](, the picture before is not a picture| has no original_image in it)", each)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounts a small disk, as root only can")
@pytest.mark.parametrize(
    ("size", "given"), [("700k", {}), ("300k", {"train": "layers", "layers": ["conv_in"]})], ids=["state", "result"]
)
def test_a_full_disk_stops_with_a_sentence_and_room_lets_it_go_on(
    size: str, given: dict[str, Any], start: dict[str, str], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with pytest.raises(OSError, match=r"There is no room for .*What is done is kept"):
            train(disk / "run", start, steps=4, save_every=1, **given)
    finally:
        subprocess.run(["umount", disk], check=True)

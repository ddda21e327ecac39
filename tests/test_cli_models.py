"""`--model`: folders, files and the Hub; what can't be loaded is told in a sentence, and nothing foreign is run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import loopback_hub
import pytest
import torch
from cli_runner import Ip2p, Result, files
from diffusers import DDIMScheduler, EDMEulerScheduler
from ip2p import InstructPix2PixPipeline
from PIL import Image
from tiny_models import distance, noise, sdxl_pipeline

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def refused(ip2p: Ip2p, folder: Path) -> Any:
    """Edits with a model that must be refused, and gives the sentence."""

    def run(model: object, *flags: object) -> str:
        before = files(folder)
        result = ip2p("edit", "cat.jpg", "make it winter", "--steps", 1, "--model", model, *flags)
        assert (result.code, result.out) == (1, "")
        [line] = result.err.splitlines()
        assert files(folder) == before
        return line

    return run


@pytest.fixture
def copy(tiny_model: Path, folder: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny_model, folder / "copy"))


def test_missing_models(refused: Any, folder: Path) -> None:
    assert "no model folder ./nowhere" in refused("./nowhere")
    assert "no model folder a/b/c" in refused("a/b/c")
    assert "no model file nowhere.safetensors" in refused("nowhere.safetensors")
    assert "no model_index.json" in refused(folder)


def test_pickles_are_refused(refused: Any, copy: Path) -> None:
    torch.save({}, "model.ckpt")
    assert "pickle" in refused("model.ckpt")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, copy / "unet" / "diffusion_pytorch_model.bin")
    assert "pickle" in refused(copy)


def test_broken_folders_are_refused(refused: Any, copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "copy" in refused(copy)
    shutil.rmtree(copy / "vae")
    assert "no vae" in refused(copy)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model_index.json", {"default_guidance_scale": []}),
        ("unet/config.json", {"block_out_channels": None}),
        ("unet/config.json", {"block_out_channels": [10**30, 32]}),
        ("scheduler/scheduler_config.json", {"beta_start": "low"}),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "many"}),
        ("vae/config.json", {"scaling_factor": "half"}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_nonsense_in_a_folder_is_told(refused: Any, copy: Path, file: str, change: dict[str, Any]) -> None:
    (copy / file).write_text(json.dumps(json.loads((copy / file).read_text()) | change))
    assert "can't be" in refused(copy)


def test_code_in_a_folder_is_not_run(ip2p: Ip2p, refused: Any, copy: Path) -> None:
    for name in ("pipeline.py", "unet/my_unet.py"):
        (copy / name).write_text("open('was-run', 'w')\nclass Mine: pass\n")
    assert ip2p("edit", "cat.jpg", "make it winter", "--steps", 1, "--model", copy).code == 0

    index = copy / "model_index.json"
    entries = json.loads(index.read_text())
    for change in ({"_class_name": ["pipeline", "Mine"]}, {"unet": ["my_unet", "Mine"]}):
        index.write_text(json.dumps(entries | change))
        assert "custom code" in refused(copy)
    assert not Path("was-run").exists()


def test_a_scheduler_that_does_not_know_the_models_noise_is_refused(ip2p: Ip2p, refused: Any, folder: Path) -> None:
    own = EDMEulerScheduler(sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction")
    sdxl_pipeline(scheduler=own, is_cosxl_edit=True).save_pretrained(folder / "cosxl")
    for name in ("euler", "ddim"):
        assert "noise schedule of its own" in refused("cosxl", "--scheduler", name)
    assert ip2p("edit", "cat.jpg", "make it winter", "--steps", 1, "--model", "cosxl").code == 0


def test_ddim_does_not_clip_the_latents_of_a_model_with_another_scheduler(ip2p: Ip2p, tiny_model: Path) -> None:
    flags = ["--steps", 2, "--seed", 5, "--scheduler", "ddim"]
    assert ip2p("edit", "cat.jpg", "make it winter", "--model", tiny_model, *flags).code == 0
    pipe = InstructPix2PixPipeline.from_pretrained(tiny_model)
    for clips in (False, True):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=clips)
        call = {"num_inference_steps": 2, "resolution": 64}
        made = pipe("make it winter", "cat.jpg", generator=noise(5), **call).images[0]
        assert (distance(Image.open("cat-edited.png"), made) == 0) is not clips


def test_an_unusable_device_is_told(refused: Any, tiny_model: Path) -> None:
    for device in ("warp", "meta"):
        assert f"--device {device}" in refused(tiny_model, "--device", device)


def test_the_name_of_a_folder_is_recorded_without_its_path(ip2p: Ip2p, copy: Path) -> None:
    ip2p("edit", "cat.jpg", "make it winter", "--steps", 1, "--model", copy)
    text = Image.open("cat-edited.png").text["ip2p"]
    assert json.loads(text)["model"] == "copy"
    assert str(copy.parent) not in text


def test_offline_mode_says_how_to_go_on(refused: Any) -> None:
    told = refused("timbrooks/instruct-pix2pix")  # conftest.py has set HF_HUB_OFFLINE
    for way in ("Check the network", "hf download", "the model shapes"):
        assert way in told


def test_models_from_the_hub(folder: Path, tiny_model: Path) -> None:
    hub = folder / "hub"
    shutil.copytree(tiny_model, hub / "artist--winter")
    shutil.copytree(tiny_model, hub / "artist--pickled")
    weights = hub / "artist--pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    (hub / "artist--notes").mkdir()
    (hub / "artist--notes" / "README.md").write_text("notes")

    def edit(model: str, output: str = "never.png") -> list[str]:
        return ["edit", "cat.jpg", "make it winter", "--model", model, "--steps", "1", "-o", output]

    commands: list[Any] = [
        edit("artist/winter", "online.png"),
        edit("artist/nothing"),
        edit("artist/pickled"),
        edit("artist/notes"),
        "offline",
        edit("artist/winter", "cached.png"),
        edit("artist/summer"),
    ]
    process = subprocess.run(
        [sys.executable, loopback_hub.__file__, str(hub)],
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HOME": str(folder / "cache")},
        timeout=900,
    )
    results = [Result(*json.loads(line)) for line in process.stdout.splitlines()]
    assert len(results) == 6, process.stderr
    online, nothing, pickled, notes, cached, summer = results

    for result, name in ((online, "online.png"), (cached, "cached.png")):
        assert result.code == 0, result.err
        made_by = json.loads(Image.open(name).text["ip2p"])
        assert (made_by["model"], made_by["revision"]) == ("artist/winter", loopback_hub.COMMIT)
    for result, told in (
        (nothing, "There is no model artist/nothing"),
        (pickled, "pickle"),
        (notes, "no model_index.json"),
        (summer, "the Hub can't be reached"),
    ):
        assert result.code == 1
        assert told in result.err
        assert len(result.err.splitlines()) == 1
    assert not Path("never.png").exists()

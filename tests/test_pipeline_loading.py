"""Folders and files in and out: what is saved loads again, by us, by plain diffusers, and without ip2p installed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ip2p.ip2p_pipeline.pipeline as pipeline_module
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.loading import write_stock_index
from PIL import Image
from tiny_models import (
    distance,
    edit,
    feature_extractor,
    image_encoder,
    picture,
    quiet,
    sd_components,
    sd_pipeline,
    sdxl_pipeline,
    stock,
    unet,
)

CLOSE = 1e-4
MAKERS = [sd_pipeline, sdxl_pipeline]


def load(folder: Path, **kwargs: object) -> InstructPix2PixPipeline:
    return quiet(InstructPix2PixPipeline.from_pretrained(folder, **kwargs))


@pytest.mark.parametrize("make", MAKERS)
def test_a_stock_folder_loads(make, tmp_path: Path) -> None:
    pipe = make()
    stock(pipe).save_pretrained(tmp_path)
    assert distance(edit(load(tmp_path)), edit(pipe)) < CLOSE


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_saved_loads_again_here_and_in_plain_diffusers(make, tmp_path: Path) -> None:
    pipe = make()
    pipe.save_pretrained(tmp_path)
    assert distance(edit(load(tmp_path)), edit(pipe)) < CLOSE
    plain = quiet(DiffusionPipeline.from_pretrained(tmp_path))
    assert type(plain) is type(stock(pipe))
    size = {"height": 64, "width": 64} if pipe.is_xl else {}
    generator = torch.Generator().manual_seed(0)
    theirs = plain(
        "make it winter", image=picture(), num_inference_steps=3, generator=generator, output_type="pt", **size
    ).images
    assert distance(theirs, edit(pipe)) < CLOSE
    assert not list(tmp_path.rglob("*.bin"))


def test_settings_survive_and_silent_ones_are_not_written(tmp_path: Path) -> None:
    sd_pipeline(default_guidance_scale=3.5, default_num_inference_steps=20).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["default_guidance_scale"] == 3.5
    assert index["default_num_inference_steps"] == 20
    assert not {"default_image_guidance_scale", "is_cosxl_edit", "text_encoder_2", "_name_or_path"} & set(index)
    again = load(tmp_path)
    assert (again.config.default_guidance_scale, again.config.default_image_guidance_scale) == (3.5, None)
    again.save_pretrained(tmp_path / "again")
    assert str(tmp_path) not in (tmp_path / "again" / "model_index.json").read_text()
    assert quiet(DiffusionPipeline.from_pretrained(tmp_path)) is not None


def test_optional_components_that_are_absent_stay_absent(tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path)
    again = load(tmp_path)
    for name in ("safety_checker", "feature_extractor", "text_encoder_2", "tokenizer_2", "image_encoder"):
        assert getattr(again, name) is None
    assert distance(edit(again), edit(sd_pipeline())) < CLOSE


def test_optional_components_that_are_there_stay_there(tmp_path: Path) -> None:
    pipe = sd_pipeline(feature_extractor=feature_extractor(), image_encoder=image_encoder())
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    again = load(tmp_path)
    assert again.feature_extractor.size == pipe.feature_extractor.size
    assert again.image_encoder.config.hidden_size == pipe.image_encoder.config.hidden_size


def test_components_passed_to_the_loader_are_used(tmp_path: Path) -> None:
    sdxl_pipeline().save_pretrained(tmp_path)
    other = sdxl_pipeline().text_encoder_2
    assert load(tmp_path, text_encoder_2=other).text_encoder_2 is other


def test_half_precision_save_and_load(tmp_path: Path) -> None:
    pipe = sd_pipeline().to(dtype=torch.bfloat16)
    pipe.save_pretrained(tmp_path)
    again = load(tmp_path, torch_dtype=torch.bfloat16)
    assert again.unet.dtype == again.vae.dtype == again.text_encoder.dtype == torch.bfloat16
    assert distance(edit(again).float(), edit(pipe).float()) == 0


def test_variants(tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert load(tmp_path, variant="fp16") is not None
    with pytest.raises(ValueError, match="no such modeling files"):
        load(tmp_path, variant="bf16")


def test_sharded_weights(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    pipe.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    assert distance(edit(load(tmp_path)), edit(pipe)) < CLOSE


def test_pickles_are_refused(tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    load(tmp_path / "model")  # the pickle beside the safetensors is not touched
    with pytest.raises(ValueError, match="use_safetensors"):
        load(tmp_path / "model", use_safetensors=False)
    weights.unlink()
    with pytest.raises(ValueError, match="pickle"):
        load(tmp_path / "model")
    with pytest.raises(ValueError, match="safe_serialization"):
        sd_pipeline().save_pretrained(tmp_path / "pickled", safe_serialization=False)
    torch.save({}, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="pickle"):
        InstructPix2PixPipeline.from_single_file(tmp_path / "model.ckpt")


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_component_is_named(name: str, tmp_path: Path) -> None:
    sd_pipeline().save_pretrained(tmp_path)
    part = getattr(load(tmp_path), name)
    shutil.rmtree(tmp_path / name)
    with pytest.raises(ValueError, match=f"no {name}"):
        load(tmp_path)
    assert load(tmp_path, **{name: part}) is not None
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index[name]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    if name in ("unet", "vae", "scheduler"):
        with pytest.raises(ValueError, match=f"no {name}"):
            load(tmp_path)


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_index\.json"):
        load(tmp_path)
    components = {**sd_components(), "unet": unet(in_channels=4)}
    StableDiffusionPipeline(**components, requires_safety_checker=False).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="text-to-image checkpoint"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "tokenizer/tokenizer.json",
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    """A download that broke off, an empty file, and what a clone holds that was made without git-lfs."""
    sd_pipeline().save_pretrained(tmp_path)
    file = tmp_path / name
    for content in (file.read_bytes()[:-10], b"", b"version https://git-lfs.github.com/spec/v1\n"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is damaged.*again.$"):
            load(tmp_path)


def test_a_damaged_file_that_is_not_asked_for_does_no_harm(tmp_path: Path) -> None:
    pipe = sd_pipeline()
    pipe.save_pretrained(tmp_path, variant="fp16")
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"version https://git-lfs.github.com\n")
    assert distance(edit(load(tmp_path, variant="fp16")), edit(pipe)) < CLOSE


@pytest.mark.parametrize("name", ["CLIPImageProcessorPil", "CLIPImageProcessorFast"])
def test_the_index_names_classes_that_every_version_of_transformers_has(name: str, tmp_path: Path) -> None:
    """What is saved where torchvision is missing, or with another version, is read as well where it is not."""
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "X", "feature_extractor": ["transformers", name]}))
    write_stock_index(index, xl=False)
    assert json.loads(index.read_text())["feature_extractor"] == ["transformers", "CLIPImageProcessor"]


@pytest.mark.parametrize("make", MAKERS)
def test_from_pipe_and_back(make) -> None:
    pipe = make()
    original = stock(pipe)
    ours = quiet(InstructPix2PixPipeline.from_pipe(original))
    assert ours.unet is original.unet
    assert distance(edit(ours), edit(pipe)) < CLOSE
    back = type(original).from_pipe(ours)
    assert back.unet is original.unet
    assert InstructPix2PixPipeline.from_pipe(ours, default_guidance_scale=2.0).config.default_guidance_scale == 2.0


def test_from_pipe_keeps_precision_and_settings() -> None:
    pipe = sdxl_pipeline(is_cosxl_edit=True).to(dtype=torch.bfloat16)
    again = InstructPix2PixPipeline.from_pipe(pipe)
    assert again.unet.dtype == torch.bfloat16
    assert again.config.is_cosxl_edit
    assert InstructPix2PixPipeline.from_pipe(pipe, torch_dtype=torch.float32).unet.dtype == torch.float32


def test_from_pipe_keeps_what_stock_cosxl_says_outside_its_config() -> None:
    pipe = sdxl_pipeline(is_cosxl_edit=True)
    again = InstructPix2PixPipeline.from_pipe(stock(pipe))
    assert again.config.is_cosxl_edit
    assert distance(edit(quiet(again)), edit(pipe)) < CLOSE


WITHOUT_IP2P = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "ip2p":
            raise ImportError("ip2p is not installed here")

sys.meta_path.insert(0, Refuse())
import torch
from diffusers import DiffusionPipeline
from PIL import Image

for first, second in zip(sys.argv[1::2], sys.argv[2::2]):
    for folder in (first, second):
        pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
        assert type(pipe).__name__ == "InstructPix2PixPipeline", type(pipe)
        assert type(pipe).__module__.startswith("diffusers_modules"), type(pipe)
        image = Image.new("RGB", (40, 24), "teal")
        call = dict(num_inference_steps=2, guidance_scale=7.5, image_guidance_scale=1.0, output_type="pt")
        print(pipe("red", image, generator=torch.Generator().manual_seed(0), **call).images.double().sum().item())
        if folder == first:
            pipe.save_pretrained(second)
    other = type(pipe.text_encoder)(pipe.text_encoder.config)
    options = dict(custom_pipeline=first, trust_remote_code=True)
    pipe = DiffusionPipeline.from_pretrained(first, text_encoder=other, text_encoder_2=None, **options)
    assert pipe.text_encoder is other and pipe.text_encoder_2 is None
"""


def test_without_ip2p_installed(tmp_path: Path) -> None:
    """Loaded from the folder's own code, saved by that code, and loaded once more."""
    folders, pipes = [], [sd_pipeline(), sdxl_pipeline()]
    for i, pipe in enumerate(pipes):
        pipe.save_pretrained(tmp_path / f"saved{i}")
        folders += [tmp_path / f"saved{i}", tmp_path / f"saved_again{i}"]
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_IP2P)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(script), *map(str, folders)]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    sums = [float(line) for line in run.stdout.split()]
    image = Image.new("RGB", (40, 24), "teal")
    for i, pipe in enumerate(pipes):
        ours = edit(pipe, "red", image, num_inference_steps=2, guidance_scale=7.5, image_guidance_scale=1.0)
        assert sums[2 * i : 2 * i + 2] == pytest.approx([float(ours.double().sum())] * 2, abs=0.01)


def test_files_are_read_as_utf8_whatever_the_machines_language_says(tmp_path: Path) -> None:
    """Here under the C locale; Korean, Japanese and Chinese Windows have encodings of their own."""
    (tmp_path / "tokenizer.json").write_text('{"∅": 0}', encoding="utf-8")
    script = (
        "import sys, pathlib; from ip2p.ip2p_pipeline.loading import damaged_file, write_code; "
        "folder = pathlib.Path(sys.argv[1]); assert damaged_file(folder) is None; write_code(folder)"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert (tmp_path / "pipeline.py").is_file()


def test_the_published_files_stand_alone() -> None:
    """The Hub's loader fetches pipeline.py and what it imports, one level deep; nothing else may be needed.

    They may import one another, since pipeline.py imports each.
    """
    folder = Path(pipeline_module.__file__).parent
    imports = re.compile(r"^\s*from (\.+\w*) import|^\s*(?:from|import) (\w+)", re.MULTILINE)
    siblings = re.findall(r"^from \.(\w+) import", (folder / "pipeline.py").read_text(), re.MULTILINE)
    allowed = {"torch", "diffusers", "transformers", "numpy", "PIL", "huggingface_hub", "safetensors"}
    for name in siblings:
        found = imports.findall((folder / f"{name}.py").read_text())
        assert {relative for relative, _ in found if relative} <= {f".{sibling}" for sibling in siblings}, name
        outside = {package for _, package in found if package} - set(sys.stdlib_module_names)
        assert outside <= allowed, name

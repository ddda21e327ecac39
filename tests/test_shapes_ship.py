import open_clip
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from ip2p import InstructPix2PixPipeline
from ip2p.ip2p_pipeline.widening import widen
from ip2p.training.shapes.autoencoder import new_autoencoder
from ip2p.training.shapes.base import as_pipeline, new_unet
from ip2p.training.shapes.clip import new_clip, save_weights
from ip2p.training.shapes.ship import ShipSettings, main
from ip2p.training.shapes.text import new_text_encoder
from PIL import Image

MOST_BYTES = 12_400_000


def size(folder):
    return sum(file.stat().st_size for file in folder.rglob("*"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editor")
    torch.manual_seed(0)
    base = as_pipeline(new_autoencoder(), new_text_encoder(), widen(new_unet()))
    InstructPix2PixPipeline.from_pipe(base).save_pretrained(folder / "trained")
    main(ShipSettings(editor=folder / "trained", editor_to=folder / "shipped"))
    return folder / "shipped"


def test_shipped_model_is_small_and_holds_no_code(shipped):
    assert size(shipped) < MOST_BYTES
    assert {file.suffix for file in shipped.rglob("*") if file.is_file()} == {".json", ".safetensors"}


def test_shipped_model_does_not_tell_where_it_was_made(shipped):
    assert all(str(shipped.parent) not in file.read_text() for file in shipped.rglob("*.json"))


@pytest.mark.parametrize("pipeline", [InstructPix2PixPipeline, StableDiffusionInstructPix2PixPipeline])
@pytest.mark.parametrize("settings", [{}, {"torch_dtype": torch.float16}])
def test_shipped_model_edits_in_either_precision(shipped, pipeline, settings):
    pipe = pipeline.from_pretrained(shipped, **settings)
    pipe.set_progress_bar_config(disable=True)
    image = Image.new("RGB", (64, 64), "red")
    assert pipe("make the background blue", image, num_inference_steps=2).images[0].size == (64, 64)


@pytest.fixture(scope="module")
def makers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("makers")
    torch.manual_seed(0)
    as_pipeline(new_autoencoder(), new_text_encoder(), new_unet()).save_pretrained(folder / "base")
    save_weights(new_clip(folder / "clip")[0], folder / "clip")
    settings = {"base": folder / "base", "base_to": folder / "shipped-base"}
    main(ShipSettings(clip=folder / "clip", clip_to=folder / "shipped-clip", **settings))
    return folder


def test_what_makes_data_is_shipped_small_and_without_code(makers):
    for name in ("shipped-base", "shipped-clip"):
        assert 0 < size(makers / name) < MOST_BYTES
        files = [file for file in (makers / name).rglob("*") if file.is_file()]
        assert {file.suffix for file in files} == {".json", ".safetensors"}
        assert all(str(makers) not in file.read_text() for file in files if file.suffix == ".json")


def test_what_makes_data_loads(makers):
    pipe = StableDiffusionPipeline.from_pretrained(makers / "shipped-base")
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a small red circle on white", num_inference_steps=2).images[0].size == (64, 64)
    open_clip.create_model(f"local-dir:{makers / 'shipped-clip'}")

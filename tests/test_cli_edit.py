"""`ip2p edit`: results, their names, formats and metadata; stopping."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cli_runner import Ip2p, files
from ip2p import InstructPix2PixPipeline, __version__
from PIL import Image
from tiny_models import distance, noise, picture

pytest_plugins = ["cli_fixtures"]


def record(path: str) -> dict[str, Any]:
    return json.loads(Image.open(path).text["ip2p"])


def test_the_result_is_the_pipelines(edit: Ip2p, folder: Path, tiny_model: Path) -> None:
    result = edit("cat.jpg", "make it winter", "--seed", 5, "--guidance-scale", 3, "--negative-prompt", "snow")
    assert result.code == 0
    assert result.out.startswith("cat-edited.png  seed 5 ")
    pipe = InstructPix2PixPipeline.from_pretrained(tiny_model)
    expected = pipe(
        "make it winter",
        "cat.jpg",
        num_inference_steps=2,
        guidance_scale=3.0,
        negative_prompt="snow",
        generator=noise(5),
        resolution=64,  # the tiny U-Net's own size
    ).images[0]
    edited = Image.open("cat-edited.png")
    assert edited.size == (48, 32)
    assert distance(edited, expected) == 0


def test_the_settings_are_in_the_png(edit: Ip2p) -> None:
    edit("cat.jpg", "겨울로 만들어 줘", "--guidance-scale", 3, "--scheduler", "ddim")
    made_by = record("cat-edited.png")
    assert made_by["instruction"] == "겨울로 만들어 줘"
    assert made_by["guidance_scale"] == 3.0
    assert made_by["image_guidance_scale"] == 1.5  # the default is told too
    assert (made_by["steps"], made_by["scheduler"], made_by["model"]) == (2, "DDIMScheduler", "tiny")
    assert made_by["version"] == __version__
    edit("cat.jpg", "겨울로 만들어 줘", "--guidance-scale", 3, "--scheduler", "ddim", "--seed", made_by["seed"])
    assert distance(Image.open("cat-edited.png"), Image.open("cat-edited-2.png")) == 0


def test_of_a_distilled_model_the_png_has_the_scales_that_counted(ip2p: Ip2p, folder: Path) -> None:
    result = ip2p("edit", "cat.jpg", "make it red", "--model", "shapes-few", "--guidance-scale", 9, "--steps", 1)
    assert result.code == 0 and "9 counts as 2.25" in result.err
    assert record("cat-edited.png")["guidance_scale"] == 2.25
    asked = ("cat.jpg", "make it red", "--model", "shapes-few", "--guidance-scale", 9, "--steps", 1)
    result = ip2p("edit", *asked, "--best-of", 2, "--clip-model", "shapes")
    assert result.code == 0 and "s_T 2.25 " in result.out
    assert record("cat-edited-2.png")["guidance_scale"] == 2.25
    result = ip2p("grid", "cat.jpg", "make it red", "--model", "shapes-few", "--guidance-scale", 2, 3, 9, "--steps", 1)
    assert result.code == 0 and record("cat-grid.png")["guidance_scale"] == [2.0, 2.25]


def test_alpha_is_kept_in_png_and_webp_and_composited_for_jpeg(edit: Ip2p) -> None:
    alpha = np.asarray(Image.open("dog.png"))[..., 3]
    for name in ("dog-out.png", "dog-out.webp"):
        assert edit("dog.png", "make it winter", "-o", name).code == 0
        assert np.array_equal(np.asarray(Image.open(name).convert("RGBA"))[..., 3], alpha)
    assert edit("dog.png", "make it winter", "-o", "dog.JPG", "--seed", 8).code == 0
    jpeg = Image.open("dog.JPG")
    assert (jpeg.format, jpeg.mode) == ("JPEG", "RGB")
    assert json.loads(jpeg.getexif()[0x010E])["seed"] == 8


def test_nothing_is_replaced_unless_asked(edit: Ip2p, folder: Path) -> None:
    Path("cat-edited.png").write_text("mine")
    assert "cat-edited-2.png" in edit("cat.jpg", "make it winter").out
    assert "cat-edited-3.png" in edit("cat.jpg", "make it winter").out
    assert Path("cat-edited.png").read_text() == "mine"
    assert edit("cat.jpg", "make it winter", "--overwrite").code == 0
    assert Image.open("cat-edited.png").size == (48, 32)
    assert files(folder) == {"cat.jpg", "dog.png", "cat-edited.png", "cat-edited-2.png", "cat-edited-3.png"}


def test_variants_have_seeds_that_count_up_and_names_of_their_own(edit: Ip2p, folder: Path) -> None:
    for _ in range(2):  # with --overwrite a second run takes the same three names again
        result = edit("cat.jpg", "make it winter", "--num-images", 3, "--seed", 7, "-o", "out", "--overwrite")
        assert result.code == 0
        names = ["out/cat-edited.png", "out/cat-edited-2.png", "out/cat-edited-3.png"]
        assert {name for name in files(folder) if name.startswith("out")} == set(names)
    assert [record(name)["seed"] for name in names] == [7, 8, 9]
    edit("cat.jpg", "make it winter", "--seed", 8, "-o", "alone.png")
    assert distance(Image.open("alone.png"), Image.open(names[1])) == 0


def test_a_folder_of_pictures_gives_a_folder_beside_it(edit: Ip2p, folder: Path) -> None:
    Path("photos").mkdir()
    for name in ("b.png", "a.jpg", "a.png"):
        picture().save(f"photos/{name}")
    Path("photos/notes.txt").write_text("no picture")
    result = edit("photos", "cat.jpg", "make it winter")
    assert result.code == 0
    assert {name for name in files(folder) if "edited" in name} == {
        "photos-edited/a-edited.png",
        "photos-edited/a-edited-2.png",
        "photos-edited/b-edited.png",
        "cat-edited.png",
    }
    assert len(result.out.splitlines()) == 4


def test_of_a_folder_only_pictures_are_taken_and_those_that_cannot_be_are_told(edit: Ip2p, folder: Path) -> None:
    Path("photos/album.png").mkdir(parents=True)
    picture().save("photos/a.JPG")
    for name in ("clip.mpg", "data.h5", "page.pdf", "photo.HEIC", "raw.cr3"):
        Path("photos", name).write_text("no picture for Pillow")
    result = edit("photos", "make it winter")
    assert result.code == 0
    [told] = result.err.splitlines()
    assert "photo.HEIC, raw.cr3 can't be read" in told
    assert {name for name in files(folder) if "edited" in name} == {"photos-edited/a-edited.png"}


def test_outside_the_mask_the_pixels_stay(edit: Ip2p) -> None:
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save("mask.png")
    Image.open("dog.png").convert("RGB").save("dog.png")
    assert edit("dog.png", "make it winter", "--mask", "mask.png").code == 0
    before, after = (np.asarray(Image.open(name)) for name in ("dog.png", "dog-edited.png"))
    outside = ~np.eye(32, dtype=bool)
    assert np.array_equal(before[outside], after[outside])
    assert not np.array_equal(before, after)


def test_a_large_picture_is_edited_at_the_models_size_unless_told(edit: Ip2p) -> None:
    picture(1, 700, 500).save("large.png")
    assert edit("large.png", "make it winter").code == 0
    assert (record("large-edited.png")["resolution"], Image.open("large-edited.png").size) == (64, (700, 500))
    edit("large.png", "make it winter", "--resolution", 96)
    assert record("large-edited-2.png")["resolution"] == 96


def test_a_stopped_run_keeps_what_it_made(folder: Path, tiny_model: Path) -> None:
    command = [sys.executable, "-m", "ip2p.cli", "edit", "cat.jpg", "make it winter", "--model", str(tiny_model)]
    process = subprocess.Popen(
        [*command, "--steps", "50", "--num-images", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert first.startswith("cat-edited.png")
    assert process.returncode == 130
    assert err.strip() == "ip2p: stopped."
    made = files(folder) - {"cat.jpg", "dog.png"}
    assert "cat-edited.png" in made
    for name in made:
        assert name.endswith(".png")
        Image.open(name).load()

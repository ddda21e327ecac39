"""The methods under one interface: each is what it is called, by itself."""

import json
import linecache
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from evaluate_data import samples
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.training.evaluate.inversion import InvertedP2P
from ip2p.training.evaluate.methods import Function, Ip2p, Method, NoEdit, Triplet
from ip2p.training.evaluate.pixels import pixel_scores
from ip2p.training.evaluate.plan import check_captions, plan
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sdedit import SDEdit
from ip2p.training.evaluate.settings import EvaluateSettings
from ip2p.training.evaluate.store import Task
from ip2p.training.evaluate.text2live import Text2LIVE
from ip2p.training.pairs.checkpoint import load_base
from pairs_models import base_pipeline, xl_pipeline
from PIL import Image
from tiny_models import picture

OF = samples(3)
PICTURES = [sample.picture() for sample in OF]
SEEDS = [3, 4, 5]


def reversed_colors(image: Image.Image, triplet: Triplet, seed: int) -> Image.Image:
    return image.point(lambda value: 255 - value)


def darkened(image: Image.Image, triplet: Triplet, strength: float, seed: int) -> Image.Image:
    """Of half the size, and no longer RGB."""
    assert triplet.edited_prompt and triplet.edit_prompt
    return image.reduce(2).point(lambda value: int((1 - strength) * value)).convert("RGBA")


def failing(image: Image.Image, triplet: Triplet, seed: int) -> Image.Image:
    raise KeyError("a weight")


def nothing(image: Image.Image, triplet: Triplet, seed: int) -> None:
    return None


def same(one: list[Image.Image], other: list[Image.Image]) -> bool:
    return all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(one, other, strict=True))


def test_no_edit_gives_the_picture() -> None:
    assert same(NoEdit().edit(OF, PICTURES, {}, SEEDS), PICTURES)


def test_ip2p_is_the_pipeline_itself() -> None:
    made = Ip2p("shapes", {"guidance_scale": 2.0}).edit(OF, PICTURES, {"image_guidance_scale": 1.3, "steps": 3}, SEEDS)
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        [sample.edit_prompt for sample in OF], PICTURES, num_inference_steps=3, guidance_scale=2.0,
        image_guidance_scale=1.3, generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    assert same(made, expected)


@pytest.mark.parametrize("what", ["caption", "instruction"])
def test_sdedit_is_diffusers_own(what: Any, tmp_path: Path) -> None:
    base_pipeline().save_pretrained(tmp_path)
    setting = {"strength": 0.6, "steps": 5}
    made = SDEdit(str(tmp_path), {"guidance_scale": 3.0}, what).edit(OF, PICTURES, setting, SEEDS)
    pipe = StableDiffusionImg2ImgPipeline(**base_pipeline().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        [sample.edited_prompt if what == "caption" else sample.edit_prompt for sample in OF], image=PICTURES,
        strength=0.6, num_inference_steps=5, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    assert same(made, expected)


def test_sdedit_of_sdxl_keeps_the_size(tmp_path: Path) -> None:
    xl_pipeline().save_pretrained(tmp_path)
    method = SDEdit(str(tmp_path), {"guidance_scale": 3.0})
    [made] = method.edit(OF[:1], [picture(1, 50, 33)], {"strength": 0.5, "steps": 4}, [1])
    assert made.size == (50, 33)


def test_pictures_of_other_sizes_are_edited_at_the_models_own_and_brought_back(tmp_path: Path) -> None:
    base_pipeline().save_pretrained(tmp_path)
    base = load_base(str(tmp_path))
    assert base.resolution == 64
    methods: list[tuple[Method, dict[str, float]]] = [
        (SDEdit(str(tmp_path), {"guidance_scale": 3.0}), {"strength": 0.6, "steps": 5}),
        (InvertedP2P(str(tmp_path), "ddim", 3, loaded=base), {"self_replace_steps": 0.5}),
    ]
    for method, setting in methods:
        large = picture(1, 96, 48)
        small = large.resize((64, 32), Image.Resampling.LANCZOS)
        [made], [at_its_own] = (method.edit(OF[:1], [each], setting, [1]) for each in (large, small))
        assert same([made], [at_its_own.resize((96, 48), Image.Resampling.BICUBIC)])


def test_ip2p_works_at_its_models_size_or_the_one_that_is_asked_for() -> None:
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.set_progress_bar_config(disable=True)
    large, setting = [picture(1, 128, 64)], {"image_guidance_scale": 1.3, "steps": 2}
    for asked, worked in ((None, 64), (96, 96)):
        made = Ip2p("shapes", {}, resolution=asked).edit(OF[:1], large, setting, SEEDS[:1])
        expected = pipe(
            OF[0].edit_prompt, large, num_inference_steps=2, image_guidance_scale=1.3, resolution=worked,
            generator=torch.Generator().manual_seed(SEEDS[0]),
        ).images  # fmt: skip
        assert same(made, expected)


def test_sdedit_changes_more_the_stronger_it_is() -> None:
    method = SDEdit("shapes", {"guidance_scale": 2.0})
    of = samples(8)
    before = [sample.picture() for sample in of]
    near, far = (method.edit(of, before, {"strength": each, "steps": 10}, range(8)) for each in (0.1, 1.0))
    changes = [np.mean([pixel_scores(*map(np.array, pair))["l1"] for pair in zip(before, made, strict=True)])
               for made in (near, far)]  # fmt: skip
    assert changes[0] < 0.6 * changes[1]


def test_methods_that_need_captions_say_so_at_once() -> None:
    bare = Sample("row 7", "make it winter", "a street", "", lambda: PICTURES[0])
    with pytest.raises(ValueError, match=r"SDEdit needs the caption after the edit, and row 7 has none.*sdedit-instr"):
        check_captions([Task(SDEdit("nowhere", {}), {}, 0)], [*OF, bare])
    for method in (Text2LIVE(), InvertedP2P("nowhere")):
        with pytest.raises(ValueError, match=r"needs the caption after the edit, and row 7 has none"):
            check_captions([Task(method, {}, 0)], [bare])
    check_captions([Task(SDEdit("nowhere", {}, "instruction"), {}, 0), Task(NoEdit(), {}, 0)], [bare])


def test_a_function_of_somebodys_own_is_a_method() -> None:
    method = Function("test_evaluate_methods:reversed_colors")
    assert (method.name, method.dial) == ("test_evaluate_methods:reversed_colors", "")
    [made] = method.edit(OF[:1], PICTURES[:1], {}, SEEDS[:1])
    assert np.array_equal(np.array(made), 255 - np.array(PICTURES[0]))
    with pytest.raises(ValueError, match="There is no function nothing:here"):
        Function("nothing:here")


def test_a_function_with_a_strength_has_a_dial_and_its_pictures_their_size() -> None:
    settings = EvaluateSettings(methods=["test_evaluate_methods:darkened"], strengths=[0.25, 0.75])
    tasks = plan(settings, torch.device("cpu"), torch.float32)
    assert [task.setting for task in tasks] == [{"strength": 0.25}, {"strength": 0.75}, {}]
    light, dark = (task.method.edit(OF, PICTURES, task.setting, SEEDS) for task in tasks[:2])
    assert all(made.size == before.size and made.mode == "RGB" for made, before in zip(light, PICTURES, strict=True))
    assert np.mean(light[0]) > 2 * np.mean(dark[0])


def test_what_is_wrong_with_a_function_is_told_with_the_sample() -> None:
    with pytest.raises(ValueError, match=r"failing failed at shapes 0 \(KeyError: 'a weight'\)"):
        Function("test_evaluate_methods:failing").edit(OF[:1], PICTURES[:1], {}, SEEDS[:1])
    with pytest.raises(ValueError, match="nothing gives NoneType, not a picture"):
        Function("test_evaluate_methods:nothing").edit(OF[:1], PICTURES[:1], {}, SEEDS[:1])


def test_a_function_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "editor_of_mine.py").write_text("def same(image, triplet, seed):\n    return image\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(tmp_path))])  # as `ip2p` has it
    assert same(Function("editor_of_mine:same").edit(OF, PICTURES, {}, SEEDS), PICTURES)
    Function("editor_of_mine:same")
    assert sys.path.count(str(tmp_path)) == 1  # and stays there, for what the function imports when it is called


def test_a_function_is_another_where_what_it_calls_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    told = []
    for amount in (1, 1, 2):
        text = f"AMOUNT = {amount}\n\n\ndef edit(image, triplet, seed):\n    return image.reduce(AMOUNT)\n"
        (tmp_path / "reducing_editor.py").write_text(text)
        monkeypatch.delitem(sys.modules, "reducing_editor", raising=False)
        linecache.clearcache()
        told.append(Function("reducing_editor:edit").identity())
    assert told[0] == told[1] != told[2]


def test_a_method_is_another_where_its_weights_are(tmp_path: Path) -> None:
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.save_pretrained(tmp_path / "one")
    pipe.save_pretrained(tmp_path / "same")
    with torch.no_grad():
        pipe.unet.conv_out.bias += 1
    pipe.save_pretrained(tmp_path / "other")
    one, same_, other = (Ip2p(str(tmp_path / name), {}).identity() for name in ("one", "same", "other"))
    assert one == same_ != other
    assert Ip2p(str(tmp_path / "one"), {"guidance_scale": 3.0}).identity() != one
    config = tmp_path / "one" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prediction_type": "v_prediction"}))
    assert Ip2p(str(tmp_path / "one"), {}).identity() != one


def test_a_model_that_is_not_there_is_told_before_anything_is_made() -> None:
    for name in ("./nothing", "nothing.safetensors", "a/b/c"):
        for method in ("ip2p", "sdedit", "p2p-ddim"):
            settings = EvaluateSettings(model=[name], base=name, methods=[method])
            with pytest.raises(FileNotFoundError, match=f"There is no model {name}"):
                plan(settings, torch.device("cpu"), torch.float32)


def test_shapes_is_the_editor_for_one_method_and_the_base_for_others() -> None:
    editor, base, drawn = Ip2p("shapes", {}), SDEdit("shapes", {}), InvertedP2P("shapes")
    assert base.identity()["model"] == drawn.identity()["model"] != editor.identity()["model"]


def test_what_is_loaded_can_be_let_go() -> None:
    method = Ip2p("shapes", {})
    assert method.pipe() is method.pipe()
    method.free()
    assert method.loaded is None

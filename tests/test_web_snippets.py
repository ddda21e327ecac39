"""An edit of the page, made again elsewhere."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_graphs import inputs_of
from comfy_host import Host, a_host  # noqa: F401 - a fixture
from ip2p import SHAPES_MODEL
from ip2p.cli import main
from ip2p.hub.web.snippets import as_command, as_python, as_workflow
from ip2p.hub.web.studio import Studio, Wish
from ip2p.ip2p_pipeline.named_models import open_model
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet
from PIL import Image

EDIT = open_triplet(0).edit
WISH = Wish(EDIT.edit_prompt, 1.5, 1.2, 3, seed=7)
MASK = Image.fromarray(np.pad(np.full((32, 64), 255, np.uint8), ((0, 32), (0, 0))))
WISHES = {
    "plain": WISH,
    "masked": replace(WISH, is_masked=True, mask_feather=4),
    "negative": replace(WISH, negative_prompt='a "red" circle, größer'),
}


@pytest.fixture(params=WISHES)
def wish(request: pytest.FixtureRequest) -> Wish:
    return WISHES[request.param]


@pytest.fixture
def expected(wish: Wish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the page makes, of the files that lie here."""
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(render(EDIT.source))
    picture.save("photo.png")
    MASK.save("mask.png")
    return edited(studio(), picture, wish)


def studio() -> Studio:
    return Studio(open_model("shapes", torch.float32, torch.device("cpu")), lambda: None, "shapes", 60)


def edited(by: Studio, picture: Image.Image, wish: Wish) -> np.ndarray:
    *_, made = by.edits(picture, MASK if wish.is_masked else None, [wish])
    assert isinstance(made, list)
    return np.asarray(made[0])


def test_the_program_makes_the_same_picture(wish: Wish, expected: np.ndarray) -> None:
    exec(as_python("shapes", wish, 64), {})
    assert np.array_equal(np.asarray(Image.open("edited.png")), expected)


def test_the_program_works_at_the_pages_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture = Image.fromarray(render(EDIT.source)).resize((128, 96))
    picture.save("photo.png")
    page = studio()
    exec(as_python("shapes", WISH, page.resolution), {})
    assert np.array_equal(np.asarray(Image.open("edited.png")), edited(page, picture, WISH))


def test_the_command_makes_the_same_picture(wish: Wish, expected: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", shlex.split(as_command("shapes", wish)))
    assert main() == 0
    assert np.array_equal(np.asarray(Image.open("photo-edited.png").convert("RGB")), expected)


def test_the_workflow_makes_the_same_picture(wish: Wish, expected: np.ndarray, host: Host) -> None:
    workflow = json.loads(as_workflow("shapes", wish))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    sources: dict[int, list[Any]] = {}
    for number, source, slot, target, place, kind in workflow["links"]:
        sources[number] = [nodes[source]["type"], slot]
        assert nodes[source]["outputs"][slot]["type"] == nodes[target]["inputs"][place]["type"] == kind
        assert nodes[target]["inputs"][place]["link"] == number in nodes[source]["outputs"][slot]["links"]
    loaded = inputs_of(nodes[1], host.nodes["Ip2pLoad"].GET_SCHEMA(), sources)
    inputs = inputs_of(nodes[3], host.nodes["Ip2pEdit"].GET_SCHEMA(), sources)
    assert inputs["model"] == ["Ip2pLoad", 0] and inputs["image"] == ["LoadImage", 0]
    assert inputs.get("mask") == (["LoadImageMask", 0] if wish.is_masked else None)

    inputs["model"] = host.execute("Ip2pLoad", **loaded)[0]
    inputs["image"] = torch.tensor(np.asarray(Image.open("photo.png"))).float()[None] / 255
    if wish.is_masked:
        inputs["mask"] = torch.tensor(np.asarray(Image.open("mask.png"))).float()[None] / 255
    edited = host.execute("Ip2pEdit", **inputs)[0]
    assert np.array_equal((edited[0] * 255).round().byte().numpy(), expected)


def test_the_distilled_model_is_named(host: Host) -> None:
    assert "from_pretrained(SHAPES_FEW_MODEL)" in as_python("shapes-few", WISH, None)
    workflow = json.loads(as_workflow("shapes-few", WISH))
    chosen = workflow["nodes"][0]["widgets_values"][0]
    assert host.execute("Ip2pLoad", model=chosen, hub_id="", revision="", dtype="auto")[0].name == "shapes-few"


def test_a_model_of_the_hub_is_named() -> None:
    name = "timbrooks/instruct-pix2pix"
    assert f'from_pretrained("{name}")' in as_python(name, WISH, 512) and f"--model {name}" in as_command(name, WISH)
    workflow = json.loads(as_workflow(name, WISH))
    assert workflow["nodes"][0]["widgets_values"][:2] == ["from Hugging Face ↓", name]


def test_a_workflow_with_a_model_of_this_machine_tells_where_to_put_it(host: Host) -> None:
    mine = shutil.copytree(SHAPES_MODEL, host.folder / "runs" / "mine")
    workflow = json.loads(as_workflow(str(mine), replace(WISH, is_masked=True)))
    [note] = [each["widgets_values"][0] for each in workflow["nodes"] if each["type"] == "MarkdownNote"]
    assert "Copy the model mine into ComfyUI's `models/diffusers`" in note
    shutil.copytree(mine, host.folder / "diffusers" / "mine")
    loaded = inputs_of(workflow["nodes"][0], host.nodes["Ip2pLoad"].GET_SCHEMA(), {})
    assert host.execute("Ip2pLoad", **loaded)[0].name == "mine"


def test_a_model_of_one_file_is_loaded_as_such() -> None:
    assert 'from_single_file("runs/editor.safetensors")' in as_python("runs/editor.safetensors", WISH, 512)

"""The nodes on a real ComfyUI's server, over HTTP and websocket."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_graphs import api_format, load, node, scene
from comfy_host import COMFYUI
from comfy_server import Server
from PIL import Image
from test_comfy_native_loader import sd15_file
from test_comfy_pack import WORKFLOWS

pytestmark = [pytest.mark.skipif(COMFYUI is None, reason="needs a real ComfyUI at COMFYUI_PATH"), pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert COMFYUI is not None
    with Server(COMFYUI, tmp_path_factory.mktemp("comfy"), "--preview-method", "auto") as server:
        yield server


def edit_graph(**inputs: Any) -> dict[str, Any]:
    given = {"guidance_scale": ["1", 1], "image_guidance_scale": ["1", 2], "steps": 4, "seed": 1, **inputs}
    given |= {"negative": "", "scheduler": "model", "size": "trained"}
    return {
        "1": load(),
        "2": node("Ip2pShapesScene", kind="recolor", seed=3),
        "3": node("Ip2pEdit", **{"model": ["1", 0], "image": ["2", 0], "instruction": ["2", 1], **given}),
        "4": node("SaveImage", images=["3", 0], filename_prefix="edit"),
    }


def kinds(told: dict[str, Any]) -> list[str]:
    return [event["type"] for event in told["events"]]


def test_all_nodes_are_there_with_their_help_and_names(server: Server) -> None:
    info = server.get("/object_info")
    ours = {name for name, told in info.items() if told["category"] == "InstructPix2Pix"}
    assert len(ours) == 10
    names = server.get("/i18n")
    for name in ours:
        assert server.get(f"/extensions/ip2p/docs/{name}.md").startswith("# ")
        assert names["ko"]["nodeDefs"][name]["display_name"]
    assert len(server.get("/workflow_templates")["ip2p"]) == 5


def test_an_edit_tells_its_steps_shows_previews_and_is_kept_for_the_next_time(server: Server) -> None:
    told = server.run(edit_graph(seed=11))
    assert told["history"]["status"]["status_str"] == "success"
    steps = [event["data"] for event in told["events"] if event["type"] == "progress" and event["data"]["node"] == "3"]
    assert [(step["value"], step["max"]) for step in steps] == [(n, 4) for n in (1, 2, 3, 4)]
    assert told["previews"] >= 4
    [saved] = told["history"]["outputs"]["4"]["images"]
    pixels = np.asarray(Image.open(server.folder / "output" / saved["filename"]))
    assert pixels.shape == (64, 64, 3) and pixels.std() > 10

    again = edit_graph(seed=11)
    again["4"]["inputs"]["filename_prefix"] = "again"
    told = server.run(again)
    [cached] = [event["data"]["nodes"] for event in told["events"] if event["type"] == "execution_cached"]
    assert set(cached) == {"1", "2", "3"}
    [saved_again] = told["history"]["outputs"]["4"]["images"]
    assert np.array_equal(np.asarray(Image.open(server.folder / "output" / saved_again["filename"])), pixels)


def test_an_interrupt_ends_the_edit_within_a_step(server: Server) -> None:
    told = server.run(edit_graph(steps=1000, seed=12), interrupt_after=3)
    assert kinds(told)[-1] == "execution_interrupted"
    assert kinds(told).count("progress") < 50  # those that were under way while the message travelled
    assert server.run(edit_graph(seed=13))["history"]["status"]["status_str"] == "success"


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"steps": 0}, "smaller than min"),
        ({"guidance_scale": -1.0}, "smaller than min"),
        ({"image": ["1", 0]}, "mismatch"),
    ],
)
def test_values_out_of_range_are_refused_before_anything_runs(
    server: Server, inputs: dict[str, Any], sentence: str
) -> None:
    refused = server.run(edit_graph(**inputs))["refused"]
    [error] = refused["node_errors"]["3"]["errors"]
    assert sentence in error["message"]


def test_what_goes_wrong_is_told_on_the_node_and_the_server_goes_on(server: Server) -> None:
    told = server.run(edit_graph(instruction="   "))
    error = told["events"][-1]
    assert error["type"] == "execution_error"
    assert (error["data"]["node_id"], error["data"]["exception_type"]) == ("3", "ValueError")
    assert "instruction is empty" in error["data"]["exception_message"]
    assert server.run(edit_graph(seed=14))["history"]["status"]["status_str"] == "success"


def waiting(server: Server) -> list[str]:
    return [each[1] for each in server.get("/queue")["queue_pending"]]


def test_edits_wait_in_the_queue_and_can_be_taken_out(server: Server) -> None:
    first, second = (
        server.ask("/prompt", {"prompt": edit_graph(steps=1000, seed=seed)})["prompt_id"] for seed in (21, 22)
    )
    assert second in waiting(server)
    server.ask("/queue", {"delete": [second]})
    assert second not in waiting(server)
    while first not in (told := server.get(f"/history/{first}")):
        server.ask("/interrupt", {})
        time.sleep(0.5)
    assert told[first]["status"]["status_str"] == "error"
    assert server.get(f"/history/{second}") == {}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_whole_workflows_run(server: Server, path: Path) -> None:
    """With their own values and fewer steps."""
    Image.new("RGB", (80, 64), "gray").save(server.folder / "input" / "example.png")
    if "native" in path.stem:
        sd15_file(server.folder / "models" / "checkpoints")
    graph = api_format(json.loads(path.read_text()), server.get("/object_info"))
    for each in graph.values():
        inputs = each["inputs"]
        inputs |= {"steps": 2} if isinstance(inputs.get("steps"), int) else {}
        inputs |= {"megapixels": 0.01} if "megapixels" in inputs else {}
    told = server.run(graph)
    assert told["history"]["status"]["status_str"] == "success", told["history"]["status"]
    shown = [each for each in told["history"]["outputs"].values() if "images" in each or "text" in each]
    outputs = {name for name, each in graph.items() if each["class_type"] in ("PreviewImage", "PreviewAny")}
    assert outputs and len(shown) >= len(outputs)


def test_models_are_freed_on_request_and_come_back(server: Server) -> None:
    assert server.ask("/free", {"unload_models": True, "free_memory": True}) == ""
    assert server.run(edit_graph(seed=15))["history"]["status"]["status_str"] == "success"


def test_a_picture_that_is_loaded_is_edited(server: Server) -> None:
    Image.fromarray((scene()[0].numpy() * 255).astype(np.uint8)).save(server.folder / "input" / "scene.png")
    graph = edit_graph(image=["5", 0], mask=["5", 1])
    graph["5"] = node("LoadImage", image="scene.png")
    told = server.run(graph)  # without transparency ComfyUI gives a mask of zeros
    assert "black everywhere" in told["events"][-1]["data"]["exception_message"]
    del graph["3"]["inputs"]["mask"]
    assert server.run(graph)["history"]["status"]["status_str"] == "success"

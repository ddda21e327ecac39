"""The Load node: folders, files and the Hub; weights that are shared, and freed."""

import gc
import os
import shutil
import sys
import weakref
from pathlib import Path

import pytest
import torch
from comfy_graphs import QUICK, SHAPES, instruction, load, node, scene
from comfy_host import COMFYUI, Host, a_host, management  # noqa: F401 - a fixture
from diffusers import StableDiffusionPipeline
from ip2p import SHAPES_MODEL
from tiny_models import sd_components, unet


def loaded(host: Host, model: str = SHAPES, **inputs: str) -> tuple:
    return host.run({"1": load(model, **inputs)})["1"]


@pytest.mark.parametrize(("name", "steps"), [("shapes", 20), ("shapes-few", 4)])
def test_the_models_that_come_with_it_tell_what_suits_them(host: Host, name: str, steps: int) -> None:
    editor, *recommended = loaded(host, f"{name} (comes with ip2p)")
    assert recommended == [1.5, 1.2, steps]
    assert editor.name == name


def test_folders_and_files_are_offered_by_their_names(host: Host) -> None:
    shutil.copytree(SHAPES_MODEL, host.folder / "diffusers" / "mine" / "editor")
    (host.folder / "diffusers" / "no_model").mkdir()
    (host.folder / "checkpoints" / "other.safetensors").write_bytes(b"")
    (host.folder / "checkpoints" / "pickle.ckpt").write_bytes(b"")
    [models] = [each.options for each in host.nodes["Ip2pLoad"].define_schema().inputs if each.id == "model"]
    assert models[3:] == ["mine/editor", "other.safetensors"]
    assert loaded(host, "mine/editor")[0].name == "editor"


def test_two_nodes_share_the_weights(host: Host) -> None:
    outputs = host.run({"1": load(), "2": load()})
    assert outputs["1"][0].loaded is outputs["2"][0].loaded
    assert loaded(host, dtype="bfloat16")[0].loaded is not outputs["1"][0].loaded


def test_weights_that_no_node_holds_are_freed(host: Host) -> None:
    seen = weakref.ref(loaded(host)[0].loaded.pipe.unet)
    gc.collect()
    assert seen() is None


def test_a_folder_that_changed_is_loaded_again(host: Host) -> None:
    folder = host.folder / "diffusers" / "editor"
    shutil.copytree(SHAPES_MODEL, folder)
    node_class = host.nodes["Ip2pLoad"]
    before, first = node_class.fingerprint_inputs(model="editor", hub_id=""), loaded(host, "editor")
    assert node_class.fingerprint_inputs(model="editor", hub_id="") == before
    os.utime(folder / "unet" / "config.json", (2e9, 2e9))
    assert node_class.fingerprint_inputs(model="editor", hub_id="") != before
    assert loaded(host, "editor")[0].loaded is not first[0].loaded


def test_comfyui_can_unload_the_model_and_the_edit_stays_the_same(host: Host) -> None:
    editor = loaded(host)[0]
    graph = {"2": node("Ip2pEdit", model=editor, image=scene(), instruction=instruction(), **QUICK)}
    before = host.run(graph)["2"][0]
    assert editor.loaded.patcher in [each.model for each in management.current_loaded_models]
    management.unload_all_models()
    assert not management.current_loaded_models
    assert torch.equal(host.run(graph)["2"][0], before)


@pytest.mark.skipif(COMFYUI is None, reason="needs a real ComfyUI at COMFYUI_PATH")
@pytest.mark.parametrize("share", [0.3, 10])
def test_the_model_makes_room_for_others_and_comes_back(
    host: Host, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = loaded(host)[0]
    patcher = editor.loaded.patcher
    graph = {"2": node("Ip2pEdit", model=editor, image=scene(), instruction=instruction(), **QUICK)}
    before = host.run(graph)["2"][0]
    assert patcher.loaded_size() == patcher.model_size()
    full = lambda _, torch_free_too=False: (0, 0) if torch_free_too else 0  # noqa: E731
    monkeypatch.setattr(management, "get_free_memory", full)
    management.free_memory(share * patcher.model_size(), patcher.load_device)
    monkeypatch.undo()
    assert patcher.loaded_size() <= (1 - min(share, 1)) * patcher.model_size()
    assert torch.equal(host.run(graph)["2"][0], before)
    assert patcher.loaded_size() == patcher.model_size()


def test_weights_that_comfyui_leaves_behind_come_to_the_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with --novram, which does nothing where there is no GPU."""
    runtime = sys.modules[f"{host.pack.__name__}.comfy_nodes.runtime"]
    patcher = runtime.managed({"part": torch.nn.Linear(2, 2)})
    patcher.load_device = torch.device("meta")
    monkeypatch.setattr(management, "load_models_gpu", lambda *_, **__: None)
    runtime.load(patcher)
    assert {weight.device.type for weight in patcher.model.parameters()} == {"meta"}


def test_more_room_is_asked_for_larger_work(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    load_models = management.load_models_gpu

    def watch(models: list, memory_required: int = 0, **rest: bool) -> None:
        asked.append(memory_required)
        load_models(models, memory_required=memory_required, **rest)

    monkeypatch.setattr(management, "load_models_gpu", watch)
    given = {"model": loaded(host)[0], "image": scene(), "instruction": instruction(), **QUICK}
    for size in ({"size": "trained"}, {"size": "custom", "resolution": 128}):
        host.run({"2": node("Ip2pEdit", **{**given, **size})})
    assert asked[1] == 4 * asked[0] > 1e6


def test_dtypes_are_the_users(host: Host) -> None:
    assert loaded(host, dtype="bfloat16")[0].loaded.pipe.unet.dtype == torch.bfloat16
    assert loaded(host)[0].loaded.pipe.unet.dtype == torch.float32  # ComfyUI's choice on a CPU


def test_a_text_to_image_folder_is_refused(host: Host) -> None:
    StableDiffusionPipeline(
        **{**sd_components(), "unet": unet(in_channels=4)}, requires_safety_checker=False
    ).save_pretrained(host.folder / "diffusers" / "base")
    with pytest.raises(ValueError, match="text-to-image checkpoint"):
        loaded(host, "base")


@pytest.mark.parametrize(
    ("hub_id", "sentence"),
    [
        ("", "hub_id is empty"),
        *((path, "hub_id is owner/name") for path in ("../etc", "/", r"\\host\share", "{shapes}")),
    ],
)
def test_hub_ids_that_are_none_are_told(host: Host, hub_id: str, sentence: str) -> None:
    inputs = {"model": "from Hugging Face ↓", "hub_id": hub_id.format(shapes=SHAPES_MODEL)}
    with pytest.raises(ValueError, match=sentence):
        host.run({"1": node("Ip2pLoad", **inputs)})
    with pytest.raises(ValueError, match=sentence):
        host.nodes["Ip2pLoad"].fingerprint_inputs(**inputs)


def test_a_hub_that_cannot_be_reached_is_told(host: Host) -> None:
    with pytest.raises(ConnectionError, match="not on this machine"):
        host.run({"1": node("Ip2pLoad", model="from Hugging Face ↓", hub_id="ip2p/nowhere")})


def test_a_damaged_file_is_told(host: Host) -> None:
    path: Path = host.folder / "checkpoints" / "broken.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a safetensors file"):
        loaded(host, "broken.safetensors")


def test_choices_that_there_are_not_are_told(host: Host) -> None:
    with pytest.raises(ValueError, match="dtype is one of auto, float32"):
        loaded(host, dtype="float3")
    with pytest.raises(ValueError, match="model is a model's name, not 3"):
        loaded(host, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kind is one of recolor"):
        host.execute("Ip2pShapesScene", kind="paint", seed=0)


def test_a_model_that_is_gone_is_told(host: Host) -> None:
    with pytest.raises(FileNotFoundError, match="press R"):
        loaded(host, "gone")

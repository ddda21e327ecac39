"""Inputs and small workflows for the tests of the nodes."""

from typing import Any

import torch
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet
from torch import Tensor

SHAPES = "shapes (comes with ip2p)"
QUICK: dict[str, Any] = {"guidance_scale": 1.5, "image_guidance_scale": 1.2, "steps": 3}


def scene(index: int = 0) -> Tensor:
    """A picture of the shapes world as ComfyUI's IMAGE, [1,64,64,3]."""
    return torch.from_numpy(render(open_triplet(index).edit.source)).float()[None] / 255


def instruction(index: int = 0) -> str:
    return open_triplet(index).edit.edit_prompt


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def load(model: str = SHAPES, **more: Any) -> dict[str, Any]:
    return node("Ip2pLoad", model=model, hub_id="", **more)


def api_format(workflow: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """A workflow, as it is saved, as the browser sends it. info: the server's `object_info`."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for each in workflow["nodes"]:
        if each["type"] not in info:  # notes
            continue
        wired = {given["name"]: sources[given["link"]] for given in each["inputs"] if given["link"] is not None}
        values = iter(each["widgets_values"])
        known = info[each["type"]]["input"]
        inputs: dict[str, Any] = {}
        for name, (kind, *more) in {**known["required"], **known.get("optional", {})}.items():
            if isinstance(kind, list) or kind in ("COMBO", "STRING", "INT", "FLOAT", "BOOLEAN"):
                inputs[name] = next(values)
                if more and (more[0].get("control_after_generate") or more[0].get("image_upload")):
                    next(values)
        graph[str(each["id"])] = node(each["type"], **inputs | wired)
    return graph


def inputs_of(node: dict[str, Any], schema: Any, sources: dict[int, list[Any]]) -> dict[str, Any]:
    """What a node of a workflow, as it is saved, is run with.

    sources: of each link, the node and output that it comes from
    """
    links = {given["name"]: given["link"] for given in node["inputs"]}
    values = iter(node["widgets_values"])
    inputs: dict[str, Any] = {}
    for each in schema.inputs:
        if hasattr(each, "default") or hasattr(each, "options"):
            inputs[each.id] = next(values)
            if getattr(each, "control_after_generate", None):
                next(values)
        if links.get(each.id) is not None:
            inputs[each.id] = sources[links[each.id]]
    assert list(values) == []
    return inputs

"""An edit of the page, to be made again elsewhere: as Python, as a command, and as a workflow of ComfyUI."""

import json
import shlex
import uuid
from pathlib import Path
from typing import Any

from .studio import Wish

CONSTANTS = {"shapes": "SHAPES_MODEL", "shapes-few": "SHAPES_FEW_MODEL"}


def as_python(model: str, wish: Wish, resolution: int | None) -> str:
    """A program that makes the edit of photo.png, and where only a part may change, with mask.png.

    resolution: the longest side to work at; None = the picture's own
    """
    inside = CONSTANTS.get(model)
    loaded = inside or json.dumps(model)
    imported = f"{inside}, InstructPix2PixPipeline" if inside else "InstructPix2PixPipeline"
    load = "from_single_file" if model.endswith(".safetensors") else "from_pretrained"
    lines = [json.dumps(wish.instruction, ensure_ascii=False), '"photo.png"']
    if wish.is_masked:
        lines += ['mask_image="mask.png"', f"mask_feather={wish.mask_feather:g}"]
    lines += [f"guidance_scale={wish.guidance_scale:g}", f"image_guidance_scale={wish.image_guidance_scale:g}"]
    lines += [f"num_inference_steps={wish.num_inference_steps}"]
    if wish.negative_prompt:
        lines += [f"negative_prompt={json.dumps(wish.negative_prompt, ensure_ascii=False)}"]
    if resolution is not None:
        lines += [f"resolution={resolution}"]
    lines += [f"generator=torch.Generator().manual_seed({wish.seed})"]
    return (
        f"import torch\nfrom ip2p import {imported}\n\npipe = InstructPix2PixPipeline.{load}({loaded})\n"
        "edited = pipe(\n" + "".join(f"    {line},\n" for line in lines) + ').images[0]\nedited.save("edited.png")\n'
    )


def as_command(model: str, wish: Wish) -> str:
    """The `ip2p` command that makes it."""
    words = ["ip2p", "edit", "photo.png", wish.instruction, "--model", model, "--seed", str(wish.seed)]
    words += ["--guidance-scale", f"{wish.guidance_scale:g}"]
    words += ["--image-guidance-scale", f"{wish.image_guidance_scale:g}", "--steps", str(wish.num_inference_steps)]
    if wish.is_masked:
        words += ["--mask", "mask.png", "--mask-feather", f"{wish.mask_feather:g}"]
    if wish.negative_prompt:
        words += ["--negative-prompt", wish.negative_prompt]
    return shlex.join(words)


def as_workflow(model: str, wish: Wish) -> str:
    """A workflow in ComfyUI's own format, for our nodes; for a model of this machine, with a note where to put it."""
    is_here = model not in CONSTANTS and Path(model).exists()
    if model in CONSTANTS:
        chosen = [f"{model} (comes with ip2p)", ""]
    else:
        chosen = [Path(model).resolve().name, ""] if is_here else ["from Hugging Face ↓", model]
    edit = [wish.instruction, wish.negative_prompt, wish.guidance_scale, wish.image_guidance_scale]
    edit += [wish.num_inference_steps, "model", wish.seed, "fixed", "trained"]
    edit += [wish.mask_feather, 512, "pad", 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    outputs = [
        ("model", "IP2P_MODEL"),
        ("guidance_scale", "FLOAT"),
        ("image_guidance_scale", "FLOAT"),
        ("steps", "INT"),
    ]
    inputs = [("model", "IP2P_MODEL", 1), ("image", "IMAGE", 2), ("mask", "MASK", 4 if wish.is_masked else None)]
    nodes = [
        node(1, "Ip2pLoad", (0, 0), [], outputs, [*chosen, "", "auto"]),
        node(2, "LoadImage", (0, 260), [], [("IMAGE", "IMAGE"), ("MASK", "MASK")], ["photo.png", "image"]),
        node(3, "Ip2pEdit", (480, 0), inputs, [("image", "IMAGE"), ("settings", "STRING")], edit),
        node(4, "SaveImage", (960, 0), [("images", "IMAGE", 3)], [], ["edited"]),
    ]
    links: list[list[Any]] = [[1, 1, 0, 3, 0, "IP2P_MODEL"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]]
    if wish.is_masked:
        nodes += [node(5, "LoadImageMask", (0, 620), [], [("MASK", "MASK")], ["mask.png", "red", "image"])]
        links += [[4, 5, 0, 3, 2, "MASK"]]
    if is_here:
        folder = "checkpoints" if Path(model).is_file() else "diffusers"
        told = f"Copy the model {chosen[0]} into ComfyUI's `models/{folder}` and press R, before you run this."
        nodes += [node(len(nodes) + 1, "MarkdownNote", (0, -260), [], [], [told])]
    for number, source, slot, *_ in links:
        nodes[int(source) - 1]["outputs"][int(slot)]["links"].append(number)
    whole = {"id": str(uuid.uuid4()), "revision": 0, "last_node_id": len(nodes), "last_link_id": len(links)}
    whole |= {"nodes": nodes, "links": links, "groups": [], "config": {}, "extra": {}, "version": 0.4}
    return json.dumps(whole, indent=1, ensure_ascii=False)


def node(
    number: int,
    kind: str,
    place: tuple[int, int],
    inputs: list[tuple[str, str, int | None]],
    outputs: list[tuple[str, str]],
    values: list[Any],
) -> dict[str, Any]:
    """A node of a workflow."""
    return {
        "id": number,
        "type": kind,
        "pos": list(place),
        "size": [420, 200],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": [{"name": name, "type": type_, "link": link} for name, type_, link in inputs],
        "outputs": [{"name": name, "type": type_, "links": []} for name, type_ in outputs],
        "properties": {"Node name for S&R": kind},
        "widgets_values": values,
    }

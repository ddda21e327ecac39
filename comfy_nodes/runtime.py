"""What the nodes ask of ComfyUI: progress, previews and stopping, memory, and where models lie."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management as management
import comfy.model_patcher
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy_api.latest import io
from torch import Tensor, nn

from ..ip2p_pipeline.denoising import Watch
from ..ip2p_pipeline.image_io import to_pil
from ..ip2p_pipeline.latents import decode

CATEGORY = "InstructPix2Pix"
SCALINGS = {0.18215: "SD15", 0.13025: "SDXL"}  # of the autoencoders that ComfyUI's previews know


def schema(search_aliases: list[str], **rest: Any) -> Any:
    """A node's schema, with search terms where this ComfyUI knows them."""
    known = {field.name for field in fields(io.Schema)}
    aliases = {"search_aliases": search_aliases} if "search_aliases" in known else {}
    return io.Schema(category=CATEGORY, **aliases, **rest)


def advanced(widget: Any) -> Any:
    """An input that need not be given, and that ComfyUI may fold away."""
    widget.optional = True
    widget.extra_dict["advanced"] = True
    return widget


class Parts(nn.Module):
    """Models that are loaded and freed together. ComfyUI sets `device` on what it manages; a diffusers model lets it
    not be set.
    """

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


def managed(parts: dict[str, nn.Module]) -> Any:
    """Models under ComfyUI's memory management: it frees them for others, and for `unload_all_models`."""
    return comfy.model_patcher.ModelPatcher(
        Parts(parts), load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )


def load(patcher: Any, memory_needed: int = 0) -> None:
    """Bring managed models to the device, whole, making room for them and for so many bytes besides.

    Where they are there already, only the room is made.
    """
    management.load_models_gpu([patcher], memory_required=memory_needed, force_full_load=True)
    # With --novram ComfyUI leaves the weights to its own kind of layers, which bring them along one at a time.
    patcher.model.to(patcher.load_device)


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Weights that are made within can be moved and changed later: ComfyUI runs nodes in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def pick_dtype(name: str) -> torch.dtype:
    """The dtype of that name; "auto" is what ComfyUI itself would take for a U-Net."""
    if name != "auto":
        return getattr(torch, name)
    device = management.get_torch_device()
    if management.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float32


def progress(pipe: Any, edits: int) -> Callable[[int], Watch]:
    """For each edit, by its number, what watches its steps: the node's bar and preview; it stops when the user does."""
    bar = comfy.utils.ProgressBar(edits)
    preview = previewer(pipe)

    def of(number: int) -> Watch:
        def watch(done: int, total: int, x0: Callable[[], Tensor]) -> None:
            management.throw_exception_if_processing_interrupted()
            bar.update_absolute(number * total + done, edits * total, preview(x0) if preview else None)

        return watch

    return of


def previewer(pipe: Any) -> Callable[[Callable[[], Tensor]], Any] | None:
    """What makes a preview of predicted clean latents, as the user has set previews up; None where they are off.

    Latents that ComfyUI's previews do not know, as the shapes model's, are decoded: such a model is small.
    """
    name = SCALINGS.get(round(pipe.vae.config.scaling_factor, 5))
    device = management.get_torch_device()
    made = latent_preview.get_previewer(device, getattr(comfy.latent_formats, name or "SD15")())
    if made is None:
        return None
    if name is not None:
        return lambda x0: made.decode_latent_to_preview_image("JPEG", x0()[:1].float())
    return lambda x0: ("JPEG", to_pil(decode(pipe.vae, x0()[:1])[0] / 2 + 0.5), latent_preview.MAX_PREVIEW_RESOLUTION)


def diffusers_folders() -> dict[str, Path]:
    """The folders with a model_index.json below ComfyUI's `diffusers` folders, by their names."""
    found: dict[str, Path] = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for folder, inside, files in os.walk(root, followlinks=True):
            if "model_index.json" in files:
                found.setdefault(Path(folder).relative_to(root).as_posix(), Path(folder))
                inside.clear()
    return dict(sorted(found.items()))


def files(kind: str) -> list[str]:
    """The .safetensors files of one of ComfyUI's model folders, by their names."""
    return [name for name in folder_paths.get_filename_list(kind) if name.endswith(".safetensors")]


def file_path(kind: str, name: str) -> Path:
    """Where such a file is. Raises FileNotFoundError, in a sentence, where it is no more."""
    path = folder_paths.get_full_path(kind, name)
    if path is None:
        raise FileNotFoundError(f"There is no file {name} in ComfyUI's folder of {kind}: press R to see what is there.")
    return Path(path)


def output_folder() -> Path:
    """ComfyUI's folder for results."""
    return Path(folder_paths.get_output_directory())

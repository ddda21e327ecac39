"""What is compared: methods that edit a picture, each with its dials, under one interface."""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image
from safetensors import SafetensorError

from ...ip2p_pipeline.pipeline import InstructPix2PixPipeline
from ..shapes.models import SHAPES_EDITOR
from .samples import Sample

Setting = Mapping[str, float]
"""A position of the dials of a method, such as {"image_guidance_scale": 1.4}."""


class Method(Protocol):
    """A way to edit pictures."""

    name: str
    """What the report calls it."""
    dial: str
    """The one of its dials that trades the edit against the picture, along a curve; "" where there is none."""

    def identity(self) -> dict[str, Any]:
        """All that its results depend on, besides dials and seeds, as JSON."""

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """The pictures, edited as the samples say, each of its own size and with its own seed."""


class NoEdit:
    """The picture as it is. CLIP's image similarity likes nothing better, so it is in every table."""

    name, dial = "no edit", ""

    def identity(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """The same pictures."""
        return [picture.copy() for picture in pictures]


@dataclass
class Ip2p:
    """An InstructPix2Pix checkpoint, in our pipeline.

    model:     a Hub id, a diffusers folder, a .safetensors file, or "shapes" (the editor inside this package)
    arguments: of the pipeline's call, such as num_inference_steps
    """

    model: str
    arguments: dict[str, Any]
    name: str = "ip2p"
    dial: str = "image_guidance_scale"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    loaded: Any = field(default=None, repr=False)

    def identity(self) -> dict[str, Any]:
        """The checkpoint, and how it is called."""
        return {"model": checkpoint_name(self.model), "dtype": str(self.dtype), **self.arguments}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One call of the pipeline for all."""
        return self.pipe()(
            [sample.edit_prompt for sample in samples],
            list(pictures),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **{**self.arguments, **as_arguments(setting)},
        ).images

    def pipe(self) -> Any:
        """The pipeline, loaded when it is first wanted."""
        if self.loaded is None:
            self.loaded = load_editor(self.model, self.dtype).to(self.device)
            self.loaded.set_progress_bar_config(disable=True)
        return self.loaded


@dataclass
class Function:
    """A method of somebody's own: a function of an instruction, a picture, a seed and dials, which gives a picture.

    where: module:function; it is imported, and so run, only because the user names it
    """

    where: str
    name: str = ""
    dial: str = ""
    function: Callable[..., Image.Image] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Import it. Raises ValueError where there is none such."""
        module, _, name = self.where.partition(":")
        try:
            self.function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"There is no function {self.where}: give module:function ({error}).") from error
        self.name = self.name or name

    def identity(self) -> dict[str, Any]:
        """Its name and its source."""
        return {"function": self.where, "source": inspect.getsource(self.function)}  # type: ignore[arg-type]

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One after another."""
        assert self.function is not None
        return [
            self.function(sample.edit_prompt, picture, seed=seed, **setting)
            for sample, picture, seed in zip(samples, pictures, seeds, strict=True)
        ]


def load_editor(model: str, dtype: torch.dtype) -> Any:
    """An InstructPix2Pix pipeline: "shapes", a folder, a .safetensors file or a Hub id.

    Raises ValueError or OSError, in a sentence, where it can't be loaded.
    """
    where = SHAPES_EDITOR if model == "shapes" else Path(model)
    if not where.exists() and (where.suffix == ".safetensors" or model.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"There is no model {model}.")
    load = InstructPix2PixPipeline.from_single_file if where.is_file() else InstructPix2PixPipeline.from_pretrained
    try:
        return load(str(where) if where.exists() else model, torch_dtype=dtype, safety_checker=None)
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(f"There is no model {model} here or on the Hub, or it is private.") from error
    except (KeyError, AttributeError, TypeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(f"{model} can't be loaded ({reason}).") from error


def checkpoint_name(model: str) -> Any:
    """What names a checkpoint's content: a Hub id, or hashes of its weights' files."""
    path = SHAPES_EDITOR if model == "shapes" else Path(model)
    if not path.exists():
        return model
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    return {str(file.relative_to(path.parent if path.is_file() else path)): content_of(file) for file in files}


def content_of(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's hash."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 24):
            digest.update(part)
    return digest.hexdigest()[:16]


def as_arguments(setting: Setting) -> dict[str, Any]:
    """A setting as arguments of a pipeline: `steps` has a longer name there, and is whole."""
    told: dict[str, Any] = dict(setting)
    if "steps" in told:
        told["num_inference_steps"] = int(told.pop("steps"))
    return told

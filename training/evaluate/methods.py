"""What is compared: methods that edit a picture, each with its dials, under one interface."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import model_info
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError
from PIL import Image

from ...ip2p_pipeline.inside import INSIDE
from ...ip2p_pipeline.named_models import open_model
from .samples import Sample

Setting = Mapping[str, float]
"""A position of the dials of a method, such as {"image_guidance_scale": 1.4}."""


class Method(Protocol):
    """A way to edit pictures."""

    name: str
    """What the report calls it."""
    dial: str
    """The one of its dials that trades the edit against the picture, along a curve; "" where there is none."""
    captions: tuple[str, ...]
    """The captions that it needs: original_prompt, edited_prompt."""
    by_chance: bool
    """Whether its results depend on seeds."""
    one_by_one: bool
    """Whether it edits pictures one after another: then each is kept as soon as it is made."""

    def identity(self) -> dict[str, Any]:
        """All that its results depend on, besides dials and seeds, as JSON."""

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """The pictures, edited as the samples say, each of its own size and with its own seed."""

    def free(self) -> None:
        """Let go of what is loaded: another method is next."""


class NoEdit:
    """The picture as it is. CLIP's image similarity likes nothing better, so it is in every table."""

    name, dial = "no edit", ""
    captions: tuple[str, ...] = ()
    by_chance = one_by_one = False

    def identity(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """The same pictures."""
        return [picture.copy() for picture in pictures]

    def free(self) -> None:
        """Nothing is held."""


@dataclass
class Ip2p:
    """An InstructPix2Pix checkpoint, in our pipeline.

    model:      a Hub id, a diffusers folder, a .safetensors file, or "shapes" or "shapes-few" (in this package)
    arguments:  of the pipeline's call, such as num_inference_steps
    resolution: longest side at which it works; None = as the model was trained
    """

    model: str
    arguments: dict[str, Any]
    name: str = "ip2p"
    dial: str = "image_guidance_scale"
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    resolution: int | None = None
    captions: tuple[str, ...] = ()
    by_chance: bool = True
    one_by_one: bool = False
    loaded: Any = field(default=None, repr=False)

    def identity(self) -> dict[str, Any]:
        """The checkpoint, and how it is called."""
        model = checkpoint_name(self.model, INSIDE)
        return {"model": model, "dtype": str(self.dtype), "resolution": self.resolution, **self.arguments}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One call of the pipeline for all."""
        pipe = self.pipe()
        return pipe(
            [sample.edit_prompt for sample in samples],
            list(pictures),
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            resolution=self.resolution or trained_side(pipe),
            **{**self.arguments, **as_arguments(setting)},
        ).images

    def pipe(self) -> Any:
        """The pipeline, loaded when it is first wanted."""
        if self.loaded is None:
            self.loaded = open_model(self.model, self.dtype, torch.device(self.device), safety_checker=None).pipe
            self.loaded.set_progress_bar_config(disable=True)
        return self.loaded

    def free(self) -> None:
        """Let go of the pipeline."""
        self.loaded = None


@dataclass(frozen=True)
class Triplet:
    """What a function of somebody's own is told of an edit; a caption is empty where the data has none."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str


@dataclass
class Function:
    """A method of somebody's own: a function `edit(image, triplet, seed=SEED)` from an RGB picture to a picture.

    Where it has a parameter `strength`, that is its dial, and takes each of --strengths. The triplet is a `Triplet`.

    where: module:function, of an installed package or a file in the current folder; it is imported, and so run, only
           because the user names it
    """

    where: str
    captions: tuple[str, ...] = ()
    by_chance: bool = True
    one_by_one: bool = True

    def __post_init__(self) -> None:
        """Import it. Raises ValueError where there is none such."""
        module, _, name = self.where.partition(":")
        here = str(Path.cwd())  # a command is looked for, but not its modules, where the user is
        if here not in sys.path:
            sys.path.append(here)
        try:
            imported = importlib.import_module(module)
            self.function: Callable[..., Image.Image] = getattr(imported, name)
            self.source, told = inspect.getsource(imported), inspect.signature(self.function).parameters
        except Exception as error:  # whatever the user's module does
            raise ValueError(
                f"There is no function {self.where}: give module:function ({type(error).__name__}: {error})."
            ) from error
        self.name, self.dial = self.where, "strength" if "strength" in told else ""

    def identity(self) -> dict[str, Any]:
        """Its name, and the source of its whole module: what it calls is most often there."""
        return {"function": self.where, "source": self.source}

    def edit(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image], setting: Setting, seeds: Sequence[int]
    ) -> list[Image.Image]:
        """One after another. Raises ValueError where the function fails or gives no picture."""
        edited = []
        for sample, picture, seed in zip(samples, pictures, seeds, strict=True):
            triplet = Triplet(sample.original_prompt, sample.edit_prompt, sample.edited_prompt)
            try:
                made = self.function(picture.copy(), triplet, seed=seed, **setting)
            except Exception as error:  # whatever the user's function does
                raise ValueError(f"{self.where} failed at {sample.id} ({type(error).__name__}: {error}).") from error
            if not isinstance(made, Image.Image):
                raise ValueError(f"{self.where} gives {type(made).__name__}, not a picture of PIL.")
            edited.append(of_size(made.convert("RGB"), picture.size))
        return edited

    def free(self) -> None:
        """Nothing is held."""


def trained_side(pipe: Any) -> int:
    """The side in pixels that a pipeline's model was trained at."""
    return int(pipe.unet.config.sample_size * pipe.vae_scale_factor)


def of_size(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture, resized where it is of another size."""
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def checkpoint_name(model: str, inside: dict[str, Path]) -> Any:
    """What names a checkpoint's content: a Hub id, or hashes of the files of its weights and configurations.

    inside: folders of the models that lie in this package

    Raises FileNotFoundError for a path at which nothing is.
    """
    path = inside.get(model, Path(model))
    if not path.exists():
        if path.suffix == ".safetensors" or model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise FileNotFoundError(f"There is no model {model}.")
        return model
    files = [path] if path.is_file() else sorted([*path.rglob("*.safetensors"), *path.rglob("*.json")])
    return contents_of(files, path.parent if path.is_file() else path)


def check_on_hub(name: str) -> None:
    """Raise FileNotFoundError for a model that is not on the Hub. Where that can't be asked, nothing is known yet."""
    try:
        model_info(name, timeout=10)
    except RepositoryNotFoundError:
        raise FileNotFoundError(f"There is no model {name} here or on the Hub, or it is private.") from None
    except (OSError, HfHubHTTPError, HTTPError):
        return


def contents_of(files: Iterable[Path], folder: Path) -> dict[str, str]:
    """Hashes of files by their names in a folder."""
    return {file.relative_to(folder).as_posix(): content_of(file) for file in files}


def content_of(file: Path) -> str:
    """Sixteen hexadecimal digits of a file's hash, read once as long as it does not change."""
    known = file.stat()
    return hash_of(file, known.st_size, known.st_mtime_ns)


@cache
def hash_of(file: Path, size: int, changed: int) -> str:
    """Sixteen hexadecimal digits of the hash of a file of this size that was last changed then."""
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

"""Loading from safetensors only, and saving so that it loads again, by this class and by diffusers' own."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionXLInstructPix2PixPipeline
from safetensors import SafetensorError, safe_open

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
REFUSED = (
    "a pickle, which can run any code when it is opened, so it is refused: look for a version in safetensors, or "
    "convert it where you trust it."
)

# The components that have weights.
MODELS = ("unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "safety_checker")

# The files of a tokenizer, of which one set must be there: transformers makes do without, and reads no word right.
TOKENIZERS = ({"tokenizer_config.json", "tokenizer.json"}, {"tokenizer_config.json", "vocab.json", "merges.txt"})

# What a checkpoint may say of itself in model_index.json, and what holds when it does not.
SETTINGS: dict[str, Any] = {
    "requires_safety_checker": True,
    "force_zeros_for_empty_prompt": True,
    "add_watermarker": None,
    "is_cosxl_edit": False,
    "default_guidance_scale": None,
    "default_image_guidance_scale": None,
    "default_num_inference_steps": None,
    "distilled_scales": None,
}

# transformers 5 names the class that runs without torchvision; both read the same file, and older versions know one.
ANY_VERSION = {"CLIPImageProcessorPil": "CLIPImageProcessor", "CLIPImageProcessorFast": "CLIPImageProcessor"}


class LoadingMixin:
    """The loading and saving methods of a diffusers pipeline, with what InstructPix2Pix needs around them."""

    config_name: str
    is_xl: bool
    _get_signature_keys: Any
    to: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """Load a diffusers folder or a Hub repository, as `DiffusionPipeline.from_pretrained`, from safetensors only.

        Raises ValueError for weights that are only there as a pickle, a component that is missing, a file that is
        damaged, and a text-to-image checkpoint.
        """
        source = str(pretrained_model_name_or_path)
        if Path(source).is_dir():
            check_folder(Path(source), brought_along=kwargs)
        if kwargs.setdefault("use_safetensors", True) is not True:
            raise ValueError("Weights are read from safetensors only: leave use_safetensors at True.")
        try:
            return super().from_pretrained(source, **kwargs)  # type: ignore[misc]
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            if "Could not find the necessary `safetensors` weights" in str(error):
                raise ValueError(f"{source} has weights only as {REFUSED}") from error
            damaged = damaged_file(Path(source))
            if damaged is None and isinstance(error, OSError):
                raise  # diffusers' own sentence
            raise ValueError(f"{damaged or source} is damaged or cut short: fetch it again.") from error

    @classmethod
    def from_pipe(cls, pipeline: Any, **kwargs: Any) -> Any:
        """Take over another pipeline's components and settings, without copying weights or changing their precision.

        Raises ValueError when they are not InstructPix2Pix's.
        """
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        components, settings = cls._get_signature_keys(cls)
        taken = {name: getattr(pipeline, name, None) for name in components}
        said = vars(pipeline) | dict(pipeline.config)  # stock's SDXL class has is_cosxl_edit as an attribute only
        taken |= {name: said[name] for name in settings if name in said}
        pipe = cls(**{**taken, **kwargs})
        return pipe if dtype is None else pipe.to(dtype=dtype)

    def save_pretrained(self, save_directory: str | Path, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Save as a diffusers folder that loads again three ways: by this class, by diffusers' own InstructPix2Pix
        class, and by `DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)`
        where ip2p is not installed. Weights are always safetensors; other arguments are diffusers'.
        """
        if not safe_serialization:
            raise ValueError("Weights are written as safetensors only: leave safe_serialization at True.")
        super().save_pretrained(str(save_directory), **kwargs)  # type: ignore[misc]

    def save_config(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write model_index.json and the pipeline's own code; `save_pretrained` calls this before any upload."""
        super().save_config(save_directory, **kwargs)  # type: ignore[misc]
        write_stock_index(Path(save_directory) / self.config_name, self.is_xl)
        write_code(Path(save_directory))


def named_parts(index: Path) -> dict[str, list[str | None]]:
    """The library and the class of each part, as a model_index.json names them.

    Raises ValueError for a file that is no such index.
    """
    entries = json.loads(index.read_text(encoding="utf-8"))
    told = entries.items() if isinstance(entries, dict) else [("", [])]
    # Besides parts it has private entries, and what the pipeline recommends.
    parts = {name: entry for name, entry in told if isinstance(entry, list) and not name.startswith(("_", "default_"))}
    if any(len(entry) != 2 for entry in parts.values()):
        raise ValueError(f"{index} is no index of a diffusers pipeline, which names each part's library and class.")
    return parts


def check_folder(folder: Path, brought_along: Iterable[str] = ()) -> None:
    """Raise ValueError unless a diffusers folder holds what its model_index.json names, weights as safetensors.

    brought_along: components that the caller passes, which the folder need not have.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} is not a diffusers folder: it has no model_index.json.")
    if damaged_file(index):
        raise ValueError(f"{index} is damaged or cut short: fetch it again.")
    parts = named_parts(index)
    for name in ("unet", "vae", "scheduler"):
        if name not in brought_along and parts.get(name, [None])[0] is None:
            raise ValueError(f"{index} names no {name}: an edit can't be made without.")
    for name, entry in parts.items():
        if name in brought_along or entry[0] is None:
            continue
        files = list((folder / name).iterdir()) if (folder / name).is_dir() else []
        if not files:
            raise ValueError(f"{folder} has no {name}, which its model_index.json names: the folder is incomplete.")
        if name.startswith("tokenizer") and not any(parts <= {file.name for file in files} for parts in TOKENIZERS):
            raise ValueError(
                f"{folder / name} is incomplete: it needs tokenizer_config.json, and tokenizer.json "
                "or vocab.json with merges.txt."
            )
        kinds = {file.suffix for file in files}
        if ".safetensors" not in kinds and kinds & set(PICKLES):
            raise ValueError(f"{folder / name} has its weights only as {REFUSED}")
        if name in MODELS and ".safetensors" not in kinds:
            raise ValueError(f"{folder / name} has no weights: the folder is incomplete.")


def damaged_file(path: Path) -> Path | None:
    """The first JSON or safetensors file at or below a path that can't be read; of weights only the header is."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                safe_open(file, framework="pt")
        except (ValueError, SafetensorError):
            return file
    return None


def write_stock_index(index: Path, xl: bool) -> None:
    """Rewrite model_index.json so that plain diffusers loads the folder as its own InstructPix2Pix pipeline; but for a
    distilled checkpoint, whose dials would do nothing there.

    Entries that the stock class does not know stay only where they say something: a component that is there, or a
    setting other than its default.
    """
    stock = StableDiffusionXLInstructPix2PixPipeline if xl else StableDiffusionInstructPix2PixPipeline
    known = stock._get_init_keys(stock)
    entries = json.loads(index.read_text(encoding="utf-8"))
    if entries.get("distilled_scales") is None:
        entries["_class_name"] = stock.__name__
    entries.pop("_name_or_path", None)  # the writer's own path
    for name, value in list(entries.items()):
        if isinstance(value, list) and value[1] in ANY_VERSION:
            value[1] = ANY_VERSION[value[1]]
        says_nothing = value == [None, None] or (name in SETTINGS and value == SETTINGS[name])
        if says_nothing and name not in known:
            del entries[name]
    index.write_text(json.dumps(entries, indent=2) + "\n")


def write_code(folder: Path) -> None:
    """Copy pipeline.py and the files it imports, for `custom_pipeline=` to load."""
    here = Path(__file__).parent
    source = (here / "pipeline.py").read_text(encoding="utf-8")
    for name in ["pipeline", *re.findall(r"^from \.(\w+) import", source, re.MULTILINE)]:
        copy = folder / f"{name}.py"
        if not copy.exists() or not copy.samefile(here / copy.name):
            shutil.copyfile(here / copy.name, copy)

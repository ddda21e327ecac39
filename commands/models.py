"""Finds and loads the model that `--model` names."""

import re
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

from .. import SHAPES_MODEL
from ..ip2p_pipeline.loading import PICKLES
from ..ip2p_pipeline.pipeline import InstructPix2PixPipeline
from .report import first_line, is_out_of_memory
from .settings import Editing

SCHEDULERS: dict[str, Any] = {
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
    "uni_pc": diffusers.UniPCMultistepScheduler,
}

# What the libraries raise for files that hold nonsense; RuntimeError also where memory runs out.
NONSENSE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError)


class Model(NamedTuple):
    """A loaded model: its pipeline, its name, and for one from the Hub the commit."""

    pipe: Any
    name: str
    revision: str | None


def load_model(settings: Editing) -> Model:
    """Load the model of an edit onto its device, with the scheduler asked for.

    Raises ValueError or OSError, in a sentence that says how to go on, when it can't be found, fetched or loaded.
    """
    device = find_device(settings.device)
    dtype = getattr(torch, settings.dtype or ("float32" if device.type == "cpu" else "float16"))
    quiet()
    try:
        model = from_name(settings.model, dtype)
        if settings.scheduler is not None:
            model.pipe.scheduler = SCHEDULERS[settings.scheduler].from_config(model.pipe.scheduler.config)
        model.pipe.to(device)
    except Exception as error:  # files that hold nonsense make the libraries raise anything
        if isinstance(error, ValueError | OSError) and not isinstance(error, JSONDecodeError | UnicodeDecodeError):
            raise
        if is_out_of_memory(error):
            raise MemoryError(f"There is too little memory on {device} for {settings.model}.") from error
        raise ValueError(
            f"{settings.model} can't be loaded as an InstructPix2Pix model ({first_line(error)})."
        ) from error
    return model


def from_name(name: str, dtype: torch.dtype) -> Model:
    """Load by name: "shapes", a folder, a file or a Hub id."""
    path = Path(name)
    if name == "shapes":
        return Model(InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL, torch_dtype=dtype), name, None)
    if path.is_dir():
        return Model(InstructPix2PixPipeline.from_pretrained(path, torch_dtype=dtype), path.resolve().name, None)
    if path.suffix in (".safetensors", *PICKLES):
        if not path.is_file():
            raise FileNotFoundError(f"There is no model file {name}.")
        try:
            return Model(InstructPix2PixPipeline.from_single_file(path, torch_dtype=dtype), path.name, None)
        except OSError as error:
            raise unreachable("The configuration that goes with a single file", error) from error
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise FileNotFoundError(f"There is no model folder {name}.")
    return from_hub(name, dtype)


def from_hub(name: str, dtype: torch.dtype) -> Model:
    """Load from the Hub, or from its cache where that has the model."""
    try:
        pipe = InstructPix2PixPipeline.from_pretrained(name, torch_dtype=dtype)
    except (ValueError, *NONSENSE):
        raise  # the pipeline's own sentence, or files that hold nonsense
    except Exception as error:  # the Hub's client fails with many types, which differ between its versions
        causes = (error, error.__cause__)  # diffusers wraps the client's error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise FileNotFoundError(
                f"There is no model {name} here or on the Hub, or it is private: check the name, log in with "
                "`hf auth login`, or try --model shapes."
            ) from error
        if any(isinstance(cause, RemoteEntryNotFoundError) for cause in causes):
            raise FileNotFoundError(
                f"{name} on the Hub is not a diffusers pipeline: it has no model_index.json."
            ) from error
        raise unreachable(name, error.__cause__ or error) from error
    index = try_to_load_from_cache(name, "model_index.json")
    return Model(pipe, name, Path(index).parent.name if isinstance(index, str) else None)


def unreachable(what: str, error: BaseException) -> ConnectionError:
    """The error for something that neither the Hub nor its cache here gave."""
    return ConnectionError(
        f"{what} is not on this machine, and the Hub can't be reached ({first_line(error)}). Check the network and "
        "try again; or fetch the model elsewhere with `hf download` and give its folder as --model; or use --model "
        "shapes, which needs no network."
    )


def find_device(name: str | None) -> torch.device:
    """The device of that name, or the best one here."""
    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # meta, which computes nothing, has devices too
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"--device {name} can't be used here: {first_line(error)}.") from error


def quiet() -> None:
    """Keep the libraries' notes and loading bars off the terminal; the Hub's download bars stay."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()

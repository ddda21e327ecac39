"""Finds and loads a model by its name, as users of the command, the nodes and the web page give it."""

import re
from json import JSONDecodeError
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

from .errors import NONSENSE, first_line, is_out_of_memory
from .inside import INSIDE
from .loading import PICKLES
from .pipeline import InstructPix2PixPipeline

SCHEDULERS: dict[str, Any] = {
    "ddim": diffusers.DDIMScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "lcm": diffusers.LCMScheduler,
    "uni_pc": diffusers.UniPCMultistepScheduler,
}


class Model(NamedTuple):
    """A loaded model: its pipeline, its name, and for one from the Hub the commit."""

    pipe: Any
    name: str
    revision: str | None


def open_model(
    name: str,
    dtype: torch.dtype,
    device: torch.device,
    scheduler: str | None = None,
    revision: str | None = None,
    **parts: Any,
) -> Model:
    """Load a model onto a device.

    name:      "shapes" or "shapes-few" (in this package), a diffusers folder, a .safetensors file in the original
               layout, or an id on the Hub
    scheduler: one of SCHEDULERS; None = the model's own
    revision:  of the Hub: a branch, tag or commit; None = main
    parts:     of the pipeline, in place of the model's own, such as safety_checker=None

    Raises ValueError, OSError or MemoryError, in a sentence that says how to go on, when it can't be found, fetched or
    loaded.
    """
    try:
        model = from_name(name, dtype, revision, **parts)
        if scheduler is not None:
            model.pipe.scheduler = scheduler_like(model.pipe.scheduler, scheduler)
        model.pipe.to(device)
    except Exception as error:  # files that hold nonsense make the libraries raise anything
        if isinstance(error, ValueError | OSError) and not isinstance(error, JSONDecodeError | UnicodeDecodeError):
            raise
        if is_out_of_memory(error):
            raise MemoryError(f"There is too little memory on {device} for {name}.") from error
        raise ValueError(f"{name} can't be loaded as an InstructPix2Pix model ({first_line(error)}).") from error
    return model


def scheduler_like(own: Any, name: str) -> Any:
    """One of SCHEDULERS, for a model whose own scheduler is `own`.

    Raises ValueError where that one has a noise schedule that none of them knows.
    """
    if "sigma_data" in own.config and "beta_start" not in own.config:
        raise ValueError(
            "CosXL-Edit has a noise schedule of its own, which no other scheduler knows: leave the scheduler at the "
            "model's own."
        )
    # Where the configuration is silent, DDIM would hold the latents within [-1, 1], as pictures are.
    return SCHEDULERS[name].from_config(own.config, clip_sample=False)


def from_name(name: str, dtype: torch.dtype, revision: str | None = None, **parts: Any) -> Model:
    """Load by name onto the CPU."""
    path = Path(name)
    if name in INSIDE:
        return Model(InstructPix2PixPipeline.from_pretrained(INSIDE[name], torch_dtype=dtype), name, None)
    if path.is_dir():
        pipe = InstructPix2PixPipeline.from_pretrained(path, torch_dtype=dtype, **parts)
        return Model(pipe, path.resolve().name, None)
    if path.suffix in (".safetensors", *PICKLES):
        if not path.is_file():
            raise FileNotFoundError(f"There is no model file {name}.")
        try:
            return Model(InstructPix2PixPipeline.from_single_file(path, torch_dtype=dtype), path.name, None)
        except OSError as error:
            raise unreachable("The configuration that goes with a single file", error) from error
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise FileNotFoundError(f"There is no model folder {name}.")
    return from_hub(name, dtype, revision, **parts)


def from_hub(name: str, dtype: torch.dtype, revision: str | None, **parts: Any) -> Model:
    """Load from the Hub, or from its cache where that has the model."""
    try:
        pipe = InstructPix2PixPipeline.from_pretrained(name, torch_dtype=dtype, revision=revision, **parts)
    except (ValueError, *NONSENSE):
        raise  # the pipeline's own sentence, or files that hold nonsense
    except Exception as error:  # the Hub's client fails with many types, which differ between its versions
        causes = (error, error.__cause__)  # diffusers wraps the client's error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise FileNotFoundError(
                f"There is no model {name} here or on the Hub, or it is private: check the name, log in with "
                "`hf auth login`, or try the model shapes."
            ) from error
        # Where the Hub can't be reached, the error is the subclass for files that the cache lacks.
        if any(
            isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError) for cause in causes
        ):
            raise FileNotFoundError(
                f"{name} on the Hub is not a diffusers pipeline: it has no model_index.json."
            ) from error
        raise unreachable(name, error.__cause__ or error) from error
    index = try_to_load_from_cache(name, "model_index.json", revision=revision)
    return Model(pipe, name, Path(index).parent.name if isinstance(index, str) else None)


def unreachable(what: str, error: BaseException) -> ConnectionError:
    """The error for something that neither the Hub nor its cache here gave."""
    return ConnectionError(
        f"{what} is not on this machine, and the Hub can't be reached ({first_line(error)}). Check the network and "
        "try again; or fetch the model elsewhere with `hf download` and give its folder instead of the name; or use "
        "the model shapes, which needs no network."
    )

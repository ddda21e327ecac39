"""Loads the model that `--model` names."""

import diffusers
import transformers

from ..ip2p_pipeline.devices import find_device, find_dtype
from ..ip2p_pipeline.named_models import Model, open_model
from .settings import Editing


def load_model(settings: Editing) -> Model:
    """Load the model of an edit onto its device, with the scheduler asked for.

    Raises ValueError, OSError or MemoryError, in a sentence that says how to go on, when it can't be found, fetched or
    loaded.
    """
    device = find_device(settings.device)
    dtype = find_dtype(settings.dtype, device)
    quiet()
    return open_model(settings.model, dtype, device, settings.scheduler)


def quiet() -> None:
    """Keep the libraries' notes and loading bars off the terminal; the Hub's download bars stay."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()

"""A loaded editor, as it goes from node to node: the models are shared, the LoRAs are each node's own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .editing import Edit, memory_needed

Ip2pModel = io.Custom("IP2P_MODEL")


@dataclass(frozen=True)
class Lora:
    """An adapter's file, its strength, and when the file changed."""

    path: Path
    strength: float
    stamp: float


class Loaded:
    """A pipeline in ComfyUI's memory management."""

    def __init__(self, pipe: Any, name: str, revision: str | None) -> None:
        self.pipe, self.name, self.revision = pipe, name, revision
        self.own_scheduler = pipe.scheduler
        self.loras: tuple[Lora, ...] = ()
        parts = {name: part for name, part in pipe.components.items() if hasattr(part, "parameters")}
        self.patcher = runtime.managed(parts)
        pipe.set_progress_bar_config(disable=True)

    def set_scheduler(self, name: str) -> None:
        """One of the pipeline's SCHEDULERS, or "model" for the checkpoint's own. Raises ValueError for one that does
        not fit the model.
        """
        from ..ip2p_pipeline.named_models import scheduler_like

        own = self.own_scheduler
        self.pipe.scheduler = own if name == "model" else scheduler_like(own, name)

    def set_loras(self, loras: tuple[Lora, ...]) -> None:
        """Exchange the adapters. Raises ValueError for a file that does not fit."""
        if loras == self.loras:
            return
        with runtime.ordinary_tensors():
            self.pipe.unload_lora_weights()
            self.loras = ()
            try:
                for number, lora in enumerate(loras):
                    load_lora(self.pipe, lora.path, f"lora_{number}")
                if loras:
                    names = [f"lora_{number}" for number in range(len(loras))]
                    self.pipe.set_adapters(names, [lora.strength for lora in loras])
            except Exception:
                self.pipe.unload_lora_weights()  # of a stack that is refused, those that fit would stay at work
                raise
        self.loras = loras


def load_lora(pipe: Any, path: Path, name: str) -> None:
    """Load an adapter. Raises ValueError, in a sentence, where it does not fit."""
    from ..ip2p_pipeline.errors import first_line

    try:
        pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=name)
    except Exception as error:  # a file of another kind fails anywhere in diffusers or peft
        raise ValueError(f"The LoRA {path.name} does not fit this model ({first_line(error)}).") from error
    if not any(name in names for names in pipe.get_list_adapters().values()):
        raise ValueError(f"The LoRA {path.name} holds nothing for this model: is it one for SD 1.5, 2 or SDXL?")


@dataclass(frozen=True, eq=False)
class Editor:
    """What the Load node gives, with the LoRAs that nodes behind it have added."""

    loaded: Loaded
    loras: tuple[Lora, ...] = ()

    def with_lora(self, lora: Lora) -> "Editor":
        """This editor with one more adapter."""
        return replace(self, loras=(*self.loras, lora))

    def ready(self, edit: Edit, picture: Tensor) -> Any:
        """The pipeline, on the device, with this editor's adapters, the edit's scheduler and room for the picture."""
        self.loaded.set_loras(self.loras)
        runtime.load(self.loaded.patcher, memory_needed(self.loaded.pipe, edit, picture))
        self.loaded.set_scheduler(edit.scheduler)
        return self.loaded.pipe

    @property
    def name(self) -> str:
        """The model's name with its revision and adapters, for records."""
        told = self.loaded.name + (f"@{self.loaded.revision}" if self.loaded.revision else "")
        return told + "".join(f" + {lora.path.name} × {lora.strength:g}" for lora in self.loras)


def editor_of(model: Any) -> Editor:
    """What is wired to a node as its model. Raises ValueError where that is no editor."""
    if not isinstance(model, Editor):
        raise ValueError("There is no model to edit with: connect Load InstructPix2Pix.")
    return model


# What some node or ComfyUI's cache still holds: two nodes that load the same share its weights.
_loaded: WeakValueDictionary[tuple, Loaded] = WeakValueDictionary()


def load_editor(source: str, revision: str | None, dtype_name: str, stamp: float) -> Editor:
    """Load a model by its name, or share one that is there.

    stamp: when the model's files changed

    Raises ValueError, OSError or MemoryError in a sentence.
    """
    import torch

    from ..ip2p_pipeline.named_models import open_model

    dtype = runtime.pick_dtype(dtype_name)
    key = source, revision, dtype, stamp
    loaded = _loaded.get(key)
    if loaded is None:
        with runtime.ordinary_tensors():
            model = open_model(source, dtype, torch.device("cpu"), revision=revision)
            loaded = Loaded(*model)
        _loaded[key] = loaded
    return Editor(loaded)

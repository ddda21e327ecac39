"""The editor that is being trained, with all its parts, wherever its weights are."""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor
from torch.distributed.tensor import DTensor

from .loop import Training
from .settings import FinetuneSettings
from .trainee import Trainee, choose

Start: TypeAlias = Callable[[], Any]  # loads the editor that a training begins with


def gathered(training: Training) -> dict[str, Tensor]:
    """All trained weights by name, in the main memory; where processes share them out, every one must ask."""
    trained = ((name, p.detach()) for name, p in training.trainee.named_parameters() if p.requires_grad)
    return {name: (p.full_tensor() if isinstance(p, DTensor) else p).cpu() for name, p in trained}


def editor_with(weights: dict[str, Tensor], start: Start, settings: FinetuneSettings) -> tuple[Any, Trainee]:
    """The editor that a training begins with, with these weights in it, and what is trained of it."""
    pipe = start()
    trainee = choose(pipe, settings)
    parameters = dict(trainee.named_parameters())
    for name, tensor in weights.items():
        parameters[name].data = tensor.to(parameters[name].dtype)  # not copied, which would take their memory twice
    return pipe, trainee


def whole(pipe: Any, trainee: Trainee, start: Start) -> Any:
    """The editor with all its parts, of which training may have let some go."""
    if pipe.vae is None:
        kept = {"unet": trainee.unet}
        if trainee.text_encoder is not None:
            kept["text_encoder"] = trainee.text_encoder
        pipe = start()
        pipe.register_modules(**kept)
    return pipe

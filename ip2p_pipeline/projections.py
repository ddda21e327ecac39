"""The text's keys and values, computed once a run: they are the same at every step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


@contextmanager
def text_projected_once(unet: Any) -> Iterator[None]:
    """Within, a cross-attention layer that meets the very same text again gives its keys and values from before.

    Lossless: what is kept is what the layer's own `to_k` and `to_v` gave, LoRA and offloading included, for any
    attention processor. Weights must not change within. A compiled U-Net is left alone, since it would compile anew.
    """
    layers = [m for m in unet.modules() if isinstance(m, Attention) and m.is_cross_attention]
    if any(m._compiled_call_impl is not None for m in unet.modules()) or hasattr(unet, "_orig_mod"):
        layers = []
    projections = [linear for layer in layers for linear in (layer.to_k, layer.to_v)]
    earlier = [vars(linear).get("forward") for linear in projections]  # offloading puts one on the instance
    for linear in projections:
        linear.forward = once(linear)
    try:
        yield
    finally:
        for linear, forward in zip(projections, earlier, strict=True):
            del linear.forward
            if forward is not None:
                linear.forward = forward


def once(linear: nn.Module) -> Any:
    """The layer's forward, which remembers the last text and its result."""
    forward = linear.forward
    last: list[tuple[Tensor, Tensor]] = []

    def remembered(text: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not last or last[0][0] is not text:
            last[:] = [(text, forward(text, *args, **kwargs))]
        return last[0][1]

    return remembered

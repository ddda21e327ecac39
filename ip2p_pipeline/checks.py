"""Bad input, told in one sentence before any work begins."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
Settings = TypeVar("Settings")


def check_components(unet: Any, vae: Any, scheduler: Any) -> None:
    """Raise ValueError unless the parts no edit can do without are there and fit together."""
    missing = [name for name, part in (("unet", unet), ("vae", vae), ("scheduler", scheduler)) if part is None]
    if missing:
        raise ValueError(f"There is no {' and no '.join(missing)}: an edit can't be made without.")
    takes, needs = unet.config.in_channels, 2 * vae.config.latent_channels
    if 2 * takes == needs:
        raise ValueError(
            f"This is a text-to-image checkpoint: its U-Net takes {takes} channels, and InstructPix2Pix needs {needs}, "
            "the noisy latent's and the input picture's. Load an InstructPix2Pix checkpoint such as "
            "timbrooks/instruct-pix2pix, or fine-tune this one into one."
        )
    if takes != needs:
        raise ValueError(
            f"The U-Net takes {takes} channels and this autoencoder gives {needs}: the two are not of one "
            "InstructPix2Pix checkpoint."
        )


def check_call(call: Mapping[str, Any], callback_tensors: Sequence[str]) -> None:
    """Raise ValueError or TypeError for arguments of a call that contradict each other or have no meaning."""

    def one_of(what: str, *names: str, needed: bool = True) -> None:
        given = [name for name in names if call[name] is not None]
        if len(given) > 1 or (needed and not given):
            raise ValueError(f"Give {what} as {' or as '.join(names)}, {'not both' if given else 'one of the two'}.")

    one_of("the instruction", "prompt", "prompt_embeds")
    one_of("the picture to edit", "image", "image_latents")
    one_of("the negative text", "negative_prompt", "negative_prompt_embeds", needed=False)
    one_of("the image prompt", "ip_adapter_image", "ip_adapter_image_embeds", needed=False)
    for name in ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2"):
        texts = call[name] if isinstance(call[name], list) else [call[name]]
        if call[name] is not None and not (texts and all(isinstance(text, str) for text in texts)):
            raise TypeError(f"{name} is a text or a list of texts, not {call[name]!r}.")
    if call["mask_image"] is not None and call["image"] is None:
        raise ValueError("mask_image needs the picture as image, not as latents: outside the mask its pixels return.")
    if call["relevance_mask"] and call["image"] is None:
        raise ValueError("relevance_mask needs the picture as image, not as latents: its pixels return outside.")
    if not set(call["negative_prompt_branches"]) <= {"uncond", "image"}:
        raise ValueError(
            f'negative_prompt_branches may name "uncond" and "image", not {call["negative_prompt_branches"]}.'
        )
    for name in ("num_inference_steps", "num_images_per_prompt", "resolution"):
        value = call[name]
        if not (isinstance(value, int | np.integer) and value >= 1) and (name, value) != ("resolution", None):
            raise ValueError(f"{name} is a whole number, at least 1, not {value!r}.")
    for name in ("timesteps", "sigmas", "image_latents"):
        if call[name] is not None and len(call[name]) == 0:
            raise ValueError(f"{name} is empty: give at least one, or leave it out.")
    if not (isinstance(call["strength"], int | float) and 0 < call["strength"] <= 1):
        raise ValueError(f"strength is a number above 0 and at most 1, not {call['strength']!r}.")
    generators = call["generator"] if isinstance(call["generator"], list) else [call["generator"]]
    if not all(generator is None or isinstance(generator, torch.Generator) for generator in generators):
        raise TypeError(f"generator is a torch.Generator or a list of them, not {call['generator']!r}.")
    background = call["background"]
    if not (isinstance(background, tuple | list) and len(background) == 3 and all(map(is_byte, background))):
        raise ValueError(f"background is a colour of three values in 0..255, not {background!r}.")
    if call["output_type"] not in OUTPUT_TYPES:
        raise ValueError(f"output_type is one of {', '.join(OUTPUT_TYPES)}, not {call['output_type']!r}.")
    if call["alpha"] not in ("composite", "keep"):
        raise ValueError(f'alpha is "composite" or "keep", not {call["alpha"]!r}.')
    unknown = set(call["callback_on_step_end_tensor_inputs"]) - set(callback_tensors)
    if unknown:
        raise ValueError(f"A callback can be given {', '.join(callback_tensors)}, not {', '.join(sorted(unknown))}.")


def as_settings(kind: type[Settings], name: str, value: Any) -> Settings | None:
    """What a user calls a refinement: False or None for none, True for the usual one, a dict of its settings, or one.

    kind: the dataclass of its settings; name: the argument's. Raises ValueError for anything else.
    """
    if value is None or isinstance(value, kind):
        return value
    if isinstance(value, bool):
        return kind() if value else None
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if not (isinstance(value, dict) and set(value) <= names):
        raise ValueError(f"{name} is True, False or a dict of {', '.join(sorted(names))}, got {value!r}.")
    return kind(**value)


def is_byte(value: Any) -> bool:
    """Whether a value is a number in 0..255."""
    return isinstance(value, int | float | np.number) and bool(0 <= value <= 255)


def check_changed(changed: Mapping[str, Any], given: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless what a callback gives back stands for what it was given."""
    for name, tensor in changed.items():
        if name not in given:
            raise ValueError(f"The callback gave back {name}, and was given {', '.join(given)} to change.")
        if not isinstance(tensor, Tensor) or tensor.shape != given[name].shape:
            was = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(
                f"The callback gave back {name} as {was}: it must keep its shape, {tuple(given[name].shape)}."
            )


def check_count(name: str, tensor: Tensor, count: int) -> None:
    """Raise ValueError unless a tensor has one entry for all rows or one for each."""
    if len(tensor) not in (1, count):
        raise ValueError(f"{name} holds {len(tensor)} entries for {count} results: give one, or as many.")


def check_latents(name: str, latents: Any, shape: Sequence[int]) -> None:
    """Raise ValueError unless latents have the shape that the picture and the model ask for."""
    if tuple(latents.shape) != tuple(shape):
        raise ValueError(f"{name} has shape {tuple(latents.shape)}, and this edit needs {tuple(shape)}.")

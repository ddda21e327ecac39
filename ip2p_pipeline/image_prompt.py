"""IP-Adapter: pictures as prompts, beside the one that is edited."""

from typing import Any

import torch
from diffusers.models import ImageProjection
from torch import Tensor

# One adapter's embeddings, per branch, each [rows, pictures, …].
Embeds = dict[str, Tensor]


def encode_image_prompts(
    images: Any, projections: Any, image_encoder: Any, feature_extractor: Any, device: torch.device
) -> list[Embeds]:
    """Encode one picture, or one list of pictures, per adapter. The adapter sees a picture only in the full branch.

    Raises ValueError unless there is an entry for each of the adapters' projections.
    """
    images = images if isinstance(images, list) else [images]
    check_count("ip_adapter_image", images, projections)
    adapters = []
    for image, projection in zip(images, projections, strict=True):
        if not isinstance(image, Tensor):
            image = feature_extractor(image, return_tensors="pt").pixel_values
        image = image.to(device, image_encoder.dtype)
        if isinstance(projection, ImageProjection):
            shown = image_encoder(image).image_embeds
            hidden = torch.zeros_like(shown)
        else:  # the "plus" adapters read the last but one layer's tokens, and black for nothing
            shown = image_encoder(image, output_hidden_states=True).hidden_states[-2]
            hidden = image_encoder(torch.zeros_like(image), output_hidden_states=True).hidden_states[-2]
        adapters.append({"full": shown[None], "image": hidden[None], "uncond": hidden[None]})
    return adapters


def split_embeds(embeds: list[Tensor], projections: Any) -> list[Embeds]:
    """Take ready embeddings apart: per adapter [3·n, pictures, …], the n shown ones, then twice the n hidden ones."""
    check_count("ip_adapter_image_embeds", embeds, projections)
    for adapter in embeds:
        if len(adapter) % 3:
            raise ValueError(
                f"ip_adapter_image_embeds holds {len(adapter)} rows: it takes three parts, shown, hidden and hidden."
            )
    return [dict(zip(("full", "image", "uncond"), adapter.chunk(3), strict=True)) for adapter in embeds]


def check_count(name: str, given: Any, projections: Any) -> None:
    """Raise ValueError unless there is an entry for each IP-Adapter."""
    if len(given) != len(projections):
        raise ValueError(
            f"{name} holds {len(given)} entries for {len(projections)} IP-Adapters: give one for each that "
            "load_ip_adapter has loaded."
        )

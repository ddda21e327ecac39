"""IP-Adapter: pictures as prompts, beside the one that is edited."""

from typing import Any

import torch
from diffusers.models import ImageProjection
from diffusers.models.embeddings import IPAdapterFullImageProjection, IPAdapterPlusImageProjection
from torch import Tensor

from .image_io import load_pictures, to_pil

# One adapter's embeddings, per branch, each [rows, pictures, …].
Embeds = dict[str, Tensor]


def image_prompts(pipe: Any, images: Any, embeds: list[Tensor] | None, device: torch.device, rows: int) -> list[Embeds]:
    """What each loaded IP-Adapter is shown, from pictures or from ready embeddings.

    Raises ValueError unless there is an entry for each adapter, and the pipeline can read it.
    """
    projections = getattr(pipe.unet.encoder_hid_proj, "image_projection_layers", [])
    name, given = ("ip_adapter_image", images) if embeds is None else ("ip_adapter_image_embeds", embeds)
    given = [] if given is None else given if isinstance(given, list) else [given]
    if len(given) != len(projections):
        raise ValueError(
            f"{name} holds {len(given)} entries for {len(projections)} IP-Adapters: give one for each that "
            "load_ip_adapter has loaded."
        )
    if embeds is not None:
        return [split_embeds(adapter, layer, rows) for adapter, layer in zip(given, projections, strict=True)]
    if given and (pipe.image_encoder is None or pipe.feature_extractor is None):
        raise ValueError("There is no image_encoder or no feature_extractor to read ip_adapter_image: pass embeddings.")
    return [encode_image_prompt(pipe, image, layer, device) for image, layer in zip(given, projections, strict=True)]


def encode_image_prompt(pipe: Any, image: Any, projection: Any, device: torch.device) -> Embeds:
    """Encode one picture, or a list of them, for an adapter, which sees it only in the full branch.

    image: of any kind, as the edited one; a tensor [pictures, 3, h, w] is what the encoder reads, as in diffusers
    """
    encoder = pipe.image_encoder
    if not (isinstance(image, Tensor) and image.ndim == 4):
        pictures = [to_pil(picture.rgb) for picture in load_pictures(image)]
        image = pipe.feature_extractor(pictures, return_tensors="pt").pixel_values
    pixels = image.to(device, encoder.dtype)
    if isinstance(projection, ImageProjection):
        shown = encoder(pixels).image_embeds
        hidden = torch.zeros_like(shown)
    else:  # the "plus" adapters read the last but one layer's tokens, and black for nothing
        shown = encoder(pixels, output_hidden_states=True).hidden_states[-2]
        hidden = encoder(torch.zeros_like(pixels), output_hidden_states=True).hidden_states[-2]
    if shown.shape[-1] != width(projection):
        raise ValueError(
            f"The image encoder's embeddings are {shown.shape[-1]} wide and the IP-Adapter reads {width(projection)}: "
            "pass the image_encoder that the adapter was made with."
        )
    return {"full": shown[None], "image": hidden[None], "uncond": hidden[None]}


def split_embeds(embeds: Tensor, projection: Any, rows: int) -> Embeds:
    """Take ready embeddings [3·n, pictures, …] apart, n = 1 or `rows`: the shown ones, then twice the hidden ones."""
    tokens = isinstance(projection, IPAdapterPlusImageProjection | IPAdapterFullImageProjection)
    picture = ("tokens", width(projection)) if tokens else (width(projection),)
    shape = tuple(embeds.shape)
    if len(shape) != 2 + len(picture) or shape[-1] != picture[-1] or shape[0] not in (3, 3 * rows):
        takes = ", ".join(map(str, ("3" if rows == 1 else f"3 or {3 * rows}", "pictures", *picture)))
        raise ValueError(
            f"ip_adapter_image_embeds has shape {shape}: it takes ({takes}), the shown, then twice the hidden ones."
        )
    return dict(zip(("full", "image", "uncond"), embeds.chunk(3), strict=True))


def width(projection: Any) -> int:
    """How wide the embeddings are that an adapter reads."""
    return next(part.in_features for part in projection.modules() if isinstance(part, torch.nn.Linear))

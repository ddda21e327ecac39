"""How the pairs of a triplet are made, and what their rows depend on. Nothing heavy is imported here."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from .candidates import DrawSettings
from .filter_settings import FilterSettings, thresholds
from .render_settings import RenderSettings

INDIFFERENT = ("batch_size", "device")
"""Settings that rows don't depend on, but for the rounding of sums."""
JUDGING = (*(each.name for each in fields(FilterSettings) if not each.name.startswith("clip_")), "nsfw_check")
"""Settings by which candidates that are there can be judged again."""


@dataclass(kw_only=True)
class ModelSettings:
    """The model that draws, and where."""

    model: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """Text-to-image model that draws: a Hub id, a diffusers folder or a .safetensors file of SD 1.x, 2.x or SDXL, or
    "shapes" (the small model inside this package)."""
    vae: str | None = None
    """Autoencoder in place of the model's own, a folder or a Hub id; the original took stabilityai/sd-vae-ft-mse."""
    device: str | None = None
    """Where to compute, such as cuda, cuda:1, mps or cpu. Default: the accelerator, where there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision of the model; a CPU without bfloat16 takes float32 instead. Default: float16 on an accelerator, float32
    on the CPU."""


@dataclass(kw_only=True)
class MakerSettings(FilterSettings, RenderSettings, DrawSettings, ModelSettings):
    """How the pairs of a triplet are made."""

    nsfw_check: str = "none"
    """"none", "safety_checker" (Stable Diffusion's), or module:function of your own, from a list of pictures, uint8
    arrays, to a list of bools, true for those that no pair may hold."""
    image_format: Literal["jpg", "png"] = "jpg"
    """Format of the pictures: JPEG of quality 95, or PNG, which loses nothing."""

    def __post_init__(self) -> None:
        for parent in (RenderSettings, DrawSettings, FilterSettings):
            parent.__post_init__(self)

    def row_settings(self) -> dict[str, Any]:
        """All that rows depend on, as JSON. Settings of a command that are not a maker's are none of it."""
        told = {each.name: getattr(self, each.name) for each in fields(MakerSettings) if each.name not in INDIFFERENT}
        least = thresholds(self)
        return told | {
            "p": list(self.p),
            "guidance": list(self.guidance),
            "min_caption_similarity": least.caption,
            "min_image_similarity": least.image,
            "min_directional_similarity": least.direction,
        }

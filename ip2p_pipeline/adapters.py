"""LoRA, textual inversion and IP-Adapter: diffusers' own loaders, from safetensors only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from diffusers.loaders import IPAdapterMixin, StableDiffusionXLLoraLoaderMixin, TextualInversionLoaderMixin
from safetensors import SafetensorError
from transformers import CLIPVisionModelWithProjection

from .loading import PICKLES, REFUSED


class AdapterMixin(
    TextualInversionLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,  # takes SD's LoRAs as well: they only name fewer parts
    IPAdapterMixin,
):
    """The adapters of a diffusers pipeline. Each loader raises ValueError for a pickle and for a damaged file."""

    image_encoder: Any
    register_modules: Any
    dtype: Any
    device: Any

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: Any, **kwargs: Any) -> Any:
        """As diffusers'. `load_lora_weights` reads its file with this."""
        source = pretrained_model_name_or_path_or_dict
        with safetensors_only(source, **kwargs):
            return super().lora_state_dict(source, **{**kwargs, "use_safetensors": True})

    @classmethod
    def load_lora_into_text_encoder(cls, *args: Any, text_encoder: Any, **kwargs: Any) -> None:
        """As diffusers', but silent about the second text encoder that SD does not have."""
        if text_encoder is not None:
            super().load_lora_into_text_encoder(*args, text_encoder=text_encoder, **kwargs)

    def load_textual_inversion(self, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> None:
        """As diffusers'."""
        source = pretrained_model_name_or_path
        with safetensors_only(source, **kwargs):
            super().load_textual_inversion(source, *args, **{**kwargs, "use_safetensors": True})

    def load_ip_adapter(
        self,
        pretrained_model_name_or_path_or_dict: Any,
        subfolder: str | list[str],
        weight_name: str | list[str],
        image_encoder_folder: str | None = "image_encoder",
        **kwargs: Any,
    ) -> None:
        """As diffusers'. The image encoder, where the pipeline has none, is read from safetensors too."""
        source = pretrained_model_name_or_path_or_dict
        with safetensors_only(source, weight_name):
            if self.image_encoder is None and image_encoder_folder is not None:
                self._load_image_encoder(as_list(source)[0], as_list(subfolder)[0], image_encoder_folder, kwargs)
            super().load_ip_adapter(source, subfolder, weight_name, image_encoder_folder, **kwargs)

    def _load_image_encoder(self, source: Any, subfolder: str, folder: str, kwargs: dict[str, Any]) -> None:
        """Where diffusers would look for it, which would take a pickle."""
        if isinstance(source, dict):
            raise ValueError("The pipeline has no image_encoder, and an adapter given as a dict brings none: pass one.")
        path = folder if "/" in folder else (PurePath(subfolder) / folder).as_posix()
        access = {k: kwargs[k] for k in ("cache_dir", "local_files_only", "revision", "token") if k in kwargs}
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            source, subfolder=path, dtype=self.dtype, use_safetensors=True, **access
        )
        self.register_modules(image_encoder=encoder.to(self.device))


@contextmanager
def safetensors_only(
    sources: Any, weight_name: Any = None, use_safetensors: bool | None = True, **_: Any
) -> Iterator[None]:
    """Raise ValueError for a pickle, by its name, and for a file that turns out not to be safetensors.

    sources, weight_name, use_safetensors: as a loader of diffusers was given them, the first two also as lists
    """
    if use_safetensors is False:
        raise ValueError("Weights are read from safetensors only: leave use_safetensors at True.")
    names = [] if weight_name is None else as_list(weight_name)
    for source in (*as_list(sources), *names):
        if isinstance(source, str | PurePath) and PurePath(source).suffix.lower() in PICKLES:
            raise ValueError(f"{source} is {REFUSED}")
    for name in names:
        if not name.endswith(".safetensors"):  # diffusers would take it for a pickle
            raise ValueError(f"weight_name is the name of a .safetensors file, not {name!r}.")
    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{weight_name or sources} is not a safetensors file, or is cut short: {error}.") from error


def as_list(value: Any) -> list[Any]:
    """What diffusers takes alone or as a list."""
    return value if isinstance(value, list) else [value]

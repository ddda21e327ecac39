"""LoRA, textual inversion and IP-Adapter, loaded by diffusers, from safetensors only."""

from pathlib import Path
from typing import Any

from .loading import PICKLES, REFUSED


class AdapterMixin:
    """Stands before diffusers' loaders, which would open a pickle."""

    def load_lora_weights(self, pretrained_model_name_or_path_or_dict: Any, *args: Any, **kwargs: Any) -> None:
        """As diffusers', from safetensors or a dict of tensors. Raises ValueError for a pickle."""
        refuse_pickles(pretrained_model_name_or_path_or_dict, kwargs)
        super().load_lora_weights(pretrained_model_name_or_path_or_dict, *args, **{**kwargs, **ONLY_SAFETENSORS})  # type: ignore[misc]

    def load_textual_inversion(self, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> None:
        """As diffusers', likewise."""
        refuse_pickles(pretrained_model_name_or_path, kwargs)
        super().load_textual_inversion(pretrained_model_name_or_path, *args, **{**kwargs, **ONLY_SAFETENSORS})  # type: ignore[misc]

    def load_ip_adapter(
        self, pretrained_model_name_or_path_or_dict: Any, subfolder: Any, weight_name: Any, *args: Any, **kwargs: Any
    ) -> None:
        """As diffusers', likewise."""
        refuse_pickles(pretrained_model_name_or_path_or_dict, {"weight_name": weight_name})
        super().load_ip_adapter(pretrained_model_name_or_path_or_dict, subfolder, weight_name, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def load_lora_into_text_encoder(cls, *args: Any, text_encoder: Any, **kwargs: Any) -> None:
        """As diffusers', but silent about the second text encoder that SD does not have."""
        if text_encoder is not None:
            super().load_lora_into_text_encoder(*args, text_encoder=text_encoder, **kwargs)  # type: ignore[misc]


ONLY_SAFETENSORS = {"use_safetensors": True}


def refuse_pickles(sources: Any, settings: dict[str, Any]) -> None:
    """Raise ValueError where a source, or the file's name in it, is a pickle's."""
    named = [sources, settings.get("weight_name")]
    for name in [each for one in named for each in (one if isinstance(one, list) else [one])]:
        if isinstance(name, str | Path) and Path(name).suffix in PICKLES:
            raise ValueError(f"{name} is {REFUSED}")

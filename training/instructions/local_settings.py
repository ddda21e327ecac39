"""The settings of the local language model and of its tuning. Nothing heavy is imported here, for `--help`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(kw_only=True)
class LocalModel:
    """Which language model, and where it runs."""

    model: str
    """A causal language model: a Hub id, a folder, or a .gguf file. Pickled weights are refused."""
    device: str | None = None
    """Where to compute, such as cuda, cuda:1, mps or cpu. Default: the accelerator, where there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision of the weights; a CPU without bfloat16 takes float32. Default: bfloat16 on an accelerator, float32 on
    the CPU."""


@dataclass(kw_only=True)
class LocalSettings(LocalModel):
    """Settings of triplets by a local language model that was tuned on the paper's format."""

    adapter: str | None = None
    """LoRA adapter in peft's format that makes the model complete captions: a folder or a Hub id. Default: none, for a
    model whose own weights were tuned."""
    temperature: float = 0.7
    """Above 0: how freely words are drawn (the paper's 0.7)."""
    max_new_tokens: int = 256
    """Tokens after which a completion is cut off (the paper's 256)."""
    batch_size: int = 16
    """Captions completed at a time."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"--temperature is above 0, not {self.temperature}.")
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}.")


@dataclass(kw_only=True)
class LocalTuneSettings(LocalModel):
    """Settings of the LoRA tuning of a local language model on seed triplets."""

    output: Path
    """Folder of the adapter, in peft's format. While the run goes on it is named OUTPUT.partial."""
    rank: int = 16
    """Rank of the adapter; its scale is twice that (alpha / rank = 2)."""
    dropout: float = 0.05
    """Dropout on the adapter's input, 0 up to but not 1."""
    epochs: int = 3
    """Times that each seed is seen."""
    batch_size: int = 8
    """Seeds an optimizer step."""
    learning_rate: float = 2e-4
    """Peak learning rate of AdamW: reached after `warmup` steps, then falling linearly to zero."""
    warmup: int = 10
    """Steps of linear warm-up."""
    save_every: int = 50
    """Steps between checkpoints, from which a killed run goes on."""
    seed: int = 0
    """Seed of the adapter's first weights, the order of the seeds and the dropout."""

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "batch_size", "warmup", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout is at least 0 and below 1, not {self.dropout}.")
        if self.learning_rate <= 0:
            raise ValueError(f"--learning-rate is above 0, not {self.learning_rate}.")

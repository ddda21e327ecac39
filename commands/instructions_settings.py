"""The settings of `ip2p dataset instructions` and `ip2p dataset tune`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..training.instructions.budget import Limits
from ..training.instructions.captions import CaptionSettings
from ..training.instructions.cleaning import CleaningSettings

LAION = "ChristophSchuhmann/improved_aesthetics_6.5plus"


@dataclass(kw_only=True)
class Model:
    """Which language model, and where it is."""

    model: str | None = None
    """The language model: its name at the service, or for the local backend a Hub id, a folder or a .gguf file."""
    base_url: str | None = None
    """Address of an OpenAI-compatible service, such as http://127.0.0.1:8080/v1. Default: OPENAI_BASE_URL, else
    OpenAI's own. The key is OPENAI_API_KEY in the environment."""
    timeout: float = 120.0
    """Seconds to wait for the service before it is asked again."""
    backoff: float = 1.0
    """Seconds before the second attempt at a request that failed; doubled for each further one, up to a minute."""
    device: str | None = None
    """Where the local model computes, such as cuda or cpu. Default: the accelerator, where there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision of the local model; a CPU without bfloat16 takes float32. Default: bfloat16 on an accelerator, float32
    on the CPU."""
    seeds: Path | None = None
    """JSONL of seed triplets written by hand, ours or as the InstructPix2Pix authors released theirs. Default: the 700
    inside this package."""
    seed: int = 0
    """Seed of everything drawn."""


@dataclass(kw_only=True)
class InstructionsSettings(Model, CaptionSettings, CleaningSettings, Limits):
    """Settings of `ip2p dataset instructions`."""

    backend: Literal["openai", "local", "shapes"] = "openai"
    """What makes the triplets: a hosted chat model, a language model on this machine, or the shapes world's grammar."""
    captions: str | None = None
    """A Parquet, CSV, TSV, JSON, JSONL or text file, a folder of these, or a dataset's Hub id. Default:
    LAION-Aesthetics 6.5+; for shapes the grammar's own captions."""
    output: str | None = None
    """Folder of the dataset; the same command goes on with what is there. Default: instructions-BACKEND here."""
    per_caption: int = 1
    """Triplets of each caption."""
    temperature: float = 0.7
    """Of sampling (the paper's 0.7)."""
    max_tokens: int = 256
    """Longest answer in tokens (the paper's 256)."""
    examples: int = 6
    """Seed triplets that each prompt to a hosted model shows. 0 for a model that was tuned on them."""
    concurrency: int = 8
    """Requests to the service in flight at most."""
    batch_api: bool = False
    """Ask by the service's Batch API: cheaper, and within a day."""
    moderation_model: str | None = None
    """A moderation model of the service, such as omni-moderation-latest, asked of what the other rules let pass.
    Default: the local word list only."""
    adapter: str | None = None
    """LoRA of the local model, as `ip2p dataset tune` makes it: a folder or a Hub id."""
    batch_size: int = 16
    """Captions that the local model completes at a time."""
    dry_run: bool = False
    """Only count requests and tokens and, given prices, the bill."""

    def __post_init__(self) -> None:
        for parent in (CaptionSettings, CleaningSettings, Limits):
            parent.__post_init__(self)
        if self.model is None and self.backend != "shapes":
            raise ValueError(f"The {self.backend} backend needs a language model: give --model.")
        if self.per_caption < 1:
            raise ValueError(f"--per-caption is at least 1, not {self.per_caption}.")


@dataclass(kw_only=True)
class TuneSettings(Model):
    """Settings of `ip2p dataset tune`."""

    backend: Literal["openai", "local"] = "local"
    """Where to tune: on this machine by LoRA, or at an OpenAI-compatible service."""
    output: str | None = None
    """Folder of the result, not there yet where it is made here; what was stopped goes on by the same command,
    and at a service its job is followed. Default: instructions-tuned here."""
    epochs: int | None = None
    """Times that each seed is seen. Default: 3 on this machine; what the service chooses."""
    rank: int = 16
    """Rank of the LoRA."""
    batch_size: int = 8
    """Seeds an optimizer step, on this machine."""
    learning_rate: float = 2e-4
    """Peak learning rate, on this machine."""
    suffix: str | None = None
    """Part of the tuned model's name at the service."""

    def __post_init__(self) -> None:
        if self.model is None:
            raise ValueError("Give --model: the language model to tune.")


@dataclass(kw_only=True)
class ShowSettings:
    """Settings of `ip2p dataset show`."""

    dataset: Path
    """Folder or Parquet file of the dataset."""
    sample: int = 8
    """Triplets to print."""
    seed: int = 0
    """Seed of the sample."""

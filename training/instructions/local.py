"""Triplets by a local language model: the paper's fine-tuned GPT-3, as a causal model of transformers and a LoRA."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig, LogitsProcessor

from ...ip2p_pipeline.devices import find_device, find_dtype
from ...ip2p_pipeline.errors import first_line
from ..files import stamp
from .answers import Answers
from .local_settings import LocalModel, LocalSettings
from .prompting import STOP, format_prompt, parse_completion
from .triplets import Parsed, Request, Tokens, missing

# What is fetched of a Hub repository: nothing pickled, no code, no second copy of the weights.
MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors"]
OTHER_FILES = ["*/*", "consolidated*"]


class LocalBackend:
    """Completes captions with a causal language model that was tuned on the paper's format.

    What a request draws depends on its seed only; its answer is the same in any batch, up to the rounding of the
    model's arithmetic, which may differ between batches.
    """

    def __init__(self, settings: LocalSettings, seed: int) -> None:
        """Raises ValueError or OSError where the adapter can't be found or is pickled."""
        self.chosen = settings
        self.seed = seed
        self.adapter = find_adapter(settings.adapter) if settings.adapter else None
        self.model = "+".join(short_name(name) for name in (settings.model, settings.adapter) if name)

    def settings(self) -> dict[str, Any]:
        """All that answers depend on; the adapter by its content, a model on this machine by when it was changed."""
        files = stamp(Path(self.chosen.model))
        return {
            "model": [self.chosen.model, files] if files else self.chosen.model,
            "adapter": self.adapter and hashlib.sha256((self.adapter / ADAPTER_FILES[1]).read_bytes()).hexdigest(),
            "temperature": self.chosen.temperature,
            "max_new_tokens": self.chosen.max_new_tokens,
            "seed": self.seed,
        }

    def estimate(self, request: Request) -> Tokens:
        """The prompt's tokens, and the most that are drawn."""
        return Tokens(len(self.tokenizer(format_prompt(request.caption.text)).input_ids), self.chosen.max_new_tokens)

    def answer(self, requests: Sequence[Request], answers: Answers) -> None:
        """Complete the captions, those of like length together. Raises ValueError where the model can't be loaded."""
        wanted = sorted(missing(requests, answers), key=lambda request: len(request.caption.text))
        for start in range(0, len(wanted), self.chosen.batch_size):
            batch = wanted[start : start + self.chosen.batch_size]
            texts = self.complete(batch)
            answers.add(*({"id": each.id, "text": text} for each, text in zip(batch, texts, strict=True)))

    def parse(self, request: Request, answer: dict[str, Any]) -> Parsed:
        """Instruction and edited caption: the paper's format names no kind. Raises BadAnswerError."""
        return Parsed(*parse_completion(answer["text"]))

    def complete(self, requests: Sequence[Request]) -> list[str]:
        """Completions of the requests' captions as they came, stop text included."""
        encoded = self.tokenizer(
            [format_prompt(request.caption.text) for request in requests], padding=True, return_tensors="pt"
        ).to(self.language_model.device)
        length = encoded.input_ids.shape[1]
        seeds = [request.seed(self.seed) for request in requests]
        try:
            tokens = self.language_model.generate(
                input_ids=encoded.input_ids,
                attention_mask=encoded.attention_mask,
                tokenizer=self.tokenizer,
                logits_processor=[SeededSampling(seeds, self.chosen.temperature, length, self.chosen.max_new_tokens)],
            )
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"There is too little memory for {len(requests)} captions at a time.") from error
        return self.tokenizer.batch_decode(tokens[:, length:], skip_special_tokens=True)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, which pads on the left."""
        return load_tokenizer(self.chosen.model)

    @cached_property
    def language_model(self) -> Any:
        """The model with the adapter merged in. What its files say of sampling is replaced."""
        model = load_model(self.chosen)
        if self.adapter:
            try:
                model = PeftModel.from_pretrained(model, self.adapter).merge_and_unload()
            except (ValueError, RuntimeError, SafetensorError) as error:
                raise ValueError(
                    f"The adapter {self.chosen.adapter} does not fit {self.chosen.model}: {first_line(error)}."
                ) from error
        model.generation_config = GenerationConfig(
            do_sample=False,  # of the scores that SeededSampling leaves
            max_new_tokens=self.chosen.max_new_tokens,
            stop_strings=[STOP],
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=model.generation_config.eos_token_id,
        )
        return model.eval()


class SeededSampling(LogitsProcessor):
    """Draws each sequence's tokens with random numbers of its own, whatever else is in the batch.

    One number a step, uniform in [0, 1), picks the token where the softmax's running sum passes it. Only that token
    keeps a finite score, so greedy search takes it.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, prompt_length: int, steps: int) -> None:
        self.temperature = temperature
        self.prompt_length = prompt_length
        self.draws = torch.stack([torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [N, vocabulary] with all but the drawn token at minus infinity."""
        draw = self.draws[:, input_ids.shape[1] - self.prompt_length, None].to(scores.device)
        sums = (scores.float() / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        tokens = torch.searchsorted(sums, draw * sums[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


def load_model(settings: LocalModel) -> Any:
    """A causal language model on its device. Raises ValueError, in a sentence, where it can't be had."""
    device = find_device(settings.device)
    dtype = find_dtype(settings.dtype, device, torch.bfloat16)
    folder, gguf = locate(settings.model)
    transformers.utils.logging.disable_progress_bar()
    if gguf:
        gguf["quantization_config"] = GgufConfig(dequantize=True)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, **gguf
        )
        model.name_or_path = settings.model  # which an adapter will name as its base, rather than the Hub's cache
        return model.to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"There is too little memory on {device} for {settings.model}.") from error
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ValueError(
            f"{settings.model} can't be loaded as a causal language model: {first_line(error)}."
        ) from error


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a model, padding on the left. Raises ValueError where there is none."""
    folder, gguf = locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False, **gguf)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"The tokenizer of {name} can't be loaded: {first_line(error)}.") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def locate(name: str) -> tuple[Path, dict[str, Any]]:
    """A model's folder, fetched where it is on the Hub, and for a .gguf file what else transformers loads it with.

    Raises ValueError for weights that are only there as a pickle.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".gguf":
        return path.parent, {"gguf_file": path.name}
    if path.is_file():
        raise ValueError(f"{name} is no .gguf file, the only file read as a language model.")
    folder = fetch(name, MODEL_FILES)
    if any(folder.glob("adapter_*")):  # transformers would load it too, even pickled
        raise ValueError(f"{name} is an adapter: name the model that it adapts, and {name} as its adapter.")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name} has no weights in safetensors. Pickled ones can run any code: they are not read.")
    return folder, {}


def find_adapter(name: str) -> Path:
    """The folder of an adapter, fetched where it is on the Hub. Raises ValueError where it has no safetensors."""
    folder = fetch(name, ADAPTER_FILES)
    for file in ADAPTER_FILES:
        if not (folder / file).is_file():
            raise ValueError(f"{name} is no LoRA adapter of peft in safetensors: it has no {file}.")
    return folder


def fetch(name: str, files: list[str]) -> Path:
    """A folder that is here, or these files of a Hub repository. Raises ValueError where there is neither."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=files, ignore_patterns=OTHER_FILES))
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} is no folder here and can't be had from the Hub: {first_line(error)}.") from error


def short_name(name: str) -> str:
    """A Hub id as it is, a folder or file by its own name."""
    return Path(name).resolve().name if Path(name).exists() else name

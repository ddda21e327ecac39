"""LoRA tuning of a local language model on seed triplets, in the paper's format (Brooks et al. 2023, section 3.1.1)."""

import json
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from .local import load_model, load_tokenizer
from .local_settings import LocalTuneSettings
from .prompting import format_completion, format_prompt
from .seeds import Seed
from .triplets import digest

IGNORED = -100  # the label that transformers leaves out of the loss
WHERE = ("output", "device", "save_every")  # settings that the adapter does not depend on


@dataclass(frozen=True)
class Example:
    """A seed in tokens: those of the prompt, which are given, and those of the completion, which are learned."""

    prompt: list[int]
    completion: list[int]


def tune(settings: LocalTuneSettings, training: Sequence[Seed], held_out: Sequence[Seed]) -> list[float]:
    """Tune a LoRA on the attention and MLP projections; write it, and tuning.json, to the folder `settings.output`.

    Returns the mean loss of a held-out completion's token, in nats: before, and after each epoch. Killed and started
    again, a run goes on from its last checkpoint and ends with the same adapter. Ctrl-C ends the step, writes a
    checkpoint and raises KeyboardInterrupt. Raises ValueError where the output exists, no seeds are held out, the model
    can't be loaded, or an unfinished run has other settings.
    """
    output = settings.output
    if output.exists():
        raise ValueError(f"{output} exists: name another folder for the adapter.")
    if not held_out:
        raise ValueError("No seeds are held out: there is nothing to judge the tuning by.")
    partial = output.with_name(output.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    run = {name: value for name, value in asdict(settings).items() if name not in WHERE}
    run["seeds"] = digest(json.dumps([asdict(seed) for seed in (*training, *held_out)]))

    tokenizer = load_tokenizer(settings.model)
    examples = [encode(seed, tokenizer) for seed in training]
    unseen = [encode(seed, tokenizer) for seed in held_out]
    model = add_lora(load_model(settings), settings)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=settings.learning_rate)
    checkpoint = Checkpoint(partial / "checkpoint.safetensors", run, parameters, optimizer)
    start, losses = checkpoint.load()
    losses = losses or [held_out_loss(model, unseen, settings.batch_size)]
    per_epoch = -(-len(examples) // settings.batch_size)
    steps = settings.epochs * per_epoch

    # Ctrl-C waits for the end of the step: a checkpoint from within one would not resume exactly.
    stop = threading.Event()
    earlier = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        bar = tqdm(range(start, steps), total=steps, initial=start, desc="tuning", unit="step")
        for step in bar:
            epoch, place = divmod(step, per_epoch)
            order = random.Random(f"{settings.seed}/{epoch}").sample(examples, len(examples))
            torch.manual_seed(settings.seed * 1_000_003 + step)  # of the dropout
            loss = completion_loss(model.train(), order[place * settings.batch_size :][: settings.batch_size])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step, steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if place == per_epoch - 1:
                losses.append(held_out_loss(model, unseen, settings.batch_size))
            bar.set_postfix(loss=f"{loss.item():.3f}", held_out=f"{losses[-1]:.3f}", refresh=False)
            if stop.is_set() or (step + 1) % settings.save_every == 0 or step == steps - 1:
                checkpoint.save(step + 1, losses)
            if stop.is_set():
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, earlier)

    model.save_pretrained(partial, save_embedding_layers=False)
    told = {"settings": run, "training_seeds": len(training), "held_out_seeds": len(held_out), "steps": steps}
    (partial / "tuning.json").write_text(json.dumps({**told, "held_out_losses": losses}, indent=2) + "\n")
    partial.rename(output)
    (output / checkpoint.path.name).unlink()
    return losses


def encode(seed: Seed, tokenizer: Any) -> Example:
    """A seed as the prompt and the completion that the model will see and give."""
    return Example(
        tokenizer(format_prompt(seed.original_prompt)).input_ids,
        tokenizer(format_completion(seed.edit_prompt, seed.edited_prompt), add_special_tokens=False).input_ids,
    )


def add_lora(model: Any, settings: LocalTuneSettings) -> Any:
    """The model, frozen, with a LoRA on all linear layers but the one that gives the words' scores."""
    torch.manual_seed(settings.seed)  # of its first weights
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        lora_dropout=settings.dropout,
    )
    return get_peft_model(model, config)


def learning_rate(settings: LocalTuneSettings, step: int, steps: int) -> float:
    """The learning rate at a step: linear warm-up, then linear decay to zero at the end."""
    fall = max(steps - settings.warmup, 1)
    return settings.learning_rate * min((step + 1) / settings.warmup, (steps - step) / fall, 1.0)


def completion_loss(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Mean cross-entropy of the completions' tokens, in nats."""
    ids = [torch.tensor(each.prompt + each.completion) for each in examples]
    labels = [torch.tensor([IGNORED] * len(each.prompt) + each.completion) for each in examples]
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    return model(
        input_ids=pad_sequence(ids, batch_first=True).to(model.device),
        attention_mask=mask.to(model.device),
        labels=pad_sequence(labels, batch_first=True, padding_value=IGNORED).to(model.device),
    ).loss


def held_out_loss(model: Any, examples: Sequence[Example], batch_size: int) -> float:
    """Mean cross-entropy over the tokens of all completions, in nats."""
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches(examples, batch_size):
            tokens = sum(len(each.completion) for each in batch)
            total += completion_loss(model, batch).item() * tokens
            count += tokens
    return total / count


def batches(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    """Parts of up to `size`."""
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


@dataclass(frozen=True)
class Checkpoint:
    """The file from which a killed run goes on: step, held-out losses, adapter and optimizer, as safetensors."""

    path: Path
    run: dict[str, Any]
    parameters: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer

    def save(self, step: int, losses: list[float]) -> None:
        """Write the file, whole or not at all."""
        tensors = {f"weight/{name}": p.detach().contiguous() for name, p in self.parameters.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{i}/{name}": value.contiguous() for name, value in state.items()}
        metadata = {"step": str(step), "losses": json.dumps(losses), "run": json.dumps(self.run)}
        aside = self.path.with_suffix(".aside")
        save_file(tensors, aside, metadata=metadata)
        aside.replace(self.path)

    def load(self) -> tuple[int, list[float]]:
        """Restore adapter and optimizer: (step to go on from, held-out losses so far); (0, []) where there is none."""
        if not self.path.exists():
            return 0, []
        states: dict[int, dict[str, torch.Tensor]] = {}
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata()
            if json.loads(metadata["run"]) != self.run:
                raise ValueError(f"{self.path.parent} is a run with other settings or seeds: finish or remove it.")
            for key in file.keys():  # noqa: SIM118 (a safetensors handle is no mapping)
                part, name, *rest = key.split("/")
                if part == "weight":
                    self.parameters[name].data.copy_(file.get_tensor(key))
                else:
                    states.setdefault(int(name), {})[rest[0]] = file.get_tensor(key)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        return int(metadata["step"]), json.loads(metadata["losses"])

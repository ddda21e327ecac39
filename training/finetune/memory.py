"""How much memory a training takes, by component, from the model's configuration alone: nothing is computed."""

import weakref
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, CLIPTextModel

from ..shapes.models import SHAPES_BASE
from .settings import FinetuneSettings
from .trainee import choose

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
TOKENS = 77
MOMENTS = {"adamw": 8, "adamw8bit": 2, "muon": 4}  # bytes a weight; of Muon's nearly all are in matrices


def account(settings: FinetuneSettings) -> dict[str, int]:
    """Bytes on the device of one process, by component, while it trains. What the framework itself takes, about half
    a gigabyte on a GPU, is not in it.

    Raises ValueError or OSError where the model's configuration can't be had.
    """
    where = str(SHAPES_BASE) if settings.model == "shapes" else settings.model
    if where.endswith(".safetensors"):
        raise ValueError(
            "The memory is accounted for by a folder's or a Hub repository's configuration, not by a file's."
        )
    config = UNet2DConditionModel.load_config(where, subfolder="unet")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**config, "in_channels": 8})
    unet.enable_gradient_checkpointing = lambda: None  # it is accounted for below
    half = HALF.get(settings.mixed_precision or "no")
    pipe = SimpleNamespace(unet=unet, is_xl=config.get("addition_embed_type") == "text_time", text_encoder=None)
    choose(pipe, FinetuneSettings(**{**vars_of(settings), "train_text_encoder": False}), half or torch.float32)
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    frozen = sum(p.numel() * p.element_size() for p in unet.parameters() if not p.requires_grad)
    vae = AutoencoderKL.load_config(settings.vae or where, **({"subfolder": "vae"} if settings.vae is None else {}))
    side = settings.resolution // 2 ** (len(vae["block_out_channels"]) - 1)
    encoders = encoder_weights(where, vae, pipe.is_xl)
    if settings.train_text_encoder:
        trained += encoders.pop("text encoder")
    small = 2 if half else 4
    found = {
        "trained weights": 4 * trained,
        "frozen weights of the U-Net": frozen,
        "their copies in half precision": 2 * trained if half else 0,
        "gradients": 4 * trained,
        "moments of the optimizer": MOMENTS[settings.optimizer] * trained,
        "average of the weights": 4 * trained if settings.ema_decay and not settings.ema_on_cpu else 0,
        "activations": activations(unet, settings, side, half or torch.float32),
        **{name: small * count for name, count in encoders.items() if not settings.cache},
    }
    return {name: count for name, count in found.items() if count}


def vars_of(settings: FinetuneSettings) -> dict[str, Any]:
    """The settings of a fine-tuning, without those of a command."""
    return {name: getattr(settings, name) for name in FinetuneSettings.__dataclass_fields__}


def encoder_weights(where: str, vae: Any, is_xl: bool) -> Counter[str]:
    """How many weights the autoencoder of this configuration and the text encoders have."""
    counts: Counter[str] = Counter()
    with torch.device("meta"):
        counts["autoencoder"] = sum(p.numel() for p in AutoencoderKL.from_config(vae).parameters())
    for name in ("text_encoder", "text_encoder_2") if is_xl else ("text_encoder",):
        config = AutoConfig.from_pretrained(where, subfolder=name)
        with torch.device("meta"):
            counts["text encoder"] += sum(p.numel() for p in CLIPTextModel(config).parameters())
    return counts


def activations(unet: Any, settings: FinetuneSettings, side: int, dtype: torch.dtype) -> int:
    """Bytes that the U-Net's forward pass keeps for the backward pass, at most, attention being fused.

    side: of the latents

    With gradient checkpointing these are the inputs of all blocks and the inside of one.
    """
    count = settings.batch_size
    kept = Kept(unet)
    blocks: list[int] = []

    def checkpointed(block: Callable[..., Any], *inputs: Any) -> Any:
        """A block that keeps its inputs only; what it would keep while it is computed again is noted."""
        inside = Kept(unet)
        with inside.hooks():
            made = block(*inputs)
        blocks.append(inside.most)
        for each in inputs:
            if isinstance(each, Tensor):
                kept.keep(each)
        if isinstance(made, tuple):
            return tuple(each.detach().requires_grad_() if isinstance(each, Tensor) else each for each in made)
        return made.detach().requires_grad_()

    if settings.gradient_checkpointing:
        UNet2DConditionModel.enable_gradient_checkpointing(unet, checkpointed)
    width = unet.config.cross_attention_dim
    added = None
    if unet.config.addition_embed_type == "text_time":
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        added = {"text_embeds": empty(count, pooled, dtype=dtype), "time_ids": empty(count, 6, dtype=dtype)}
    if dtype != torch.float32:
        unet.to(dtype)
    with kept.hooks(), FusedAttention():
        unet(
            empty(count, 8, side, side, dtype=dtype),
            empty(count, dtype=torch.long),
            empty(count, TOKENS, width, dtype=dtype),
            added_cond_kwargs=added,
        )
        return kept.most + max(blocks, default=0)


def empty(*shape: int, dtype: torch.dtype) -> Tensor:
    """A tensor without contents."""
    return torch.zeros(shape, device="meta", dtype=dtype)


class Box:
    """Something that is kept."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Kept:
    """Counts the bytes that are kept for a backward pass; weights are not counted, nor is anything twice."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.weights = {p.untyped_storage()._cdata for p in model.parameters()}
        self.users: Counter[int] = Counter()
        self.bytes = self.most = 0
        self.held: list[Tensor] = []

    def hooks(self) -> saved_tensors_hooks:
        """Within it, what is saved is counted."""

        def pack(tensor: Tensor) -> Box:
            box = Box(tensor)
            self.count(tensor, box)
            return box

        return saved_tensors_hooks(pack, lambda box: box.tensor)

    def keep(self, tensor: Tensor) -> None:
        """Count a tensor for good."""
        self.held.append(tensor)
        self.count(tensor, tensor)

    def count(self, tensor: Tensor, owner: Any) -> None:
        """Count a tensor as long as its owner lives."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.weights:
            return
        self.users[key] += 1
        if self.users[key] == 1:
            self.bytes += size
            self.most = max(self.most, self.bytes)
        weakref.finalize(owner, self.release, key, size)

    def release(self, key: int, size: int) -> None:
        """An owner is gone."""
        self.users[key] -= 1
        if not self.users[key]:
            self.bytes -= size


class FusedAttention(TorchFunctionMode):
    """Within it, attention keeps what a fused kernel keeps: never the table of every query and key."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            return Fused.apply(*args[:3])
        return function(*args, **(kwargs or {}))


class Fused(torch.autograd.Function):
    """Attention's shapes."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keeps queries, keys, values and the result."""
        made = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, made)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Never called: only what is kept counts."""
        raise NotImplementedError

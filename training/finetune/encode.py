"""Pictures and texts as the U-Net reads them."""

import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...ip2p_pipeline.latents import float32_where_needed
from ...ip2p_pipeline.text import Text

KNOWN = 2**16
PARTS = ("vae", "text_encoder", "text_encoder_2")


class Latents(NamedTuple):
    """Unscaled latents of N pairs, each [N, 4, h/8, w/8].

    mean, std: of the picture after, of which a sample is the target
    mode:      of the picture before, the condition
    """

    mean: Tensor
    std: Tensor
    mode: Tensor


class Encoder:
    """A pipeline's autoencoder and text encoders, frozen."""

    def __init__(self, pipe: Any, device: torch.device, dtype: torch.dtype, train_text_encoder: bool = False) -> None:
        """
        dtype:              what they compute in
        train_text_encoder: leave it as it is
        """
        self.pipe, self.device, self.dtype = pipe, device, dtype
        self.known: dict[str, Tensor] = {}  # token ids of texts: tokenizing takes as long as a small model's step
        for name in ("vae",) if train_text_encoder else PARTS:
            part = getattr(pipe, name)
            if part is not None:
                part.requires_grad_(False).eval().to(device)
                if part.dtype != dtype:
                    part.to(dtype)
        if getattr(pipe, "vae", None) is not None:
            pipe.vae.encoder.to(memory_format=torch.channels_last)  # a fifth faster on CPUs

    def free(self) -> None:
        """Let go of all that encodes."""
        for name in PARTS:
            setattr(self.pipe, name, None)

    def free_decoder(self) -> None:
        """Let go of what makes pictures of latents."""
        self.pipe.vae.decoder = self.pipe.vae.post_quant_conv = None
        for parameter in self.pipe.vae.parameters():
            parameter.data = parameter.data.clone()  # what is mapped of their file stays while one of them is there

    @torch.no_grad()
    def pictures(self, before: Tensor, after: Tensor) -> Latents:
        """Encode pictures [N, 3, h, w] in 0…1."""
        vae = self.pipe.vae
        with float32_where_needed(vae, self.pipe.is_xl):
            target, source = (
                vae.encode((2 * each - 1).to(self.device, vae.dtype, memory_format=torch.channels_last)).latent_dist
                for each in (after, before)
            )
        return Latents(target.mean.float(), target.std.float(), source.mode().float())

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Text:
        """Encode instructions; "" is ∅, as the pipeline has it: for SDXL zeros, pooled ones too."""
        full = self.pipe.encode_prompt(texts, device=self.device)
        if self.pipe.is_xl and self.pipe.config.force_zeros_for_empty_prompt:
            told = torch.tensor([bool(text) for text in texts], device=self.device)
            full = Text(full.embeds * told.view(-1, 1, 1), full.pooled * told.view(-1, 1))
        return full

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids [N, length] of instructions, for a text encoder that is trained."""
        if len(self.known) > KNOWN:  # a stream has new ones without end
            self.known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            tokenizer = self.pipe.tokenizer
            length = tokenizer.model_max_length
            ids = tokenizer(
                new, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            ).input_ids
            self.known |= zip(new, ids, strict=True)
        return torch.stack([self.known[text] for text in texts])


def fingerprint(*modules: nn.Module | None) -> str:
    """A name for what encodes: sixteen hexadecimal digits of its weights' hash."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items() if module is not None else ():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

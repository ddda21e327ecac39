"""What the U-Net reads besides the noisy latent, put together for the branches that a step computes."""

from typing import Any

import torch
from torch import Tensor

ORDER = ("full", "image", "uncond")  # as in diffusers' stock pipelines, whose callbacks see the three concatenated


class Conditions:
    """The conditions of B rows.

    prompt_embeds:   each branch's text embeddings, [B, tokens, width]; of a distilled U-Net, the full branch's alone
    image_latents:   the condition latents, [B, 4, h, w]; the uncond branch sees zeros
    pooled:          each branch's pooled text, [B, width], for SDXL; empty for SD
    time_ids:        SDXL's sizes, [B, 6]
    image_prompts:   each IP-Adapter's embeddings of each branch, [B, pictures, …]
    """

    def __init__(
        self,
        prompt_embeds: dict[str, Tensor],
        image_latents: Tensor,
        pooled: dict[str, Tensor],
        time_ids: Tensor,
        image_prompts: list[dict[str, Tensor]],
    ) -> None:
        self._embeds = prompt_embeds
        self._latents = {"full": image_latents, "image": image_latents, "uncond": torch.zeros_like(image_latents)}
        self._pooled, self._time_ids, self._image_prompts = pooled, time_ids, image_prompts
        self._batches: dict[tuple[str, ...], tuple[Tensor, Tensor, dict[str, Any] | None]] = {}

    def batch(self, branches: tuple[str, ...]) -> tuple[Tensor, Tensor, dict[str, Any] | None]:
        """(image_latents, prompt_embeds, added_cond_kwargs) of these branches, one after the other.

        Branches change only where an interval begins or ends, so each combination is put together once.
        """
        if branches not in self._batches:
            added: dict[str, Any] = {}
            if self._pooled:
                added["text_embeds"] = torch.cat([self._pooled[b] for b in branches])
                added["time_ids"] = self._time_ids.repeat(len(branches), 1)
            if self._image_prompts:
                added["image_embeds"] = [torch.cat([adapter[b] for b in branches]) for adapter in self._image_prompts]
            latents, embeds = (torch.cat([part[b] for b in branches]) for part in (self._latents, self._embeds))
            self._batches[branches] = latents, embeds, added or None
        return self._batches[branches]

    def tensors(self) -> dict[str, Tensor]:
        """What a callback may see and replace, the branches that there are concatenated."""
        image_latents, prompt_embeds, _ = self.batch(self._known())
        return {"image_latents": image_latents, "prompt_embeds": prompt_embeds}

    def replace(self, **tensors: Tensor) -> None:
        """Take over what a callback gives back, of the same shapes as `tensors()`."""
        for name, part in (("image_latents", self._latents), ("prompt_embeds", self._embeds)):
            if name in tensors:
                part.update(zip(self._known(), tensors[name].chunk(len(self._known())), strict=True))
        self._batches.clear()

    def _known(self) -> tuple[str, ...]:
        """The branches that have a text."""
        return tuple(branch for branch in ORDER if branch in self._embeds)

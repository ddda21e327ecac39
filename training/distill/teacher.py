"""The teacher: the guided prediction of an editor, at scales that differ from example to example."""

from typing import Any

import torch
from torch import Tensor

from ...ip2p_pipeline.distilled import is_distilled, scale_embedding
from ...ip2p_pipeline.text import Text
from ..finetune.batches import Batch


class Teacher:
    """A frozen U-Net of 8 channels, of three branches or distilled into one."""

    def __init__(self, unet: Any, empty: Text, device: torch.device, dtype: torch.dtype) -> None:
        """
        empty: the embeddings of ∅, one row
        dtype: what it computes in
        """
        self.unet = unet.requires_grad_(False).eval().to(device)
        if device.type == "cuda":
            unet.to(memory_format=torch.channels_last)
        if unet.dtype != dtype:
            unet.to(dtype)
        self.empty = Text(empty.embeds.to(device), None if empty.pooled is None else empty.pooled.to(device))

    @torch.no_grad()
    def __call__(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The guided prediction [N, 4, h, w] for noisy latents under a batch's conditions, at its scales."""
        assert batch.scales is not None
        s_text, s_image = batch.scales.unbind(1)
        if is_distilled(self.unet):
            scales = scale_embedding(self.unet, s_text, s_image, noisy.to(self.unet.dtype))
            return self._predict(noisy, batch.condition, batch.text, batch.pooled, batch, timestep_cond=scales)
        count = len(noisy)
        empty = self.empty.embeds.expand(count, -1, -1)
        pooled = None
        if batch.pooled is not None and self.empty.pooled is not None:
            pooled = torch.cat([batch.pooled, *[self.empty.pooled.expand(count, -1)] * 2])
        full, image, uncond = self._predict(
            noisy.repeat(3, 1, 1, 1),
            torch.cat([batch.condition, batch.condition, torch.zeros_like(batch.condition)]),
            torch.cat([batch.text, empty, empty]),
            pooled,
            batch,
        ).chunk(3)
        s_text, s_image = (scale.view(-1, 1, 1, 1) for scale in (s_text, s_image))
        return uncond + s_image * (image - uncond) + s_text * (full - image)

    def _predict(
        self, noisy: Tensor, condition: Tensor, text: Tensor, pooled: Tensor | None, batch: Batch, **more: Any
    ) -> Tensor:
        """What the U-Net predicts for one or several branches of a batch, in float32."""
        dtype, branches = self.unet.dtype, len(noisy) // len(batch.timesteps)
        added = None
        if pooled is not None:
            added = {"text_embeds": pooled.to(dtype), "time_ids": batch.time_ids.repeat(branches, 1)}
        inputs = torch.cat([noisy, condition], dim=1).to(dtype)
        timesteps = batch.timesteps.repeat(branches)
        return self.unet(inputs, timesteps, text.to(dtype), added_cond_kwargs=added, **more).sample.float()

"""What is trained: the U-Net, parts of it or a LoRA, and maybe the text encoder; and the loss."""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import cast_training_params, compute_snr
from peft import LoraConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...ip2p_pipeline.distilled import scale_embedding
from .batches import Batch
from .settings import FinetuneSettings

ADAPTER = "default"
LORA_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv_in"]


class AttentionInFloat32(TorchFunctionMode):
    """Within it, attention is computed in float32. On CPUs the gradient of its 16-bit form takes many times as long."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if function is not F.scaled_dot_product_attention:
            return function(*args, **options)
        with torch.autocast("cpu", enabled=False):
            return function(*(each.float() for each in args[:3]), *args[3:], **options).to(args[0].dtype)


class Trainee(nn.Module):
    """A U-Net of 8 channels, with its text encoder where that is trained."""

    def __init__(self, unet: Any, text_encoder: Any | None) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The prediction [N, 4, h, w] for noisy latents under a batch's conditions."""
        # What checkpointing computes again must be what was computed, and that is done outside of here.
        half = torch.is_autocast_enabled("cpu") and not self.unet.is_gradient_checkpointing
        with AttentionInFloat32() if half else nullcontext():
            return self._predict(noisy, batch)

    def _predict(self, noisy: Tensor, batch: Batch) -> Tensor:
        text = batch.text if self.text_encoder is None else self.text_encoder(batch.text).last_hidden_state
        inputs = torch.cat([noisy, batch.condition], dim=1)
        if not torch.is_autocast_enabled(noisy.device.type):  # DeepSpeed makes the weights 16 bits wide instead
            inputs, text = inputs.to(self.unet.dtype), text.to(self.unet.dtype)
        scales = None
        if batch.scales is not None:
            scales = scale_embedding(self.unet, batch.scales[:, 0], batch.scales[:, 1], inputs)
        added = batch.added()
        return self.unet(inputs, batch.timesteps, text, timestep_cond=scales, added_cond_kwargs=added).sample


def choose(pipe: Any, settings: FinetuneSettings, dtype: torch.dtype = torch.float32) -> Trainee:
    """Make a pipeline's U-Net, what the settings say of it, and maybe the text encoder trainable.

    dtype: what is computed in. Weights that are trained stay float32; those under a LoRA become this

    Raises ValueError for layers that are not there.
    """
    unet = pipe.unet.requires_grad_(settings.train == "full").train()
    if settings.train == "layers":
        for part in settings.layers or []:
            found = [parameter for name, parameter in unet.named_parameters() if part in name]
            if not found:
                raise ValueError(f"--layers {part} is in the name of no layer of the U-Net.")
            for parameter in found:
                parameter.requires_grad_(True)
    if settings.train == "lora":
        unet.to(dtype)
        add_lora(unet, settings)
        cast_training_params(unet, torch.float32)
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if settings.train_text_encoder and pipe.is_xl:
        raise ValueError("--train-text-encoder is for models with one text encoder, not for SDXL.")
    return Trainee(unet, pipe.text_encoder.requires_grad_(True).train() if settings.train_text_encoder else None)


def add_lora(unet: Any, settings: FinetuneSettings) -> None:
    """Give a U-Net a LoRA (Hu et al. 2021, arXiv 2106.09685) of scale 1, which changes nothing yet.

    conv_in, which reads the source, has few inputs: its rank is theirs, so that it can become anything. So can what
    reads the scales of a distilled model.
    """
    conv, scales = unet.conv_in, unet.time_embedding.cond_proj
    ranks = {"conv_in": conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1]}
    if scales is not None:
        ranks["cond_proj"] = scales.out_features
    layers = settings.lora_layers or LORA_LAYERS
    try:
        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_rank,
            rank_pattern=ranks,
            alpha_pattern=ranks,
            target_modules=layers,
        )
        unet.add_adapter(config, adapter_name=ADAPTER)
    except ValueError as error:
        raise ValueError(f"--lora-layers {' '.join(layers)} are no layers of the U-Net ({error}).") from error


class Loss:
    """The loss of a diffusion model under a pipeline's noise schedule."""

    def __init__(self, scheduler_config: Any, settings: FinetuneSettings, device: torch.device) -> None:
        self.schedule = DDPMScheduler.from_config(scheduler_config)
        self.schedule.alphas_cumprod = self.schedule.alphas_cumprod.to(device)
        self.prediction_type: str = self.schedule.config.prediction_type
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"The model predicts {self.prediction_type!r}, which is not trained here: epsilon and v_prediction are."
            )
        self.gamma = settings.min_snr_gamma

    @property
    def timesteps(self) -> int:
        """Of the schedule."""
        return self.schedule.config.num_train_timesteps

    def __call__(self, trainee: nn.Module, batch: Batch) -> Tensor:
        """Squared error of the prediction of noise, or of velocity (Salimans and Ho 2022), of each example: [N]."""
        noisy = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = batch.noise
        if self.prediction_type == "v_prediction":
            target = self.schedule.get_velocity(batch.latents, batch.noise, batch.timesteps)
        error = (trainee(noisy, batch).float() - target).square().mean(dim=(1, 2, 3))
        return error if self.gamma is None else error * self._snr_weight(batch.timesteps, self.gamma)

    def _snr_weight(self, timesteps: Tensor, gamma: float) -> Tensor:
        """min-SNR's weight (Hang et al. 2023, arXiv 2303.09556, section 3.4), in terms of what is predicted."""
        snr = compute_snr(self.schedule, timesteps)
        if self.prediction_type == "v_prediction":
            return snr.clamp(max=gamma) / (snr + 1)
        return snr.clamp(max=gamma) / snr.clamp(min=1e-8)

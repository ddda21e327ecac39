"""What a student learns from its teacher: the guided prediction, or the same answer all along a path of its."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..finetune.batches import Batch
from ..finetune.settings import FinetuneSettings
from ..finetune.trainee import Loss
from .teacher import Teacher


class GuidanceLoss(Loss):
    """Squared error to the guided prediction (Meng et al. 2023, arXiv 2210.03142, section 3.1)."""

    def __init__(self, scheduler_config: Any, settings: FinetuneSettings, device: torch.device, teacher: Teacher):
        super().__init__(scheduler_config, settings, device)
        self.teacher = teacher

    def __call__(self, trainee: nn.Module, batch: Batch) -> Tensor:
        """Of each example: [N]."""
        noisy = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = self.teacher(noisy, batch)
        return (trainee(noisy, batch).float() - target).square().mean(dim=(1, 2, 3))


class ConsistencyLoss(Loss):
    """Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378, algorithm 1, with skipping steps).

    The student's picture x̂0 at the noisy end of a segment of the schedule shall be its picture at the other end, where
    DDIM steps of the teacher lead; at the end of all noise it is the teacher's. The target is the student itself, not
    its average, and the distance a pseudo-Huber one (Song and Dhariwal 2023, arXiv 2310.14189, sections 3.2 and 3.3).
    Few segments of several steps are those of Heek et al. 2024 (arXiv 2403.06807).
    """

    def __init__(
        self,
        scheduler_config: Any,
        settings: FinetuneSettings,
        device: torch.device,
        teacher: Teacher,
        segments: int,
        teacher_steps: int,
        huber_c: float,
    ) -> None:
        """
        segments:      that the schedule is divided into
        teacher_steps: the teacher's, across each

        Raises ValueError where the schedule has no such steps.
        """
        super().__init__(scheduler_config, settings, device)
        if self.timesteps % (segments * teacher_steps):
            raise ValueError(
                f"--segments times --teacher-steps divides the schedule's {self.timesteps:,} timesteps, which "
                f"{segments} times {teacher_steps} does not."
            )
        self.teacher, self.teacher_steps, self.huber_c = teacher, teacher_steps, huber_c
        self.skip = self.timesteps // segments

    def __call__(self, trainee: nn.Module, batch: Batch) -> Tensor:
        """Of each example, at the segment that its timestep falls into: [N]."""
        end = batch.timesteps // self.skip * self.skip - 1  # -1 is without noise
        begin = end + self.skip
        noisy = self.schedule.add_noise(batch.latents, batch.noise, begin)
        with torch.no_grad():
            earlier, at = noisy, begin
            for _ in range(self.teacher_steps):
                x0, noise = self.parts(earlier, self.teacher(earlier, replace(batch, timesteps=at)), at)
                at = at - self.skip // self.teacher_steps
                signal, sigma = self.levels(at)
                earlier = signal * x0 + sigma * noise
            at_end = replace(batch, timesteps=end.clamp(min=0))
            answer, _ = self.parts(earlier, trainee(earlier, at_end).float(), end)
            target = torch.where((end < 0).view(-1, 1, 1, 1), earlier, answer)
        found, _ = self.parts(noisy, trainee(noisy, replace(batch, timesteps=begin)).float(), begin)
        error = (found - target).square().add(self.huber_c**2).sqrt() - self.huber_c
        return error.mean(dim=(1, 2, 3))

    def levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of x = α·x0 + σ·ε at timesteps, each [N, 1, 1, 1]; of -1 they are 1 and 0."""
        alphas = self.schedule.alphas_cumprod[timesteps.clamp(min=0)]
        alphas = torch.where(timesteps < 0, torch.ones_like(alphas), alphas).view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def parts(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """The picture x0 and the noise ε that a prediction takes noisy latents for."""
        signal, sigma = self.levels(timesteps)
        if self.prediction_type == "v_prediction":
            return signal * noisy - sigma * prediction, sigma * noisy + signal * prediction
        return (noisy - sigma * prediction) / signal, prediction

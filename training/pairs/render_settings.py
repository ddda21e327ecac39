"""How pairs are rendered. Nothing heavy is imported here."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True)
class RenderSettings:
    """Method, sampler and size of the pictures of a pair."""

    method: Literal["paper", "full", "none"] = "paper"
    """"paper": self-attention of the source, as InstructPix2Pix did; "full": Prompt-to-Prompt as published, for edits
    that add words or change the caption's length; "none": two independent pictures of one seed."""
    paper_kinds: list[str] | None = None
    """Kinds of triplets to draw by "paper" whatever the method, as --method full --paper-kinds swap move: what "full"
    takes from the source holds each thing in its place."""
    steps: int = 100
    """Denoising steps (the original's 100)."""
    sampler: Literal["euler_ancestral", "euler"] = "euler_ancestral"
    """The original's, with one noise a step for both pictures; or the deterministic one."""
    sigmas: Literal["uniform", "karras"] = "uniform"
    """Noise levels: uniform in timestep, as the original code's, or Karras et al.'s, as the paper says."""
    resolution: int | None = None
    """Side of the pictures in pixels. Default: what the model was trained at."""
    batch_size: int = 16
    """Samples that the U-Net evaluates at a time, at most; "full" takes a whole seed at a time."""
    cross_replace_steps: float = 0.8
    """"full": share of the steps with the source's cross-attention."""
    self_resolution: int = 32
    """"full": self-attention is the source's where the map has at most that many tokens on a side."""
    local_blend: bool = False
    """"full": leave as in the source what the changed words don't attend to."""
    changed_word_weight: float = 1.0
    """"full": how much the attention to words new in the edited caption is multiplied by."""

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"--steps is at least 2, not {self.steps}: Prompt-to-Prompt takes its share of them.")
        if self.self_resolution < 1:
            raise ValueError(f"--self-resolution is at least 1, not {self.self_resolution}.")
        if self.batch_size < 4:
            raise ValueError(f"--batch-size is at least 4, two pictures under two prompts, not {self.batch_size}.")
        if self.resolution is not None and (self.resolution < 8 or self.resolution % 8):
            raise ValueError(f"--resolution is a multiple of 8, not {self.resolution}.")
        if not 0 <= self.cross_replace_steps <= 1:
            raise ValueError(f"--cross-replace-steps is a share from 0 to 1, not {self.cross_replace_steps}.")
        if self.changed_word_weight < 0:
            raise ValueError(f"--changed-word-weight is at least 0, not {self.changed_word_weight}.")

"""The settings of demo, edit and grid. Nothing heavy is imported here, so that `--help` and mistakes answer at once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SchedulerName = Literal["ddim", "dpmpp_2m", "euler", "euler_ancestral", "heun", "lcm", "uni_pc"]


@dataclass(kw_only=True)
class DemoSettings:
    """Settings of `ip2p demo`."""

    output: str | None = None
    """Where the contact sheet goes. Default: ip2p-demo.png here, with a number where that exists."""
    seed: int = 0
    """Seed of the scenes, the edits and the noise."""
    overwrite: bool = False
    """Replace an existing file."""


@dataclass(kw_only=True)
class Editing:
    """What the commands that edit a picture have in common."""

    image: Path | list[Path]
    """The picture to edit."""
    instruction: str
    """What to change, as a sentence: "make it winter"."""
    output: str | None = None
    """The file to write. Default: a new one beside the picture."""
    model: str = "timbrooks/instruct-pix2pix"
    """"shapes" or "shapes-few" (small models inside this package), a Hub id, a diffusers folder or a .safetensors
    file."""
    guidance_scale: float | list[float] | None = None
    """How much the instruction counts (s_T). Default: what the model recommends, else 7.5 (SDXL 5)."""
    image_guidance_scale: float | list[float] | None = None
    """How much the input picture counts (s_I). Default: what the model recommends, else 1.5."""
    steps: int | None = None
    """Denoising steps. Default: what the model recommends, else 100."""
    seed: int | None = None
    """Seed of the noise. Default: random; it is printed, and stored in the result."""
    strength: float = 1.0
    """Above 0, at most 1: the share of the steps that are run, beginning from the noised input; less changes less."""
    negative_prompt: str | None = None
    """What the result should not show."""
    resolution: int | None = None
    """Longest side in pixels at which the model works; the result has the picture's own size in any case. Default: what
    the model was trained at."""
    scheduler: SchedulerName | None = None
    """Sampler. Default: the model's own."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Fractions of the run between which guidance_scale holds; outside it is 1."""
    image_guidance_interval: tuple[float, float] = (0.0, 1.0)
    """Likewise for image_guidance_scale."""
    guidance_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How both scales go over the run."""
    guidance_rescale: float = 0.0
    """0 to 1: takes back the contrast that high scales add (Lin et al. 2023)."""
    adaptive_projection: bool = False
    """Project the guidance, against the oversaturation of high scales (Sadat et al. 2024)."""
    adaptive_stop: float | None = None
    """Above 0 and below 1, such as 0.99: end each guidance where its two predictions are that alike, which saves U-Net
    evaluations (Castillo et al. 2023). Default: never."""
    relevance_mask: bool = False
    """Edit only where the model finds the instruction relevant; elsewhere the input's pixels stay (after Mirzaei et al.
    2023)."""
    relevance_threshold: float | None = None
    """For --relevance-mask, from how much change on, above 0; less edits more of the picture. Default: 0.25."""
    device: str | None = None
    """Where to compute, such as cuda, cuda:1, mps or cpu. Default: the accelerator, where there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Precision; a CPU without bfloat16 takes float32 instead. Default: float16 on an accelerator, float32 on the
    CPU."""
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError('The instruction is empty: say what to change, such as "make it winter".')
        if os.path.exists(self.instruction):  # noqa: PTH110 - Path's raises where the text is too long for a name
            kind = "folder" if os.path.isdir(self.instruction) else "file"  # noqa: PTH112
            raise ValueError(f"The last argument is the instruction, but {self.instruction} is a {kind}: add one.")
        for name in ("instruction", "negative_prompt"):
            text = getattr(self, name) or ""
            if text != text.encode(errors="ignore").decode():
                raise ValueError(f"The {name.replace('_', ' ')} is not text in UTF-8: {text!a}.")
        for name in ("steps", "resolution", "num_images", "batch_size"):
            value = getattr(self, name, None)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {value}.")
        if self.relevance_threshold is not None and not self.relevance_mask:
            raise ValueError("--relevance-threshold is for the relevance mask: give --relevance-mask too.")
        if self.relevance_threshold is not None and not 0 < self.relevance_threshold < float("inf"):
            raise ValueError(f"--relevance-threshold is finite and above 0, not {self.relevance_threshold}.")
        if not 0 < self.strength <= 1:
            raise ValueError(f"--strength is above 0 and at most 1, not {self.strength}.")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed is at least 0 and below 2^63, not {self.seed}.")


@dataclass(kw_only=True)
class EditSettings(Editing):
    """Settings of `ip2p edit`."""

    image: list[Path]
    """Pictures to edit, or folders of them."""
    output: str | None = None
    """A .png, .jpg or .webp file for a single result, else a folder. Default: NAME-edited.png beside each picture, and
    for a folder of pictures the folder FOLDER-edited beside it. A number is added to names that are taken; a file named
    here that exists is an error."""
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    mask: Path | None = None
    """Picture of the same size, white where the edit may happen; elsewhere the input's pixels stay."""
    mask_feather: float = 0.0
    """Pixels over which the mask's edge softens inwards."""
    num_images: int = 1
    """Variants of each picture, with the seeds SEED, SEED+1, …"""
    best_of: int | None = None
    """Make so many edits of each picture, with other seeds and other scales about those asked for, and write the best,
    or with --num-images the best few: CLIP ranks those that are still the same picture by whether it changed as the
    captions do."""
    original_prompt: str | None = None
    """For --best-of, a caption of the picture: "a street in summer". Default: "a photo"."""
    edited_prompt: str | None = None
    """For --best-of, a caption of what the result should show: "a street in winter". Default: the instruction."""
    min_image_similarity: float | None = None
    """For --best-of, how like the picture an edit has to be by CLIP, from -1 to 1, to be the same picture still.
    Default: 0.75, and 0.3 by the CLIP "shapes", as pairs are filtered."""
    clip_model: str = "ViT-L-14"
    """For --best-of, CLIP of open_clip, or "shapes"."""
    clip_pretrained: str | None = "openai"
    """Weights of that CLIP."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.best_of is not None and self.best_of < max(2, self.num_images):
            raise ValueError(f"--best-of is at least 2, and at least --num-images, not {self.best_of}.")
        for name in ("original_prompt", "edited_prompt", "min_image_similarity"):
            if getattr(self, name) is not None and self.best_of is None:
                raise ValueError(f"--{name.replace('_', '-')} is for choosing among several edits: give --best-of too.")
        if self.min_image_similarity is not None and not -1 <= self.min_image_similarity <= 1:
            raise ValueError(f"--min-image-similarity is from -1 to 1, not {self.min_image_similarity}.")
        if self.mask_feather and self.mask is None:
            raise ValueError("--mask-feather softens the edge of a mask: give one with --mask.")


@dataclass(kw_only=True)
class GridSettings(Editing):
    """Settings of `ip2p grid`."""

    image: Path
    output: str | None = None
    """The .png, .jpg or .webp file to write. Default: NAME-grid.png beside the picture, with a number where that
    exists."""
    guidance_scale: list[float] | None = None
    """The columns: how much the instruction counts (s_T). Default: 1/3, 2/3, 1 and 4/3 of what the model recommends."""
    image_guidance_scale: list[float] | None = None
    """The rows: how much the input picture counts (s_I). Default: 2/3, 5/6, 1 and 4/3 of what the model recommends."""
    batch_size: int | None = None
    """Cells at a time, for less memory. Default: all at once."""

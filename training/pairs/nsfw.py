"""Whether pictures are safe to show: diffusers' safety checker, or a function of the user's own."""

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import SafetensorError
from transformers import CLIPImageProcessor

NsfwCheck = Callable[[Sequence[np.ndarray]], Sequence[bool]]
"""Takes pictures [H, W, 3] uint8; says of each whether it is unsafe."""

SAFETY_CHECKER = "CompVis/stable-diffusion-safety-checker"
SAFETENSORS = "refs/pr/41"  # where the repository has the same weights as safetensors
FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


def load_nsfw_check(name: str, device: str | torch.device = "cpu") -> NsfwCheck:
    """The check of that name: "safety_checker", or module:function of the user's own, which is imported.

    Raises ValueError where it can't be had, MemoryError where it does not fit.
    """
    if name == "safety_checker":
        return SafetyChecker(fetch(), device)
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f'There is no NSFW check {name}: give "safety_checker", or module:function of your own.')
    try:
        check = getattr(import_module(module), function)
    except Exception as error:  # whatever the user's module does
        raise ValueError(
            f"The NSFW check {name} can't be imported ({type(error).__name__}: {error}): Python looks for its module "
            "where packages are installed and in the folders of PYTHONPATH."
        ) from error
    if not callable(check):
        raise ValueError(f"The NSFW check {name} is no function.")

    def checked(pictures: Sequence[np.ndarray]) -> list[bool]:
        answers = [bool(answer) for answer in check(pictures)]
        if len(answers) != len(pictures):
            raise ValueError(f"The NSFW check {name} gave {len(answers)} answers for {len(pictures)} pictures.")
        return answers

    return checked


def fetch() -> Path:
    """The folder of the safety checker, fetched from the Hub. Raises ValueError."""
    try:
        return Path(snapshot_download(SAFETY_CHECKER, revision=SAFETENSORS, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"The safety checker {SAFETY_CHECKER} can't be had: check the connection to the Hub ({reason})."
        ) from error


class SafetyChecker:
    """diffusers' StableDiffusionSafetyChecker as a check of pictures."""

    def __init__(self, folder: Path, device: str | torch.device = "cpu", batch_size: int = 16) -> None:
        """Load it from a folder, of safetensors only.

        batch_size: pictures that are seen at a time

        Raises ValueError where the folder is incomplete or damaged, MemoryError where the model does not fit.
        """
        self.device, self.batch_size = torch.device(device), batch_size
        transformers.utils.logging.disable_progress_bar()
        # Its warning of each unsafe picture is about pipelines, which give a black one instead.
        logging.getLogger(StableDiffusionSafetyChecker.__module__).setLevel(logging.ERROR)
        try:
            self.processor = CLIPImageProcessor.from_pretrained(folder)
            model, loading = StableDiffusionSafetyChecker.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True
            )
            self.model = model.to(self.device).eval()
        except torch.OutOfMemoryError as error:
            raise MemoryError(f"There is too little memory on {device} for the safety checker.") from error
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ValueError(f"The safety checker in {folder} can't be loaded: {reason}.") from error
        if loading["missing_keys"]:
            raise ValueError(f"The safety checker in {folder} lacks weights: fetch it again.")

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[np.ndarray]) -> list[bool]:
        """Whether each picture [H, W, 3] uint8 is unsafe. Raises MemoryError."""
        unsafe: list[bool] = []
        for start in range(0, len(pictures), self.batch_size):
            batch = [Image.fromarray(picture) for picture in pictures[start : start + self.batch_size]]
            pixels = self.processor(images=batch, return_tensors="pt").pixel_values.to(self.device)
            blanks = [np.zeros((1, 1, 3)) for _ in batch]  # the pictures that it would blacken
            try:
                unsafe += self.model(clip_input=pixels, images=blanks)[1]
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    f"There is too little memory on {self.device} to check {len(batch)} pictures at a time."
                ) from error
        return unsafe

"""The inputs that the editing nodes share, in the order in which they stand on the node."""

from typing import Any

from comfy_api.latest import io

from . import runtime
from .editing import FITS, SCHEDULERS, SEEDS, SIZES
from .editor import Ip2pModel


def source_inputs() -> list[Any]:
    """What is edited, and how."""
    return [
        Ip2pModel.Input("model", tooltip="From Load InstructPix2Pix."),
        io.Image.Input("image", tooltip="The picture to edit."),
        io.String.Input(
            "instruction",
            default="",
            multiline=True,
            placeholder="make it winter",
            dynamic_prompts=True,
            tooltip="What is to change, as you would tell a person: “make it winter”, “give her a red hat”.",
        ),
        io.String.Input(
            "negative",
            default="",
            multiline=True,
            placeholder="what the result should not look like",
            tooltip="What the result should be less like. May be empty.",
        ),
    ]


def scale_inputs() -> list[Any]:
    """The two guidance scales."""
    return [
        io.Float.Input(
            "guidance_scale",
            default=7.5,
            min=0.0,
            max=100.0,
            step=0.1,
            tooltip="s_T: how much the instruction counts. Higher changes more; too high burns colours.",
        ),
        io.Float.Input(
            "image_guidance_scale",
            default=1.5,
            min=0.0,
            max=100.0,
            step=0.05,
            tooltip="s_I: how much the picture counts. Higher keeps more of it; 1 is fastest.",
        ),
    ]


def sampling_inputs() -> list[Any]:
    """Noise and steps."""
    return [
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="More are slower and, up to a point, better."),
        io.Combo.Input(
            "scheduler",
            options=SCHEDULERS,
            default="model",
            tooltip="How noise is taken away. model: what the checkpoint comes with.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=SEEDS - 1,
            control_after_generate=True,
            tooltip="Another seed gives another edit. Number n of a batch, or of several tries, has the seed plus n.",
        ),
        io.Combo.Input(
            "size",
            options=SIZES,
            default="trained",
            tooltip="At which longest side the model works: what it was trained at, the picture's own, or the "
            "resolution below. The result has the picture's own size in any case.",
        ),
    ]


def advanced_inputs() -> list[Any]:
    """What few need."""
    share = {"min": 0.0, "max": 1.0, "step": 0.01}
    inputs = [
        io.Int.Input(
            "resolution",
            default=512,
            min=16,
            max=8192,
            step=8,
            tooltip="The longest side in pixels, where size is custom.",
        ),
        io.Combo.Input(
            "fit",
            options=FITS,
            default="pad",
            tooltip="How a picture gets sides that the model can work with: by padding, or by stretching a little.",
        ),
        io.Float.Input(
            "guidance_start", default=0.0, tooltip="The instruction guides from this share of the steps…", **share
        ),
        io.Float.Input("guidance_stop", default=1.0, tooltip="…to this one.", **share),
        io.Float.Input(
            "image_guidance_start", default=0.0, tooltip="The picture guides from this share of the steps…", **share
        ),
        io.Float.Input("image_guidance_stop", default=1.0, tooltip="…to this one. Steps outside are faster.", **share),
        io.Float.Input(
            "guidance_rescale",
            default=0.0,
            tooltip="Against colours burnt by high scales: 0 is off, 0.7 usual.",
            **share,
        ),
        io.Float.Input(
            "relevance_threshold",
            default=0.0,
            min=0.0,
            max=10.0,
            step=0.005,
            tooltip="Edits only where the model itself would change this much, and leaves all other pixels: "
            "0 is off, 0.25 usual, less edits more of the picture.",
        ),
    ]
    return [runtime.advanced(each) for each in inputs]


def mask_inputs() -> list[Any]:
    """Where to edit."""
    return [
        io.Mask.Input("mask", optional=True, tooltip="White where the edit may happen; elsewhere nothing changes."),
        runtime.advanced(
            io.Float.Input(
                "mask_feather",
                default=0.0,
                min=0.0,
                max=512.0,
                step=0.5,
                tooltip="Softens the mask's edge inwards, in pixels.",
            )
        ),
    ]

"""InstructPix2Pix: edit images by instruction.

`from ip2p import InstructPix2PixPipeline`. Importing this package is light; torch and diffusers load when the
pipeline is first used.
"""

from typing import TYPE_CHECKING, Any

from .ip2p_pipeline.inside import SHAPES_FEW_MODEL, SHAPES_MODEL

if TYPE_CHECKING:
    from .ip2p_pipeline.pipeline import InstructPix2PixPipeline

__version__ = "0.1.0"
__all__ = [
    "SHAPES_FEW_MODEL",
    "SHAPES_MODEL",
    "WEB_DIRECTORY",
    "InstructPix2PixPipeline",
    "__version__",
    "comfy_entrypoint",
]

WEB_DIRECTORY = "./comfy_nodes/web"
"""Where ComfyUI finds the help pages of our nodes."""


def __getattr__(name: str) -> Any:
    if name == "InstructPix2PixPipeline":
        from .ip2p_pipeline.pipeline import InstructPix2PixPipeline

        return InstructPix2PixPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls for the nodes."""
    from .comfy_nodes.extension import Ip2pExtension

    return Ip2pExtension()

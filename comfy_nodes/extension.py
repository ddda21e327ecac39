"""All nodes, for ComfyUI."""

from typing import Any

from comfy_api.latest import ComfyExtension

from .best_of import Ip2pBestOf
from .edit import Ip2pEdit
from .edit_grid import Ip2pEditGrid
from .guider import Ip2pGuider
from .load import Ip2pLoad
from .load_lora import Ip2pLoadLora
from .native_loader import Ip2pNativeLoader
from .save_example import Ip2pSaveExample
from .score import Ip2pScore
from .shapes_scene import Ip2pShapesScene

NODES = [
    Ip2pLoad,
    Ip2pLoadLora,
    Ip2pEdit,
    Ip2pEditGrid,
    Ip2pBestOf,
    Ip2pScore,
    Ip2pGuider,
    Ip2pNativeLoader,
    Ip2pSaveExample,
    Ip2pShapesScene,
]


class Ip2pExtension(ComfyExtension):
    """InstructPix2Pix."""

    async def get_node_list(self) -> list[Any]:
        """The nodes."""
        return NODES

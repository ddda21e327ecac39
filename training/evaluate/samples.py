"""What editors are judged on: pictures with instructions, and whatever else is known of them."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from ..pairs.pictures import as_rgb
from ..shapes.edits import Edit


@dataclass(frozen=True)
class Sample:
    """A picture to edit.

    id:              names it, the same in every run
    edit_prompt:     the instruction
    original_prompt: captions of the whole picture before and after the edit; empty where the data has none
    picture:         gives the picture before as an RGB image
    wanted:          gives the picture after that is right, where the data has one
    kind:            of edit, where known
    after:           the sample whose result is the picture to edit, for the further turns of a session
    counted:         whether it is part of the averages; of sessions only the last turn is
    edit:            the shapes world's truth, by which its oracle judges
    local_caption:   what the wanted picture shows where it changed, where the data says so: caption similarity is by it
    """

    id: str
    edit_prompt: str
    original_prompt: str
    edited_prompt: str
    picture: Callable[[], Image.Image]
    wanted: Callable[[], Image.Image] | None = None
    kind: str = ""
    after: str | None = None
    counted: bool = True
    edit: Edit | None = None
    local_caption: str = ""


def from_file(content: bytes, name: str) -> Callable[[], Image.Image]:
    """A picture file, opened when it is wanted."""
    return lambda: as_rgb(content, name)

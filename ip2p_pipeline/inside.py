"""The models that lie in this package, by the names that commands, nodes and the web page give them."""

from pathlib import Path

SHAPES_MODEL = Path(__file__).parent / "shapes_model"
"""Folder of the small editor, for `from_pretrained`."""
SHAPES_FEW_MODEL = Path(__file__).parent / "shapes_few_model"
"""Folder of the same editor, distilled: it edits in four steps, two or one."""
INSIDE = {"shapes": SHAPES_MODEL, "shapes-few": SHAPES_FEW_MODEL}

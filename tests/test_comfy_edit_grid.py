"""The Grid node: an edit at every pair of scales, and a sheet of them."""

from typing import Any

import pytest
import torch
from comfy_graphs import instruction, load, node, scene
from comfy_host import Host, a_host  # noqa: F401 - a fixture

CALL: dict[str, Any] = {"instruction": instruction(), "steps": 2, "seed": 4}


def grid(host: Host, columns: str = "1, 1.5; 3", rows: str = "1 1.2", **inputs: Any) -> tuple:
    scales = {"guidance_scales": columns, "image_guidance_scales": rows}
    graph = {"1": load(), "2": node("Ip2pEditGrid", model=["1", 0], **{"image": scene(), **CALL, **scales, **inputs})}
    return host.run(graph)["2"]


def test_each_cell_is_the_edit_at_its_scales(host: Host) -> None:
    images, sheet, settings = grid(host)
    assert images.shape == (6, 64, 64, 3)
    assert sheet.shape[0] == 1 and sheet.shape[2] >= 720
    for number, (s_image, s_text) in enumerate((i, t) for i in (1.0, 1.2) for t in (1.0, 1.5, 3.0)):
        scales = {"guidance_scale": s_text, "image_guidance_scale": s_image}
        alone = host.run({"1": load(), "2": node("Ip2pEdit", model=["1", 0], image=scene(), **CALL, **scales)})["2"][0]
        assert torch.equal(images[number], alone[0])
    assert '"guidance_scale": [\n  1.0,\n  1.5,\n  3.0\n ]' in settings


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("", "guidance_scales is empty"),
        ("1, two", "like “1, 1.5, 2”, not “1, two”"),
        ("nan", "must be finite"),
        ("-1", "at least 0"),
        (",".join(["1"] * 300), "too many for one sheet"),
    ],
)
def test_scales_without_meaning_are_told(host: Host, columns: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        grid(host, columns)

"""The page's dials: those of the model that is served."""

from typing import Any

import gradio as gr
import pytest
from ip2p.hub.web.page import Page
from ip2p.hub.web.settings import WebSettings


@pytest.mark.parametrize(
    ("model", "ranges"), [("shapes", [(0, 20), (0, 5)]), ("shapes-few", [(0.25, 2.25), (0.3, 2.0)])]
)
def test_they_end_where_the_model_does(model: str, ranges: list[tuple[float, float]]) -> None:
    found: list[Any] = list(Page(WebSettings(model=model)).blocks().blocks.values())
    sliders = {each.label: each for each in found if isinstance(each, gr.Slider)}
    dials = [sliders["Instruction strength (s_T)"], sliders["Picture strength (s_I)"]]
    assert [(each.minimum, each.maximum) for each in dials] == ranges
    assert all(each.minimum <= each.value <= each.maximum for each in dials)

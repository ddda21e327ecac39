"""`ip2p grid`: the cells are edits at their scales, the sheet is labelled."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Ip2p, files
from ip2p import InstructPix2PixPipeline
from ip2p.commands import grid as command
from ip2p.ip2p_pipeline.sheet import font, grid_sheet, installed, lacking
from PIL import Image, ImageDraw
from tiny_models import distance, picture

pytest_plugins = ["cli_fixtures"]

SCALES = ["--guidance-scale", 2, 7.5, "--image-guidance-scale", 1, 1.5, 3]


def test_each_cell_is_the_edit_at_its_scales(
    ip2p: Ip2p, edit: Ip2p, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def keep(original: Image.Image, cells: list[list[Image.Image]], **words: object) -> Image.Image:
        drawn.update(original=original, cells=cells, **words)
        return grid_sheet(original, cells, **words)

    monkeypatch.setattr(command, "grid_sheet", keep)
    ip2p("grid", "dog.png", "make it winter", "--model", tiny_model, "--steps", 1, *SCALES[:2], *SCALES[3:5])
    assert distance(drawn["original"], Image.open("dog.png")) == 0  # the sheet itself lays it over white
    for batch in ([], ["--batch-size", 4]):
        result = ip2p(
            "grid", "cat.jpg", "make it winter", "--model", tiny_model, "--steps", 2, "--seed", 3, *SCALES, *batch
        )
        assert result.code == 0
        assert [len(row) for row in drawn["cells"]] == [2, 2, 2]
        assert (drawn["row_names"], drawn["column_names"]) == (["s_I 1", "s_I 1.5", "s_I 3"], ["s_T 2", "s_T 7.5"])
        assert distance(drawn["original"], Image.open("cat.jpg")) == 0
        for row, column, s_image, s_text in ((0, 1, 1, 7.5), (2, 0, 3, 2)):
            flags = ["--seed", 3, "--guidance-scale", s_text, "--image-guidance-scale", s_image]
            edit("cat.jpg", "make it winter", *flags, "-o", "alone.png", "--overwrite")
            assert distance(drawn["cells"][row][column], Image.open("alone.png")) <= 1


def test_the_sheet_is_written_with_its_settings_and_replaces_nothing(
    ip2p: Ip2p, folder: Path, tiny_model: Path
) -> None:
    for _ in range(2):
        ip2p("grid", "cat.jpg", "make it winter", "--model", tiny_model, "--steps", 1, *SCALES)
    assert files(folder) == {"cat.jpg", "dog.png", "cat-grid.png", "cat-grid-2.png"}
    made_by = json.loads(Image.open("cat-grid.png").text["ip2p"])
    assert (made_by["guidance_scale"], made_by["image_guidance_scale"]) == ([2.0, 7.5], [1.0, 1.5, 3.0])


def test_the_scales_lie_around_those_that_the_model_recommends(ip2p: Ip2p, folder: Path, tiny_model: Path) -> None:
    recommending = folder / "recommending"
    InstructPix2PixPipeline.from_pretrained(tiny_model, default_guidance_scale=3.0).save_pretrained(recommending)
    for model, columns in ((tiny_model, [2.5, 5.0, 7.5, 10.0]), (recommending, [1.0, 2.0, 3.0, 4.0])):
        ip2p("grid", "dog.png", "make it winter", "--model", model, "--steps", 1, "-o", "grid.png", "--overwrite")
        made_by = json.loads(Image.open("grid.png").text["ip2p"])
        assert (made_by["guidance_scale"], made_by["image_guidance_scale"]) == (columns, [1.0, 1.25, 1.5, 2.0])


def test_bad_input_is_a_sentence(ip2p: Ip2p, folder: Path, tiny_model: Path) -> None:
    for arguments in (["missing.png", "make it winter"], ["cat.jpg", ""], ["cat.jpg", "x", "--guidance-scale", "nan"]):
        result = ip2p("grid", *arguments, "--model", tiny_model)
        assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert files(folder) == {"cat.jpg", "dog.png"}


def test_a_sheets_words_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []

    class Recorder(ImageDraw.ImageDraw):
        def text(self, xy: Any, text: str, fill: Any, font: Any, anchor: Any = None, spacing: int = 4) -> None:
            words.append(text)
            boxes.append(self.textbbox(xy, text, font, anchor, spacing))

        multiline_text = text

    monkeypatch.setattr(ImageDraw, "Draw", Recorder)
    title, note = "make it winter, and let " * 6 + "s" * 200, "model artist/winter-of-many-years, seed 12345678901 " * 3
    names = ["s_T 10.25", "s_T 12.75"]
    for size in ((20, 2000), (2000, 20), (64, 64)):
        words.clear()
        boxes.clear()
        cell = picture(1, *size)
        sheet = grid_sheet(cell, [[cell, cell]] * 2, title, note, names, names)
        expected = [title, note, "input", *names, *names]
        assert ["".join(text.split()) for text in words] == ["".join(text.split()) for text in expected]
        assert sheet.width >= 640
        assert all(left >= 0 and right <= sheet.width for left, _, right, _ in boxes)
        for a, b in combinations(boxes, 2):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], "two texts overlap"


def test_letters_that_the_usual_font_lacks_are_of_an_installed_one() -> None:
    assert (lacking(font(20), "winter"), lacking(font(20), "겨울")) == (0, 2)
    assert font(20, "make it winter").getname() == font(20).getname()
    for text in ("겨울로", "зима", "make it 🔥"):
        least = min(lacking(face, text) for face in [font(20), *installed(20)])
        assert lacking(font(20, text), text) == least


def test_the_sheet_shows_its_cells_in_place() -> None:
    colors = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (200, 200, 0)]]
    cells = [[Image.new("RGB", (40, 20), color) for color in row] for row in colors]
    sheet = np.asarray(grid_sheet(picture(1, 40, 20), cells, "title", "note", ["a", "b"], ["c", "d"], side=100))
    found = [[np.argwhere((sheet == color).all(-1)) for color in row] for row in colors]
    assert all(len(pixels) == 100 * 50 for row in found for pixels in row)
    top, left = 0, 1
    assert found[0][0].mean(0)[left] == found[1][0].mean(0)[left] < found[0][1].mean(0)[left]
    assert found[0][0].mean(0)[top] == found[0][1].mean(0)[top] < found[1][0].mean(0)[top]

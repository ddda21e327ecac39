"""`ip2p demo`: a sheet of edits by the model inside the package."""

from pathlib import Path

from cli_runner import Ip2p, files
from ip2p.ip2p_pipeline.sheet import GAP, Column, before_and_after, font, wrap
from PIL import Image

pytest_plugins = ["cli_fixtures"]


def test_demo_writes_a_sheet_of_right_edits(ip2p: Ip2p, folder: Path) -> None:
    result = ip2p("demo")
    assert result.code == 0
    assert str(folder / "ip2p-demo.png") in result.out
    right = int(result.out.split("  ")[1].split()[0])
    assert right >= 7
    assert Image.open("ip2p-demo.png").width > 1600
    assert ip2p("demo", "-o", "ip2p-demo.png").code == 1
    assert files(folder) == {"cat.jpg", "dog.png", "ip2p-demo.png"}


def test_the_sheet_holds_each_picture_above_its_edit() -> None:
    red, blue, green, grey = ((200, 0, 0), (0, 0, 200), (0, 200, 0), (90, 90, 90))
    columns = [
        Column(Image.new("RGB", (64, 64), red), "make it blue", Image.new("RGB", (64, 64), blue)),
        Column(Image.new("RGB", (64, 64), green), "make it grey " * 9, Image.new("RGB", (64, 64), grey)),
    ]
    sheet = before_and_after(columns, side=100)
    left = sheet.width - 2 * (100 + GAP)
    for x, above, below in ((left + 50, red, blue), (left + 174, green, grey)):
        assert sheet.getpixel((x, GAP + 50)) == above
        assert sheet.getpixel((x, sheet.height - GAP - 50)) == below


def test_words_wrap_within_the_width() -> None:
    face = font(20)
    text = "switch the places of the red circle and the small square at the top left"
    wrapped = wrap(text, face, 160)
    assert wrapped.split() == text.split()
    assert all(face.getlength(line) <= 160 for line in wrapped.splitlines())
    assert 3 <= len(wrapped.splitlines()) <= 6

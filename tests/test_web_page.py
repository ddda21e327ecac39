"""The page in a real browser, at the width of a desk and of a phone."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ip2p.training.shapes.oracle import shows
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet
from PIL import Image
from web_server import CHROMIUM, serve

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")]

from playwright.sync_api import Browser, Page, expect  # noqa: E402

EDIT = open_triplet(0).edit
SIZES = {"desk": (1400, 1000), "phone": (390, 844)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("web") / "log"
    with serve(log, "--max-tries", "6", "--max-megapixels", "1", "--max-steps", "1000") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    width, height = SIZES[request.param]
    with visit(browser, address, width, height) as page:
        yield page


@contextmanager
def visit(browser: Browser, address: str, width: int, height: int) -> Iterator[Page]:
    """A fresh visit, which must end without an error of the page's own scripts."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    expect(button(page, "Edit")).to_be_visible(timeout=60_000)
    yield page
    context.close()
    assert not errors


def button(page: Page, name: str) -> playwright.Locator:
    return page.get_by_role("button", name=name, exact=True)


def png(picture: np.ndarray) -> dict[str, object]:
    """A file for an upload."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return {"name": "scene.png", "mimeType": "image/png", "buffer": file.getvalue()}


def upload(page: Page, picture: np.ndarray) -> None:
    page.locator("input[type=file]").first.set_input_files(png(picture))
    expect(page.get_by_label("Undo").first).to_be_enabled()
    page.wait_for_timeout(2000)  # the editor draws the picture before it gives it


def ask(page: Page, instruction: str) -> None:
    page.get_by_label("Instruction", exact=True).fill(instruction)


def more(page: Page, **values: object) -> None:
    """Open what is folded away, and set it."""
    page.get_by_text("More", exact=True).click()
    for name, value in values.items():
        page.get_by_label(f"number input for {name}").or_(page.get_by_label(name, exact=True)).first.fill(str(value))
        page.keyboard.press("Tab")


def fetched(page: Page, address: str) -> np.ndarray:
    """A picture that the page shows."""
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB"))


def pictures(page: Page) -> list[np.ndarray]:
    """The pictures of the slider."""
    shown = page.locator("[data-testid=imageslider] img, .slider-wrap img").all()
    return [fetched(page, each.get_attribute("src") or "") for each in shown]


def test_an_upload_is_edited_by_the_keyboard(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page, EDIT.edit_prompt)
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"Done, seed \d+"))).to_be_visible()
    assert any(shows(picture, EDIT.target) for picture in pictures(page))


def test_an_example_is_a_click_away(page: Page) -> None:
    page.locator("table tbody tr").nth(1).click()
    expect(page.get_by_label("Instruction", exact=True)).not_to_have_value("")
    page.wait_for_timeout(1500)
    button(page, "Edit").click()
    expect(page.get_by_text(re.compile(r"Done, seed \d+"))).to_be_visible()


def test_a_grid_has_every_pair_of_scales(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page, EDIT.edit_prompt)
    page.get_by_role("tab", name="Grid").click()
    page.get_by_label("Instruction strengths").fill("1, 1.5, 2")
    page.get_by_label("Picture strengths").fill("1 1.4")
    button(page, "Make the grid").click()
    expect(page.get_by_text("Done.", exact=True)).to_be_visible()
    sheet = fetched(page, page.get_by_role("tabpanel").locator("img").first.get_attribute("src") or "")
    assert sheet.shape[1] > 4 * 64 and sheet.shape[0] > 2 * 64

    page.get_by_label("Instruction strengths").fill("1, 2, 3, 4")
    page.get_by_label("Picture strengths").fill("1, 2")
    button(page, "Make the grid").click()
    expect(page.get_by_text("4 × 2 edits are too many here: at most 6.")).to_be_visible()


def test_the_best_of_several_comes_first(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page, EDIT.edit_prompt)
    page.get_by_role("tab", name="Best of").click()
    page.get_by_label("What the picture shows").fill(EDIT.original_prompt)
    page.get_by_label("What it should show").fill(EDIT.edited_prompt)
    button(page, "Find the best").click()
    expect(page.get_by_text("Done.", exact=True)).to_be_visible(timeout=120_000)
    shown = page.get_by_text(re.compile(r"direction -?\d\.\d+, alike \d\.\d+"))
    expect(shown.first).to_be_attached()


def test_stop_ends_an_edit_at_once(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page, EDIT.edit_prompt)
    more(page, Steps=1000)
    button(page, "Edit").click()
    expect(page.get_by_text(re.compile(r"Step \d+ of 1000"))).to_be_visible()
    button(page, "Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    more_steps = page.get_by_label("number input for Steps")
    more_steps.fill("4")
    page.keyboard.press("Tab")
    button(page, "Edit").click()
    expect(page.get_by_text(re.compile(r"Done, seed \d+"))).to_be_visible(timeout=10_000)


def test_what_is_wrong_is_said_in_a_sentence(page: Page) -> None:
    button(page, "Edit").click()
    expect(page.get_by_text("Write an instruction first")).to_be_visible()
    ask(page, "make it blue")
    button(page, "Edit").click()
    expect(page.get_by_text("Choose a picture first")).to_be_visible()
    upload(page, np.zeros((1100, 1000, 3), np.uint8))
    button(page, "Edit").click()
    expect(page.get_by_text("too large: at most 1 megapixels")).to_be_visible()


def test_the_settings_can_be_copied(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page, EDIT.edit_prompt)
    button(page, "Edit").click()
    expect(page.get_by_text(re.compile(r"Done, seed \d+"))).to_be_visible()
    page.get_by_role("tab", name="Elsewhere").click()
    code = page.locator(".cm-content").all_inner_texts()
    assert "InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)" in code[0]
    assert code[1].startswith("ip2p edit photo.png") and '"Ip2pEdit"' in code[2]


def test_it_fits_the_width(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]


def test_another_visits_files_are_unreachable(browser: Browser, address: str) -> None:
    for path in ("/etc/passwd", str(Path.home()), "../../etc/passwd"):
        with visit(browser, address, 400, 800) as page:
            answer = page.request.get(f"{address}/gradio_api/file={path}")
            assert answer.status in (403, 404)

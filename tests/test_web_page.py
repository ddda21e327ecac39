"""The page in a real browser, at the width of a desk and of a phone."""

import base64
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
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from web_server import CHROMIUM, serve

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium")]

EDIT = open_triplet(0).edit
SIZES = {"desk": (1400, 1000), "phone": (390, 844)}
PATIENCE = 120_000  # milliseconds; a busy machine takes long
DONE = re.compile(r"Done, seed \d+")
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("web") / "log"
    with serve(log, "--max-tries", "6", "--max-megapixels", "1", "--max-steps", "1000", "--per-minute", "1000") as page:
        yield page.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    with visit(browser, address, *SIZES[request.param]) as page:
        yield page


@pytest.fixture
def desk(browser: Browser, address: str) -> Iterator[Page]:
    with visit(browser, address, *SIZES["desk"]) as page:
        yield page


@contextmanager
def visit(browser: Browser, address: str, width: int, height: int) -> Iterator[Page]:
    """A fresh visit, which must end without an error of the page's own scripts, and without asking anyone else."""
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 700)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith((address, "data:", "blob:")) or errors.append(asked.url))
    page.goto(address)
    expect(page.locator("#ask canvas").first).to_be_visible()
    page.wait_for_timeout(2000)  # the editor takes pictures once it has drawn itself
    yield page
    context.close()
    assert not errors


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def upload(page: Page, picture: np.ndarray) -> None:
    chosen = {"name": "scene.png", "mimeType": "image/png", "buffer": png(picture)}
    page.locator("input[type=file]").first.set_input_files(chosen)
    is_there(page)


def is_there(page: Page) -> None:
    """Wait until the editor has the picture, and has drawn it."""
    expect(page.get_by_label("Undo").first).to_be_enabled()
    page.wait_for_timeout(2000)


def ask(page: Page, instruction: str = EDIT.edit_prompt) -> None:
    page.get_by_label("Instruction", exact=True).fill(instruction)


def edit(page: Page) -> None:
    """Edit, and wait for the result."""
    button(page, "Edit").click()
    expect(page.get_by_text(DONE)).to_be_visible()


def tab(page: Page, name: str) -> None:
    """Open one of the results' tabs, which on a phone may be in a menu."""
    found = page.get_by_role("tab", name=name, exact=True)
    if not found.is_visible():
        page.get_by_role("button", name="More tabs").click()
        found = found.or_(page.get_by_role("button", name=name, exact=True)).locator("visible=true")
    found.first.click()


def set_steps(page: Page, count: int) -> None:
    steps = page.get_by_label("number input for Steps")
    if not steps.is_visible():
        page.get_by_text("More", exact=True).click()
    slider = page.get_by_label("range slider for Steps")
    for _ in range(10):  # a part that has just unfolded may put its first number back
        steps.fill(str(count))
        page.keyboard.press("Tab")
        page.wait_for_timeout(1000)
        if steps.input_value() == slider.input_value() == str(count):
            return
    raise AssertionError(f"the page did not take {count} steps")


def fetched(page: Page, address: str) -> np.ndarray:
    """A picture that the page shows."""
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB"))


def addresses(page: Page) -> list[str]:
    """Of the slider's pictures."""
    expect(page.locator(SLIDER).first).to_be_attached()
    return [each.get_attribute("src") or "" for each in page.locator(SLIDER).all()]


SLIDER = "[data-testid=imageslider] img, .slider-wrap img"


def pictures(page: Page) -> list[np.ndarray]:
    return [fetched(page, each) for each in addresses(page)]


def test_an_upload_is_edited_by_the_keyboard(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page)
    page.keyboard.press("Enter")
    expect(page.get_by_text(DONE)).to_be_visible()
    assert any(shows(picture, EDIT.target) for picture in pictures(page))
    page.get_by_label("number input for Instruction strength").focus()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text(re.compile("^Step"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped.")).to_be_visible()


def test_a_picture_is_dropped(desk: Page) -> None:
    dropped = desk.evaluate_handle(
        """text => {
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)), data = new DataTransfer();
            data.items.add(new File([bytes], "scene.png", {type: "image/png"}));
            return data;
        }""",
        base64.b64encode(png(render(EDIT.source))).decode(),
    )
    desk.locator("#ask [aria-dropeffect=copy]").dispatch_event("drop", {"dataTransfer": dropped})
    is_there(desk)
    ask(desk)
    edit(desk)
    assert any(shows(picture, EDIT.target) for picture in pictures(desk))


def test_a_picture_is_pasted(desk: Page) -> None:
    desk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    desk.evaluate(
        """async text => {
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
            const item = new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})});
            await navigator.clipboard.write([item]);
        }""",
        base64.b64encode(png(render(EDIT.source))).decode(),
    )
    desk.get_by_role("button", name="Paste").click()
    is_there(desk)
    ask(desk)
    edit(desk)
    assert any(shows(picture, EDIT.target) for picture in pictures(desk))


def test_an_example_is_a_click_away(page: Page) -> None:
    page.locator("table tbody tr").nth(1).click()
    expect(page.get_by_label("Instruction", exact=True)).not_to_have_value("")
    page.wait_for_timeout(1500)
    edit(page)


def test_only_what_is_painted_over_changes(page: Page) -> None:
    upload(page, render(EDIT.source))
    button(page, "Brush").first.click()
    place = page.locator("#ask canvas").first.bounding_box()
    assert place is not None
    across = [place["x"] + share * place["width"] for share in (0.45, 0.5, 0.55)]
    height = place["y"] + place["height"] / 2
    page.mouse.move(across[0], height)
    page.mouse.down()
    for x in across[1:]:
        page.mouse.move(x, height, steps=4)
    page.mouse.up()
    page.wait_for_timeout(1500)
    ask(page, "change the background to yellow")
    edit(page)
    before, after = pictures(page)[:2]
    tab(page, "Copy")
    painted = page.get_by_role("tabpanel").locator("img").first
    mask = fetched(page, painted.get_attribute("src") or "")[..., 0] > 0
    assert 0 < mask.mean() < 1
    assert (before != after).any() and (before == after)[~mask].all()


def test_a_grid_has_every_pair_of_scales(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page)
    set_steps(page, 4)
    tab(page, "Grid")
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
    ask(page)
    set_steps(page, 4)
    tab(page, "Best of")
    page.get_by_label("What the picture shows").fill(EDIT.original_prompt)
    page.get_by_label("What it should show").fill(EDIT.edited_prompt)
    button(page, "Find the best").click()
    expect(page.get_by_text("Done.", exact=True)).to_be_visible()
    shown = page.get_by_text(re.compile(r"direction -?\d\.\d+, alike \d\.\d+"))
    expect(shown.first).to_be_attached()


def test_stop_ends_an_edit_at_once(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page)
    set_steps(page, 1000)
    button(page, "Edit").click()
    expect(page.get_by_text(re.compile(r"Step \d+ of 1000"))).to_be_visible()
    expect(page.locator("#coming img")).to_be_visible()
    with page.expect_response(re.compile("/cancel$")):
        button(page, "Stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    page.wait_for_timeout(2000)  # Gradio takes no further click until it has ended the edit
    set_steps(page, 4)
    edit(page)  # long before the thousand steps would have been done


def test_what_is_wrong_is_said_in_a_sentence(page: Page) -> None:
    button(page, "Edit").click()
    expect(page.get_by_text("Write an instruction first")).to_be_visible()
    ask(page, "make it blue")
    button(page, "Edit").click()
    expect(page.get_by_text("Choose a picture first")).to_be_visible()
    upload(page, np.zeros((1100, 1000, 3), np.uint8))
    button(page, "Edit").click()
    expect(page.get_by_text("too large: at most 1 megapixels")).to_be_visible()


def test_edits_are_remembered_and_can_be_copied(page: Page) -> None:
    upload(page, render(EDIT.source))
    ask(page)
    set_steps(page, 4)
    edit(page)
    ask(page, "make it blue")
    edit(page)
    tab(page, "History")
    expect(page.get_by_text(re.compile("^make it blue · s_T"))).to_be_attached()
    expect(page.get_by_text(re.compile(f"^{EDIT.edit_prompt} · s_T"))).to_be_attached()
    tab(page, "Copy")
    expect(page.locator(".cm-content").first).to_be_visible()
    code = page.locator(".cm-content").all_inner_texts()
    assert "InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)" in code[0]
    assert code[1].startswith("ip2p edit photo.png") and '"Ip2pLoad"' in code[2]


def test_it_fits_the_width_and_the_result_is_near(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    size = page.viewport_size
    assert size is not None and width <= size["width"]
    start, made = button(page, "Edit").bounding_box(), page.locator("#made").bounding_box()
    assert start is not None and made is not None
    assert made["y"] < start["y"] + size["height"] / 2  # beside it, or next below


def test_another_visits_files_are_unreachable(desk: Page, browser: Browser, address: str) -> None:
    upload(desk, render(EDIT.source))
    ask(desk)
    set_steps(desk, 4)
    edit(desk)
    with visit(browser, address, 400, 800) as stranger:
        for path in addresses(desk):
            assert desk.request.get(path).status == 200
            assert stranger.request.get(path).status == 404
        for path in ("/etc/passwd", str(Path.home()), "../../etc/passwd"):
            assert stranger.request.get(f"{address}/gradio_api/file={path}").status in (403, 404)

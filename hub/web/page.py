"""The page: a picture and an instruction in, the edit out, with everything around it."""

import math
import random
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ...ip2p_pipeline.devices import find_device, find_dtype
from ...ip2p_pipeline.distilled import SCALES, counted, scale_range
from ...ip2p_pipeline.image_io import load_picture, to_pil
from ...ip2p_pipeline.inside import INSIDE
from ...ip2p_pipeline.named_models import open_model
from ...ip2p_pipeline.sheet import grid_sheet
from ...training.shapes.edits import KINDS, random_edit
from ...training.shapes.render import render
from .limits import Rate
from .settings import WebSettings
from .snippets import as_command, as_python, as_workflow
from .studio import Progress, Studio, Wish, make_judge

KEPT = 24  # edits in the history
SHARES = (1.0, 0.6, 1.3, 0.8)  # of the usual scale, in a grid where no scales are given
PIXELS_A_MEGAPIXEL = 1_000_000
BUTTONS: Any = ["download", "fullscreen"]
PAINT = ("#ff2d95", 0.6)  # seen on any picture
# On a desk the result is beside what is asked; on a phone it comes before the dials.
CSS = """
footer {visibility: hidden}
#page {display: grid; grid-template: "ask made" auto "dials made" 1fr / 1fr 1fr}
#page > * {min-width: 0 !important}
#ask {grid-area: ask}
#made {grid-area: made}
#dials {grid-area: dials}
#coming img {width: 100%; height: 100%; object-fit: contain}
@media (max-width: 700px) {
  .gradio-container {padding: 8px !important}
  #page {grid-template: "ask" "made" "dials" / 1fr}
}
"""
# Escape stops, and Ctrl-Enter edits from anywhere.
HEAD = """<script>
document.addEventListener("keydown", event => {
  const go = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  const id = event.key === "Escape" ? "stop" : go ? "start" : null;
  if (id) document.getElementById(id)?.click();
});
</script>"""

# What has ended is at no step any more: one that was under way may be told after Stop was answered.
ENDED = """status => [status.startsWith("Step ") ? "Stopped." : status, {__type__: "update", visible: false}]"""


class Page:
    """The page of one model."""

    def __init__(self, settings: WebSettings) -> None:
        """Load the model. Raises ValueError, OSError or MemoryError in a sentence."""
        self.settings = settings
        device = find_device(settings.device)
        dtype = find_dtype(settings.dtype, device)
        self.model = open_model(settings.model, dtype, device)
        clip_model = settings.clip_model or ("shapes" if settings.model in INSIDE else "ViT-L-14")
        self.studio = Studio(self.model, partial(make_judge, clip_model, device), clip_model, settings.max_seconds)
        self.rate = Rate(settings.per_minute)

    def blocks(self) -> gr.Blocks:
        """The page's parts and what they do."""
        recommended = self.model.pipe.recommended
        with gr.Blocks(title="InstructPix2Pix", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
            history = gr.State([], time_to_live=3600)
            gr.Markdown(f"# Edit a picture by an instruction\nModel: `{self.model.name}`")
            with gr.Row(elem_id="page"):
                with gr.Column(elem_id="ask"):
                    picture = gr.ImageEditor(
                        label="Picture",
                        type="pil",
                        sources=("upload", "clipboard"),
                        brush=gr.Brush(default_size=24, colors=[PAINT], default_color=PAINT, color_mode="fixed"),
                        transforms=(),
                        layers=False,
                        buttons=["fullscreen"],
                        format="png",  # webp would change its pixels
                        placeholder="Drop, paste or choose a picture",
                    )
                    gr.Markdown("To change only a part, paint over it with the brush.")
                    instruction = gr.Textbox(label="Instruction", placeholder="make it winter", lines=1, max_lines=4)
                    with gr.Row():
                        start = gr.Button("Edit", variant="primary", elem_id="start", min_width=80)
                        stop = gr.Button("Stop", elem_id="stop", min_width=80)
                with gr.Column(elem_id="dials"):
                    low, high = scale_range(self.model.pipe, "guidance_scale")
                    text = gr.Slider(
                        low,
                        min(high, 20),
                        recommended("guidance_scale"),
                        step=0.05,
                        label="Instruction strength (s_T)",
                        info="Too little changes? Up. Burnt colours? Down.",
                    )
                    low, high = scale_range(self.model.pipe, "image_guidance_scale")
                    image = gr.Slider(
                        low,
                        min(high, 5),
                        recommended("image_guidance_scale"),
                        step=0.05,
                        label="Picture strength (s_I)",
                        info="Too much changes? Up. Nothing changes? Down.",
                    )
                    with gr.Accordion("More", open=False):
                        most = self.settings.max_steps
                        steps = gr.Slider(1, most, min(recommended("num_inference_steps"), most), step=1, label="Steps")
                        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1)
                        other = gr.Checkbox(False, label="Another seed each time")
                        negative = gr.Textbox(label="What it should look less like")
                        feather = gr.Slider(0, 64, 0, step=1, label="Soft edge of the painted part, in pixels")
                    examples = self.examples()
                    if examples:
                        gr.Examples(examples, [picture, instruction], label="Try one")
                    gr.Markdown("Enter in the instruction edits, Ctrl-Enter from anywhere; Escape stops.")
                with gr.Column(elem_id="made"):
                    status = gr.Markdown("")
                    coming = gr.Image(
                        label="As it comes",
                        interactive=False,
                        visible=False,
                        format="png",
                        height=240,
                        buttons=[],
                        elem_id="coming",
                    )
                    with gr.Tabs():
                        with gr.Tab("Result"):
                            result = gr.ImageSlider(
                                label="Before and after", type="pil", interactive=False, format="png"
                            )
                        with gr.Tab("Grid"):
                            columns = gr.Textbox("", label="Instruction strengths", placeholder="3, 5, 7.5, 10")
                            rows = gr.Textbox("", label="Picture strengths", placeholder="1, 1.5, 2")
                            make_grid = gr.Button("Make the grid")
                            sheet = gr.Image(
                                label="Grid", show_label=False, interactive=False, format="png", buttons=BUTTONS
                            )
                        with gr.Tab("Best of"):
                            tries = gr.Slider(
                                2, self.settings.max_tries, min(6, self.settings.max_tries), step=1, label="Tries"
                            )
                            before = gr.Textbox(label="What the picture shows", placeholder="a photo of a dog")
                            after = gr.Textbox(label="What it should show", placeholder="a photo of a cat")
                            find_best = gr.Button("Find the best")
                            ranking = gr.Gallery(label="The best first", columns=3, format="png", buttons=BUTTONS)
                        with gr.Tab("History"):
                            past = gr.Gallery(label="Edits of this visit", columns=4, format="png", buttons=BUTTONS)
                        with gr.Tab("Copy"):
                            gr.Markdown("The same edit of `photo.png`, and where you painted, with `mask.png`.")
                            python = gr.Code(label="Python", language="python")
                            command = gr.Code(label="Command", language="shell")
                            painted = gr.Image(
                                label="mask.png", interactive=False, visible=False, format="png", buttons=["download"]
                            )
                            workflow = gr.Code(label="ComfyUI: save as a .json file and drop it there", language="json")
            wishes = [picture, instruction, text, image, steps, seed, other, negative, feather]
            shown = [status, coming, result, history, past, python, command, workflow, painted, seed]
            limits: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
            running = [
                gr.on([start.click, instruction.submit], self.edit, [*wishes, history], shown, **limits),
                make_grid.click(self.grid, [*wishes, columns, rows], [status, coming, sheet], **limits),
                find_best.click(self.best, [*wishes, tries, before, after], [status, coming, ranking], **limits),
            ]
            for each in running:
                for ended in each.then, each.failure:
                    ended(None, [status], [status, coming], js=ENDED, show_progress="hidden")
            stop.click(
                lambda: ("Stopped.", gr.update(visible=False)), None, [status, coming], cancels=running, queue=False
            )
        blocks.queue(max_size=self.settings.queue, default_concurrency_limit=1, api_open=False)
        return blocks

    def examples(self) -> list[list[Any]]:
        """Pictures with instructions, for a model that knows shapes."""
        if self.settings.model not in INSIDE:
            return []
        edits = [random_edit(random.Random(number), kind, held_out=True) for number, kind in enumerate(KINDS[:4])]
        return [[Image.fromarray(render(edit.source)), edit.edit_prompt] for edit in edits]

    def edit(self, request: gr.Request, *inputs: Any) -> Iterator[tuple[Any, ...]]:
        """Edit once, and remember it."""
        *wished, history = inputs
        picture, mask, wish = self.wish(request, *wished)
        for word in self.told(picture, mask, [wish]):
            if isinstance(word, Progress):
                yield progress(word), preview(word), *[gr.skip()] * 8
                continue
            # By its file: pictures of all visits would fill the memory. Old files are deleted.
            file = gr.processing_utils.save_pil_to_cache(word[0], cache_dir=gr.utils.get_upload_folder(), format="png")
            history = [each for each in history if Path(each[0]).is_file()][1 - KEPT :]
            history.append((file, f"{wish.instruction} · {scales(wish)}"))
            name = self.settings.model
            program = as_python(name, wish, self.studio.resolution)
            elsewhere = program, as_command(name, wish), as_workflow(name, wish)
            yield (
                f"Done, seed {wish.seed}.",
                gr.update(visible=False),
                (picture, file),
                history,
                history,
                *elsewhere,
                gr.update(value=mask, visible=mask is not None),
                wish.seed,
            )

    def grid(self, request: gr.Request, *inputs: Any) -> Iterator[tuple[Any, ...]]:
        """Edit at each pair of scales."""
        *wished, columns_text, rows_text = inputs
        picture, mask, wish = self.wish(request, *wished)
        side = min(len(SHARES), math.isqrt(self.settings.max_tries))
        asked = numbers(columns_text, wish.guidance_scale, side), numbers(rows_text, wish.image_guidance_scale, side)
        columns, rows = (
            list(dict.fromkeys(counted(self.model.pipe, name, value) for value in values))
            for name, values in zip(SCALES, asked, strict=True)
        )
        if len(columns) * len(rows) > self.settings.max_tries:
            raise gr.Error(f"{len(columns)} × {len(rows)} edits are too many here: at most {self.settings.max_tries}.")
        wishes = [
            Wish(**{**vars(wish), "guidance_scale": s_text, "image_guidance_scale": s_image})
            for s_image, s_text in product(rows, columns)
        ]
        for word in self.told(picture, mask, wishes):
            if isinstance(word, Progress):
                yield progress(word), preview(word), gr.skip()
                continue
            cells = [word[at : at + len(columns)] for at in range(0, len(word), len(columns))]
            drawn = grid_sheet(
                picture,
                cells,
                title=wish.instruction,
                note=f"s_T instruction strength, s_I picture strength; model {self.model.name}, seed {wish.seed}",
                row_names=[f"s_I {s_image:g}" for s_image in rows],
                column_names=[f"s_T {s_text:g}" for s_text in columns],
            )
            yield "Done.", gr.update(visible=False), drawn

    def best(self, request: gr.Request, *inputs: Any) -> Iterator[tuple[Any, ...]]:
        """Edit several times, and rank."""
        *wished, tries, before, after = inputs
        picture, mask, wish = self.wish(request, *wished)
        wishes = self.studio.tries(wish, min(int(tries), self.settings.max_tries))
        captions = (before or "").strip() or "a photo", (after or "").strip() or wish.instruction
        for word in self.told(picture, mask, wishes):
            if isinstance(word, Progress):
                yield progress(word), preview(word), gr.skip()
                continue
            ranked = self.studio.rank(picture, word, captions)
            gallery = [(word[each.number], caption(wishes[each.number], each.scores)) for each in ranked]
            yield "Done.", gr.update(visible=False), gallery

    def wish(
        self,
        request: gr.Request,
        editor: Any,
        instruction: str,
        text: float,
        image: float,
        steps: int,
        seed: int,
        other: bool,
        negative: str,
        feather: float,
    ) -> tuple[Image.Image, Image.Image | None, Wish]:
        """The picture, the mask, and what is wanted. Raises gr.Error for what can't be done, or may not yet."""
        if not instruction or not instruction.strip():
            raise gr.Error("Write an instruction first, like “make it winter”.")
        picture, mask = read(editor, self.settings.max_megapixels)
        wait = self.rate.wait(request.client.host if request.client else "")
        if wait:
            raise gr.Error(f"That was a lot in a minute: try again in {wait:.0f} seconds.")
        number = random.randrange(2**32) if other else int(seed or 0)
        count = min(int(steps), self.settings.max_steps)
        wish = Wish(instruction.strip(), text, image, count, number, negative or "", mask is not None, feather)
        return picture, mask, wish

    def told(
        self, picture: Image.Image, mask: Image.Image | None, wishes: list[Wish]
    ) -> Iterator[Progress | list[Image.Image]]:
        """The edits, with what goes wrong as gr.Error."""
        try:
            yield from self.studio.edits(picture, mask, wishes)
        except (ValueError, MemoryError, TypeError) as error:
            raise gr.Error(" ".join(str(error).split())) from error


def read(editor: Any, max_megapixels: float) -> tuple[Image.Image, Image.Image | None]:
    """The picture and the painted mask of the editor. Raises gr.Error where there is no picture, or too large a one."""
    if not editor or editor.get("background") is None:
        raise gr.Error("Choose a picture first: drop or paste one, or try an example.")
    background = editor["background"]
    if background.width * background.height > max_megapixels * PIXELS_A_MEGAPIXEL:
        raise gr.Error(f"This picture is too large: at most {max_megapixels:g} megapixels.")
    picture = to_pil(load_picture(background).rgb)
    painted = [
        np.asarray(layer.convert("RGBA"))[..., 3] > 0 for layer in editor.get("layers") or [] if layer is not None
    ]
    mask = np.any(painted, axis=0) if painted else np.zeros(1, bool)
    return picture, Image.fromarray((mask * 255).astype(np.uint8)) if mask.any() else None


def numbers(text: str, usual: float, count: int) -> list[float]:
    """The numbers of a text like "1, 1.5"; so many about the usual one where it is empty. Raises gr.Error."""
    parts = (text or "").replace(",", " ").split()
    try:
        return [float(part) for part in parts] or [round(usual * share, 2) for share in sorted(SHARES[:count])]
    except ValueError:
        raise gr.Error(f"These are no numbers: “{text}”. Write them like “1, 1.5, 2”.") from None


def progress(word: Progress) -> str:
    """How far it is, in words."""
    return f"Step {word.done} of {word.total}…"


def preview(word: Progress) -> Any:
    """The picture as it comes, where there is one."""
    return gr.skip() if word.preview is None else gr.update(value=word.preview, visible=True)


def scales(wish: Wish) -> str:
    """What a wish is made with, in short."""
    return f"s_T {wish.guidance_scale:g} · s_I {wish.image_guidance_scale:g} · seed {wish.seed}"


def caption(wish: Wish, scores: dict[str, float]) -> str:
    """A try with its scores."""
    direction, alike = scores.get("directional_similarity", float("nan")), scores["image_similarity"]
    return f"{scales(wish)}: direction {direction:.2f}, alike {alike:.2f}"

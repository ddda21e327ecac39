"""`ip2p grid`: one edit at several scales of both guidances, on a labelled sheet."""

from collections.abc import Sequence
from functools import partial
from itertools import product

from PIL import Image

from ..ip2p_pipeline.distilled import SCALES, counted
from ..ip2p_pipeline.image_io import load_picture, to_pil
from ..ip2p_pipeline.sheet import grid_sheet
from .editing import check_guidance, choose_seed, generators, record, run
from .models import load_model
from .outputs import Outputs
from .report import say
from .settings import GridSettings

COLUMNS, ROWS = (1 / 3, 2 / 3, 1, 4 / 3), (2 / 3, 5 / 6, 1, 4 / 3)  # of the recommended s_T and s_I


def grid(settings: GridSettings) -> int:
    """Make the sheet, rows s_I and columns s_T, every cell from the same noise. Gives the exit status."""
    asked: list[Sequence[float | None]] = [settings.guidance_scale or [None], settings.image_guidance_scale or [None]]
    for s_text, s_image in product(*asked):
        check_guidance(settings, s_text, s_image)
    picture = load_picture(settings.image)
    outputs = Outputs(settings.output, 1, settings.overwrite, [settings.image])
    name, folder = f"{settings.image.stem}-grid", settings.image.parent
    outputs.check_name(name, folder)

    model = load_model(settings)
    columns = settings.guidance_scale or around(model.pipe.recommended("guidance_scale"), COLUMNS)
    rows = settings.image_guidance_scale or around(model.pipe.recommended("image_guidance_scale"), ROWS)
    columns, rows = (
        list(dict.fromkeys(counted(model.pipe, name, value) for value in values))
        for name, values in zip(SCALES, (columns, rows), strict=True)
    )
    scales = [(s_text, s_image) for s_image, s_text in product(rows, columns)]
    seed = choose_seed(settings)
    original = to_pil(picture.straight, picture.alpha)
    draw = partial(
        grid_sheet,
        original,
        title=settings.instruction,
        note=f"s_T = guidance_scale, s_I = image_guidance_scale; model {model.name}, seed {seed}",
        row_names=[f"s_I {s_image:g}" for s_image in rows],
        column_names=[f"s_T {s_text:g}" for s_text in columns],
    )
    blank = Image.new("RGB", (1, 1))
    outputs.check_size(draw([[blank] * len(columns)] * len(rows)).size)

    size = settings.batch_size or len(scales)
    cells: list[Image.Image] = []
    for start in range(0, len(scales), size):
        batch = scales[start : start + size]
        cells += run(
            model,
            settings,
            label=f"{start + len(batch)}/{len(scales)}",
            image=settings.image,
            guidance_scale=[s_text for s_text, _ in batch],
            image_guidance_scale=[s_image for _, s_image in batch],
            num_images_per_prompt=len(batch),
            alpha="keep",
            generator=generators([seed] * len(batch)),
        )
    sheet = draw([cells[i : i + len(columns)] for i in range(0, len(cells), len(columns))])
    made_by = record(model, settings, seed=seed, guidance_scale=columns, image_guidance_scale=rows)
    path = outputs.save(sheet, made_by, name, folder)
    say(f"{path}  seed {seed}")
    return 0


def around(scale: float, shares: Sequence[float]) -> list[float]:
    """These shares of a scale, to two decimals."""
    return [round(scale * share, 2) for share in shares]

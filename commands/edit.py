"""`ip2p edit`: an instruction edits pictures."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from PIL import Image
from tqdm import tqdm

from ..ip2p_pipeline.distilled import SCALES, counted
from ..ip2p_pipeline.image_io import load_picture, to_pil
from ..ip2p_pipeline.masks import load_mask
from ..ip2p_pipeline.named_models import Model
from .editing import BlackedOutError, check_guidance, choose_seed, generators, record, run
from .inputs import Source, find_sources
from .models import load_model
from .outputs import Outputs
from .report import complain, say
from .settings import EditSettings


class Failures:
    """Counts what went wrong in a run that goes on."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell what goes wrong within, and go on after."""
        try:
            yield
        except (ValueError, OSError, MemoryError) as error:
            complain(error)
            self.count += 1


def edit(settings: EditSettings) -> int:
    """Edit each picture, and give the exit status. What is wrong with one is told, and the others go on."""
    check_guidance(settings, settings.guidance_scale, settings.image_guidance_scale)
    failures = Failures()
    sources: list[Source] = []
    for argument in settings.image:
        with failures.told():
            sources += find_sources(argument)
    masks = [] if settings.mask is None else [settings.mask]
    inputs = [*(source.path for source in sources), *masks]
    outputs = Outputs(settings.output, len(sources) * settings.num_images, settings.overwrite, inputs)
    readable: list[Source] = []
    for source in progress("checking", sources):
        with failures.told():
            check_source(source, settings, outputs)
            readable.append(source)
    if not readable:
        return 1

    model = load_model(settings)
    seed = choose_seed(settings)
    make = edit_one if settings.best_of is None else BestOf(model, settings).edit
    done = 0
    for source in progress("editing", readable):
        with failures.told():
            make(model, settings, source, seed, outputs)
            done += 1
    if failures.count and len(sources) > 1:
        complain(f"{done} of {len(sources)} pictures edited.")
    return 1 if failures.count else 0


def progress(what: str, sources: list[Source]) -> Iterable[Source]:
    """The pictures, behind a bar where there are several and somebody may watch."""
    return tqdm(sources, what, unit="picture", disable=None if len(sources) > 1 else True, position=1, leave=False)


def check_source(source: Source, settings: EditSettings, outputs: Outputs) -> None:
    """Raise ValueError or OSError for a picture or mask that can't be read, or a result that can't be written."""
    _, height, width = load_picture(source.path).rgb.shape
    if settings.mask is not None:
        load_mask(settings.mask, (height, width), settings.mask_feather)
    outputs.check_name(result_name(source), source.results)
    outputs.check_size((width, height))


def edit_one(model: Model, settings: EditSettings, source: Source, first_seed: int, outputs: Outputs) -> None:
    """Make and write each variant of one picture."""
    for seed in range(first_seed, first_seed + settings.num_images):
        start = time.perf_counter()
        scales = {name: getattr(settings, name) for name in SCALES}
        image = edited(model, settings, source, seed, outputs, source.path.name, **scales)
        scales = {name: counted(model.pipe, name, getattr(model.pipe, name)) for name in SCALES}
        made_by = record(model, settings, seed=seed, **scales)
        path = outputs.save(image, made_by, result_name(source), source.results)
        say(f"{path}  seed {seed}  {time.perf_counter() - start:.1f} s")


def edited(
    model: Model,
    settings: EditSettings,
    source: Source,
    seed: int,
    outputs: Outputs,
    label: str,
    **scales: float | None,
) -> Image.Image:
    """A picture, edited, behind a progress bar called `label`."""
    [image] = run(
        model,
        settings,
        label=label,
        image=source.path,
        mask_image=settings.mask,
        mask_feather=settings.mask_feather,
        alpha="keep" if outputs.keeps_alpha else "composite",
        generator=generators([seed]),
        **scales,
    )
    return image


class BestOf:
    """Makes several edits of each picture, and writes the best."""

    def __init__(self, model: Model, settings: EditSettings) -> None:
        """Load CLIP. Raises ValueError where it can't be had."""
        from ..training.evaluate.clip_scores import ClipJudge
        from ..training.pairs.clip_filter import ClipScorer

        self.judge = ClipJudge(ClipScorer(settings.clip_model, settings.clip_pretrained, model.pipe.device))

    def edit(self, model: Model, settings: EditSettings, source: Source, first_seed: int, outputs: Outputs) -> None:
        """Try, rank, and write the best of one picture."""
        from ..training.evaluate.best_of import Trial, least_image_similarity, ranked, trials

        start = time.perf_counter()
        asked = {name: getattr(settings, name) for name in SCALES}
        told = (model.pipe.recommended(name) if value is None else value for name, value in asked.items())
        asked_for = [
            Trial(trial.seed, *(counted(model.pipe, name, getattr(trial, name)) for name in SCALES))
            for trial in trials(settings.best_of or 1, first_seed, *told)
        ]
        tried, images, unsafe = [], [], None
        for number, trial in enumerate(asked_for, 1):
            label = f"{source.path.name} {number}/{len(asked_for)}"
            scales = {name: getattr(trial, name) for name in SCALES}
            try:
                images.append(edited(model, settings, source, trial.seed, outputs, label, **scales))
                tried.append(trial)
            except BlackedOutError as error:
                unsafe = error
        if unsafe is not None and not tried:
            raise unsafe
        captions = settings.original_prompt or "a photo", settings.edited_prompt or settings.instruction
        least = settings.min_image_similarity
        if least is None:
            least = least_image_similarity(settings.clip_model)
        before = to_pil(load_picture(source.path).rgb)
        best = ranked(self.judge, before, images, captions, least)
        for each in best[: settings.num_images]:
            trial = tried[each.number]
            made_by = record(model, settings, seed=trial.seed, **{name: getattr(trial, name) for name in SCALES})
            scores = {name: round(value, 4) for name, value in each.scores.items()}
            path = outputs.save(images[each.number], made_by | scores, result_name(source), source.results)
            say(
                f"{path}  seed {trial.seed}  s_T {trial.guidance_scale:g}  s_I {trial.image_guidance_scale:g}  "
                f"direction {each.scores['directional_similarity']:.3f}  image {each.scores['image_similarity']:.3f}"
            )
        if not best[0].is_alike:
            say(
                f"None is as like the picture as {least:g}: what is most like it was taken. Lower "
                "--min-image-similarity for edits that change much."
            )
        if len(tried) < len(asked_for):
            say(f"The model's safety checker blacked out {len(asked_for) - len(tried)} of {len(asked_for)}.")
        say(f"the best of {len(tried)}, in {time.perf_counter() - start:.1f} s")


def result_name(source: Source) -> str:
    """The name of a picture's result, without the ending, unless the user says otherwise."""
    return f"{source.path.stem}-edited"

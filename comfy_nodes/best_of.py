"""The node that edits several times and ranks the results."""

import json
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from . import runtime
from .clip import MODELS, clip_input, load_clip
from .editing import SEEDS, Edit, as_text, edited
from .editor import Editor, editor_of
from .pictures import batch_of, masks_of, pictures_of
from .widgets import advanced_inputs, mask_inputs, sampling_inputs, scale_inputs, source_inputs


class Ip2pBestOf(io.ComfyNode):
    """Tries seeds and scales, and keeps what CLIP ranks best."""

    @classmethod
    def define_schema(cls) -> Any:
        """What ComfyUI shows."""
        return runtime.schema(
            ["ip2p best of", "try seeds", "rank edits", "pick best"],
            node_id="Ip2pBestOf",
            display_name="InstructPix2Pix Best of N",
            description="Edits a picture several times, with other seeds and with scales around yours, and ranks the "
            "results with CLIP.",
            inputs=[
                *source_inputs(),
                *scale_inputs(),
                io.Int.Input("tries", default=8, min=1, max=256, tooltip="How often to edit."),
                io.Int.Input("keep", default=1, min=1, max=256, tooltip="How many of the best to give out."),
                clip_input(),
                *sampling_inputs(),
                io.String.Input(
                    "original_caption",
                    default="",
                    optional=True,
                    placeholder="a photo",
                    tooltip="What the picture shows. Ranks better than the instruction alone.",
                ),
                io.String.Input(
                    "edited_caption",
                    default="",
                    optional=True,
                    placeholder="the instruction",
                    tooltip="What the result should show.",
                ),
                *mask_inputs(),
                *advanced_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="best", tooltip="The best, in order."),
                io.Image.Output(display_name="all", tooltip="All tries, the best first."),
                io.String.Output(display_name="scores", tooltip="Of all tries, the best first, as JSON."),
                io.String.Output(display_name="settings", tooltip="What made the best result, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Editor,
        image: Tensor,
        tries: int,
        keep: int,
        clip_model: str,
        scheduler: str,
        seed: int,
        guidance_scale: float,
        image_guidance_scale: float,
        original_caption: str = "",
        edited_caption: str = "",
        mask: Tensor | None = None,
        **settings: Any,
    ) -> Any:
        """Edit the first picture, and rank."""
        from ..ip2p_pipeline.image_io import to_pil
        from ..training.evaluate.best_of import least_image_similarity, ranked, trials

        edits = [
            Edit(scheduler=scheduler, **vars(trial) | {"seed": trial.seed % SEEDS}, **settings)
            for trial in trials(tries, seed, guidance_scale, image_guidance_scale)
        ]
        pictures = pictures_of(image)
        picture, where = pictures[0], masks_of(mask, pictures)[0]
        clip = load_clip(clip_model)
        pipe = editor_of(model).ready(edits[0], picture)
        watch = runtime.progress(pipe, len(edits))
        results = [edited(pipe, edit, picture, where, watch(number)) for number, edit in enumerate(edits)]
        captions = original_caption.strip() or "a photo", edited_caption.strip() or edits[0].instruction
        tried = [to_pil(result.float()) for result in results]
        least = least_image_similarity(MODELS[clip_model][0])
        best = ranked(clip.ready(), to_pil(picture[:3].float()), tried, captions, least)
        in_order = batch_of([results[each.number] for each in best])
        scores = [scores_of(edits[each.number], each) for each in best]
        settings_text = as_text(model.name, edits[best[0].number])
        return io.NodeOutput(in_order[:keep], in_order, json.dumps(scores, indent=1), settings_text)


def scores_of(edit: Edit, ranked: Any) -> dict[str, float]:
    """A try with its scores."""
    tried = {name: getattr(edit, name) for name in ("seed", "guidance_scale", "image_guidance_scale")}
    return tried | {name: round(value, 4) for name, value in ranked.scores.items()}

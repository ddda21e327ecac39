"""The card of a published pipeline or LoRA: README.md, as the Hub reads it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..training.markdown import one_line

# Of an evaluation's scores, those that a card tells, and how the Hub would name the metric.
METRICS = {
    "directional_similarity": "CLIP directional similarity",
    "image_similarity": "CLIP image similarity",
    "caption_similarity": "CLIP caption similarity",
    "right": "right by the oracle",
    "dino": "DINO similarity",
    "lpips": "LPIPS",
    "l1": "L1",
}
EXAMPLES = "examples.png"


@dataclass(frozen=True)
class About:
    """What a card tells of a model.

    repo, kind:  its id on the Hub, and whether it is a "pipeline" or a "lora"
    license:     as the Hub names it
    base_model:  what it was trained from; an id on the Hub, a name, or None where nobody knows
    dataset:     what it was trained on, likewise
    settings:    of the training, those that a reader wants; empty where they are not known
    report:      of `ip2p evaluate`, as JSON, or None
    is_xl:       whether it is an SDXL model
    recommended: steps and scales that its index recommends
    distilled:   the lowest and highest of each scale that a distilled model has learnt; empty for others
    has_example: whether there is a picture of edits
    has_fp16:    whether there is a variant in half precision
    """

    repo: str
    kind: str
    license: str
    base_model: str | None
    dataset: str | None
    settings: dict[str, Any]
    report: dict[str, Any] | None
    is_xl: bool
    recommended: dict[str, Any]
    distilled: dict[str, list[float]]
    has_example: bool
    has_fp16: bool


def model_card(about: About) -> str:
    """The card's text."""
    data = ModelCardData(
        language="en",
        license=about.license,
        library_name="diffusers",
        pipeline_tag="image-to-image",
        base_model=about.base_model if is_hub_id(about.base_model) else None,
        datasets=[str(about.dataset)] if is_hub_id(about.dataset) else None,
        tags=["instruct-pix2pix", "image-editing", "ip2p", *(["lora"] if about.kind == "lora" else [])],
        model_name=about.repo.partition("/")[2],
        eval_results=eval_results(about) or None,
    )
    lines = [
        f"# {about.repo.partition('/')[2]}",
        "",
        "Edits pictures by instruction (InstructPix2Pix, Brooks et al. 2023, https://arxiv.org/abs/2211.09800): a "
        f"{'LoRA for' if about.kind == 'lora' else 'model trained from'} {linked(about.base_model)}.",
        "",
        *([f"![Pictures before, as edited, and as they should be]({EXAMPLES})", ""] if about.has_example else []),
        "## Use",
        "",
        *(use_lora(about) if about.kind == "lora" else use_pipeline(about)),
        *training(about),
        *evaluation(about),
        *LIMITS,
        f"The license is {about.license}. It covers the weights; pictures that are edited stay whose they are.",
        "",
    ]
    return f"---\n{data.to_yaml().strip()}\n---\n\n" + "\n".join(lines)


def is_hub_id(name: str | None) -> bool:
    """Whether a name has the form of an id on the Hub, and is no path of the writer's machine."""
    return (
        name is not None and name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()
    )


def linked(name: str | None) -> str:
    """A base model or dataset in words."""
    if name is None:
        return "a model that its publisher did not name"
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else f"`{Path(name).name}`"


def use_pipeline(about: About) -> list[str]:
    """How a pipeline is loaded: diffusers' own way, ours, and in ComfyUI."""
    return [
        *(distilled(about) if about.distilled else use_stock(about)),
        "With the pipeline in this repository, which takes any picture and gives it back in its own size:",
        "",
        "```python",
        "from diffusers import DiffusionPipeline",
        "",
        f'repo = "{about.repo}"',
        "pipe = DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo, trust_remote_code=True)",
        'pipe("make it winter", "photo.jpg").images[0].save("edited.png")',
        "```",
        "",
        f'With ip2p on the command line: `ip2p edit photo.jpg "make it winter" --model {about.repo}`.',
        "",
        f"In ComfyUI, with its nodes: *Load InstructPix2Pix*, `{about.repo}`; or `ip2p hub pull {about.repo} --comfyui "
        "ComfyUI`.",
        "",
    ]


def distilled(about: About) -> list[str]:
    """What is special about a distilled model."""
    ranges = " and ".join(f"`{name}` {low:g} to {high:g}" for name, (low, high) in about.distilled.items())
    return [
        "It is distilled: both scales are inputs of the U-Net, which is evaluated once a step. It has learnt "
        f"{ranges}; others are held to the nearest. diffusers' own InstructPix2Pix pipelines do not know such inputs "
        "and would ignore both scales: use the pipeline in this repository.",
        "",
    ]


def stock_class(about: About) -> str:
    """The pipeline's class in diffusers."""
    return f"StableDiffusion{'XL' if about.is_xl else ''}InstructPix2PixPipeline"


def use_stock(about: About) -> list[str]:
    """How diffusers' own pipelines load it."""
    stock = stock_class(about)
    fp16 = ', variant="fp16", torch_dtype=torch.float16' if about.has_fp16 else ""
    told = ", ".join(f"{name}={value:g}" for name, value in about.recommended.items())
    return [
        "With diffusers alone:",
        "",
        "```python",
        *(["import torch"] if fp16 else []),
        f"from diffusers import {stock}",
        "from PIL import Image",
        "",
        f'pipe = {stock}.from_pretrained("{about.repo}"{fp16})',
        'photo = Image.open("photo.jpg").convert("RGB")',
        f'pipe("make it winter", image=photo{", " + told if told else ""}).images[0].save("edited.png")',
        "```",
        "",
    ]


def use_lora(about: About) -> list[str]:
    """How a LoRA is loaded: diffusers' own way, ours, and in ComfyUI."""
    base = about.base_model if is_hub_id(about.base_model) else "the-model/it-was-trained-from"
    stock = stock_class(about)
    return [
        "With diffusers alone:",
        "",
        "```python",
        f"from diffusers import {stock}",
        "from PIL import Image",
        "",
        f'pipe = {stock}.from_pretrained("{base}")',
        f'pipe.load_lora_weights("{about.repo}")',
        'photo = Image.open("photo.jpg").convert("RGB")',
        'pipe("make it winter", image=photo).images[0].save("edited.png")',
        "```",
        "",
        "With ip2p, whose pipeline takes any picture and gives it back in its own size:",
        "",
        "```python",
        "from ip2p import InstructPix2PixPipeline",
        "",
        f'pipe = InstructPix2PixPipeline.from_pretrained("{base}")',
        f'pipe.load_lora_weights("{about.repo}")',
        'pipe("make it winter", "photo.jpg").images[0].save("edited.png")',
        "```",
        "",
        f"In ComfyUI: `ip2p hub pull {about.repo} --comfyui ComfyUI`, then *Load InstructPix2Pix LoRA*.",
        "",
    ]


def training(about: About) -> list[str]:
    """How it was trained, as far as that is known."""
    if not about.settings and about.dataset is None:
        return []
    return [
        "## Training",
        "",
        *([f"On {linked(about.dataset)}.", ""] if about.dataset else []),
        *(
            ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.settings.items()), ""]
            if about.settings
            else []
        ),
        "Conventions, those of the original: the picture's latent is the posterior's mode, unscaled; zeros stand for "
        "no picture, an empty text stands for no instruction.",
        "",
    ]


def evaluation(about: About) -> list[str]:
    """The figures, with their 95% intervals."""
    point = best_point(about)
    if about.report is None or point is None:
        return []
    at = ", ".join(f"{name} {value:g}" for name, value in point["setting"].items())
    rows = [
        f"| {METRICS[name]} | {each['mean']:.3f} | {each['low']:.3f} to {each['high']:.3f} |"
        for name, each in point["scores"].items()
        if name in METRICS
    ]
    return [
        "## Evaluation",
        "",
        f"By `ip2p evaluate` on {about.report['samples']} edits of {data_name(about.report)}, at {at}.",
        "",
        "| | mean | 95% interval |",
        "|---|---|---|",
        *rows,
        "",
    ]


LIMITS = [
    "## Limits",
    "",
    "- Pairs made by Prompt-to-Prompt teach what it can do: counting, moving things and swapping them are weak; so is "
    "text in pictures.",
    "- It may change more than was asked for. Lower `guidance_scale`, raise `image_guidance_scale`, or use a mask.",
    "- It has the biases of the models that its data came from: of Stable Diffusion's pictures, of the language model "
    "that wrote instructions, and of CLIP, which chose. Professions and looks are tied to genders and origins, and "
    "unnamed people tend to look alike.",
    "- It must not be used to deceive, to harass, or to show people in what they did not do.",
    "",
    "## License",
    "",
]


def eval_results(about: About) -> list[EvalResult]:
    """The figures as the Hub's model-index takes them."""
    point = best_point(about)
    if about.report is None or point is None:
        return []
    name = data_name(about.report)
    at = ", ".join(f"{dial}={value:g}" for dial, value in sorted(point["setting"].items()))
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Image editing by instruction",
            dataset_type=name,
            dataset_name=name,
            metric_type=metric,
            metric_name=f"{METRICS[metric]} ({at})",
            metric_value=round(score["mean"], 4),
        )
        for metric, score in point["scores"].items()
        if metric in METRICS
    ]


def best_point(about: About) -> dict[str, Any] | None:
    """Of the report's points of an editor, the one nearest to the recommended scales; the first where none are."""
    points = [point for point in (about.report or {}).get("points", []) if "guidance_scale" in point["setting"]]
    wanted = {"image_guidance_scale": 1.5, "guidance_scale": 7.5} | about.recommended
    return min(
        points,
        key=lambda point: sum(
            abs(point["setting"].get(name, 0) / wanted[name] - 1) for name in point["setting"] if wanted.get(name)
        ),
        default=None,
    )


def data_name(report: dict[str, Any]) -> str:
    """What it was evaluated on, without a path of the machine."""
    told = str(report.get("about", {}).get("settings", {}).get("data") or "held-out edits")
    return told if is_hub_id(told) else one_line(Path(told).name)


def load_report(path: Path) -> dict[str, Any]:
    """The report of an evaluation. Raises ValueError where there is none."""
    file = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(file.read_text())
        assert isinstance(report["points"], list)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise ValueError(f"{path} is no report of `ip2p evaluate`: give the folder that has its report.json.") from None
    return report

"""What is published of an artifact, put together in a folder of its own: its files, our code, its card."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import DatasetCard, ModelCard
from yaml import YAMLError

from ..ip2p_pipeline.loading import write_code
from ..ip2p_pipeline.pipeline import InstructPix2PixPipeline
from ..training.finetune.model import channels_of_model
from ..training.shapes.models import SHAPES_BASE
from .artifact import Artifact, find_artifact
from .dataset_card import dataset_card
from .licenses import settled
from .model_card import EXAMPLES, About, load_report, model_card
from .settings import PublishSettings

# Of a training's settings, those that a card tells, in a reader's words.
TOLD = {
    "train": "trained",
    "lora_rank": "LoRA rank",
    "resolution": "resolution",
    "flip": "mirrored",
    "steps": "steps",
    "batch_size": "batch size, of each process",
    "accumulation": "batches a step",
    "optimizer": "optimizer",
    "learning_rate": "learning rate",
    "schedule": "schedule",
    "warmup": "warmup, in steps",
    "weight_decay": "weight decay",
    "drop_text": "share without instruction",
    "drop_image": "share without picture",
    "drop_both": "share without both",
    "prediction_type": "prediction",
    "min_snr_gamma": "min-SNR γ",
    "ema_decay": "EMA decay",
    "mixed_precision": "precision",
    "seed": "seed",
}


def stage(settings: PublishSettings, aside: Path) -> dict[str, Path]:
    """Everything that is published, by its path in the repository; what is made for it lies in `aside`.

    Raises ValueError or OSError, in a sentence, for what can't be published as it is.
    """
    artifact = find_artifact(settings.folder, settings.what)
    if artifact.kind != "pipeline" and settings.fp16:
        raise ValueError("--fp16 is for pipelines.")
    check_base(artifact)
    files = artifact.files()
    if artifact.kind == "dataset":
        (aside / "README.md").write_text(dataset_card(artifact.root, settings.to, settings.license), encoding="utf-8")
        check_metadata(aside / "README.md", artifact.root / "README.md")
        return dict(sorted((files | {"README.md": aside / "README.md"}).items()))
    if artifact.kind == "pipeline":
        files |= without_origin(files, aside / "configs")
        (aside / "code").mkdir()
        write_code(aside / "code")
        files |= {path.name: path for path in (aside / "code").iterdir()}
        if settings.fp16:
            files |= half_precision(artifact.root, aside / "fp16")
    single = None if artifact.run is None else artifact.run / "model.safetensors"
    if artifact.kind == "pipeline" and single is not None and single.is_file():
        files[f"{settings.to.partition('/')[2]}.safetensors"] = single
    example = settings.example or last_sheet(artifact)
    if example is not None:
        if not example.is_file():
            raise FileNotFoundError(f"There is no picture {example}.")
        files[EXAMPLES] = example
    files["README.md"] = card_file(settings, artifact, aside / "README.md", has_example=example is not None)
    ModelCard.load(files["README.md"])
    return dict(sorted(files.items()))


def check_base(artifact: Artifact) -> None:
    """Refuse the LoRA of a training that began with a text-to-image model: it fits only the U-Net widened there.

    A base that can't be found any more is not judged.
    """
    model = artifact.run_settings.get("model")
    if artifact.kind != "lora" or model is None:
        return
    try:
        channels = channels_of_model(SHAPES_BASE if model == "shapes" else Path(model), model)
    except (OSError, ValueError, KeyError):
        return
    if channels == 4:
        raise ValueError(
            f"The LoRA in {artifact.root} fits no model that others have: its training began with {model}, a "
            "text-to-image model, and widened it. Publish the whole pipeline, without --what lora."
        )


def card_file(settings: PublishSettings, artifact: Artifact, path: Path, has_example: bool) -> Path:
    """The card: one that somebody wrote stays, where no flag says what is to be in it; else it is written to `path`."""
    flags = (settings.base_model, settings.dataset, settings.evaluation, settings.example, settings.license)
    if artifact.run is None and "license" in own_card(artifact.root) and not any(flags):
        return artifact.root / "README.md"
    path.write_text(model_card(about_model(settings, artifact, has_example)), encoding="utf-8")
    return path


def without_origin(files: dict[str, Path], aside: Path) -> dict[str, Path]:
    """Copies of the configurations in which diffusers notes the folder of this machine that a part came from, without
    it."""
    cleaned = {}
    for told, path in files.items():
        if path.name not in ("config.json", "model_index.json"):
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            cleaned[told] = aside / told
            cleaned[told].parent.mkdir(parents=True, exist_ok=True)
            cleaned[told].write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return cleaned


def half_precision(root: Path, aside: Path) -> dict[str, Path]:
    """The weights of a pipeline as the variant fp16, by their paths in the repository."""
    pipe = InstructPix2PixPipeline.from_pretrained(root, torch_dtype=torch.float16)
    pipe.save_pretrained(aside, variant="fp16")
    weights = [path for path in aside.rglob("*fp16*") if path.is_file()]
    return {path.relative_to(aside).as_posix(): path for path in weights}


def last_sheet(artifact: Artifact) -> Path | None:
    """The last picture of held-out edits that a training made."""
    if artifact.run is None:
        return None
    return max((artifact.run / "validation").glob("step-*.png"), default=None)


def about_model(settings: PublishSettings, artifact: Artifact, has_example: bool) -> About:
    """What the card tells, from the flags, the run's settings, or the card that is in the folder."""
    run, card = artifact.run_settings, own_card(artifact.root)
    base_model = settings.base_model or run.get("model") or first(card.get("base_model"))
    dataset = settings.dataset or run.get("data") or first(card.get("datasets"))
    index: dict[str, Any] = {}
    pipeline = artifact.root if artifact.kind == "pipeline" or artifact.run is None else artifact.run / "pipeline"
    if (pipeline / "model_index.json").is_file():
        index = json.loads((pipeline / "model_index.json").read_text())
    names = ("num_inference_steps", "guidance_scale", "image_guidance_scale")
    recommended = {name: index.get(f"default_{name}") for name in names}
    return About(
        repo=settings.to,
        kind=artifact.kind,
        license=settled(settings.license or card.get("license"), base_model),
        base_model=base_model,
        dataset=dataset,
        settings={told: run[name] for name, told in TOLD.items() if is_told(name, run)},
        report=None if settings.evaluation is None else load_report(settings.evaluation),
        is_xl="XL" in index.get("_class_name", ""),
        distilled=index.get("distilled_scales") or {},
        recommended={name: value for name, value in recommended.items() if value is not None},
        has_example=has_example,
        has_fp16=settings.fp16,
    )


def is_told(name: str, run: dict[str, Any]) -> bool:
    """Whether a setting of a training says anything: it is set, and of use to what was trained."""
    return run.get(name) is not None and (name != "lora_rank" or run.get("train") == "lora")


def own_card(root: Path) -> dict[str, Any]:
    """The metadata of the card that a folder has; empty where it has none."""
    path = root / "README.md"
    if not path.is_file() or not re.match(r"---\n", path.read_text(encoding="utf-8")):
        return {}
    try:
        return ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    except (ValueError, YAMLError) as error:
        raise ValueError(f"{path} begins with metadata that can't be read: mend or remove it.") from error


def check_metadata(card: Path, written: Path) -> None:
    """Raise ValueError where a dataset's card has metadata that can't be read.

    written: the card that somebody wrote, which is the one to mend
    """
    try:
        DatasetCard.load(card)
    except (ValueError, YAMLError) as error:
        raise ValueError(f"{written} begins with metadata that can't be read: mend or remove it.") from error


def first(value: Any) -> str | None:
    """A text, alone or the first of a list."""
    if isinstance(value, list):
        return str(value[0]) if value else None
    return None if value is None else str(value)


def stale(there: list[str], files: dict[str, Path]) -> Iterator[str]:
    """Of a repository's files those that an earlier publication left in the folders that are written anew."""
    folders = {name.partition("/")[0] for name in files if "/" in name}
    for name in there:
        if name.partition("/")[0] in folders and "/" in name and name not in files:
            yield name

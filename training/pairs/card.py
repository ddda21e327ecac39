"""The card of a dataset of pairs: README.md, as the Hub and `datasets` read it."""

import json
import shlex
from pathlib import Path
from typing import Any

from datasets import DatasetInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData

from ..markdown import one_line, table
from .features import EXAMPLES, KEPT, PICTURES

SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}
COLUMNS = {
    "original_prompt": "caption of the picture before; empty where it is not known",
    "original_image": "the picture before",
    "edit_prompt": "the instruction",
    "edited_prompt": "caption of the picture after; empty where it is not known",
    "edited_image": "the picture after",
    "inverse_prompt": "the instruction that leads back from the picture after to the one before, where it is known",
    "mask": "where the edit may happen, white, and elsewhere black; null where it may happen everywhere",
    "original_caption_similarity": "CLIP similarity of the picture before and its caption",
    "edited_caption_similarity": "CLIP similarity of the picture after and its caption",
    "image_similarity": "CLIP similarity of the two pictures",
    "directional_similarity": "CLIP similarity of the change between the pictures and that between the captions",
    "seed": "seed of the noise that both pictures began with",
    "p": "share of the denoising steps under Prompt-to-Prompt",
    "guidance_scale": "classifier-free guidance of both pictures",
    "kind": "kind of edit, where it is known",
    "triplet_id": "names the triplet; its pairs have one id",
    "candidate": "number of the pair among the triplet's candidates",
    "source": "how the pair came about",
}
VERDICTS = {
    KEPT: "kept",
    "original_caption": "the picture before is too unlike its caption",
    "edited_caption": "the picture after is too unlike its caption",
    "image": "the two pictures are too unlike each other",
    "direction": "the pictures don't change as the captions do",
    "nsfw": "judged unsafe",
    "same_seed": "a better pair has the same seed",
    "beyond_best": "the triplet has enough better pairs",
    "not_finite": "its scores are no numbers",
}
MODELS = ("model", "vae", "clip_model", "clip_pretrained")  # settings that may name a path
SOURCES = {
    "original": "the layout of InstructPix2Pix's own code (Brooks et al., 2023, https://arxiv.org/abs/2211.09800)",
    "magicbrush": "MagicBrush (Zhang et al., 2023, https://arxiv.org/abs/2306.10012)",
    "folder": "a folder of pictures with a CSV file",
    "rendered": "the renderer of ip2p's shapes world",
}


def made_card(folder: Path, settings: dict[str, Any], report: dict[str, Any]) -> str:
    """The card of pairs that were made."""
    about = [
        "Pairs of pictures for instructions, made as InstructPix2Pix made its own "
        "(Brooks et al., 2023, https://arxiv.org/abs/2211.09800): for each triplet of caption, instruction and edited "
        "caption, pairs were drawn by Stable Diffusion with Prompt-to-Prompt, and filtered by CLIP.",
        "",
        "The pictures are a model's, with its flaws and its biases; the license of the model that drew them applies.",
        "",
        "# Counts",
        "",
        f"{report['triplets']:,} triplets, {report['with_pairs']:,} with pairs, {report['failed']:,} failed; "
        f"{report['candidates']:,} candidates, {report['kept']:,} kept.",
        "",
        *table("candidates", {f"{VERDICTS.get(name, name)}": count for name, count in report["verdicts"].items()}),
        *table("pairs, by kind", {told(kind or "none"): count for kind, count in report["kinds"].items()}),
        "# Settings",
        "",
        "All that the rows depend on:",
        "",
        "| | |",
        "|---|---|",
        *(f"| `{name}` | {told(without_place(name, value))} |" for name, value in settings.items()),
        "",
        "All candidates with their scores and verdicts are in `candidates/`.",
        "",
    ]
    return card(folder, report["examples"], about, ["instruct-pix2pix", "image-editing", "synthetic"])


def imported_card(folder: Path, source: str, identity: dict[str, Any], report: dict[str, Any]) -> str:
    """The card of pairs that others made."""
    about = [
        f"Pairs of pictures for instructions, imported from {SOURCES[source]}.",
        "",
        *(
            [
                "Its license is CC BY 4.0. Its dev and test splits are a benchmark: its authors ask that they never "
                "appear in training data.",
                "",
            ]
            if source == "magicbrush"
            else []
        ),
        "# Counts",
        "",
        f"{report['units']:,} entries read, {report['examples']:,} pairs.",
        "",
        *table("skipped", report["skipped"]),
        "# Source",
        "",
        "| | |",
        "|---|---|",
        *(f"| `{name}` | {told(Path(value).name if name == 'from' else value)} |" for name, value in identity.items()),
        "",
    ]
    license_name = "cc-by-4.0" if source == "magicbrush" else None
    return card(folder, report["examples"], about, ["instruct-pix2pix", "image-editing"], license_name)


def card(folder: Path, examples: int, about: list[str], tags: list[str], license_name: str | None = None) -> str:
    """A card: metadata, what it is about, its columns, and how to train on it."""
    name = folder.resolve().name or "pairs"
    place = f"./{name}"  # not the bare name: that may be a builder's of `datasets`, or a repository's
    lines = [
        f"# {told(name)}",
        "",
        *about,
        "# Columns",
        "",
        "| | | |",
        "|---|---|---|",
        *(f"| `{each}` | {kind(each)} | {COLUMNS[each]} |" for each in EXAMPLES),
        "",
        "What is not known is null.",
        "",
        "# Use",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'dataset = load_dataset({json.dumps(place)}, split="train")  # from the folder that holds this one',
        "```",
        "",
        "To fine-tune by diffusers' own script, `examples/instruct_pix2pix/train_instruct_pix2pix.py`:",
        "",
        "```bash",
        "accelerate launch train_instruct_pix2pix.py \\",
        "  --pretrained_model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5 \\",
        f"  --dataset_name {shlex.quote(place)} \\",
        "  --original_image_column original_image --edited_image_column edited_image \\",
        "  --edit_prompt_column edit_prompt \\",
        "  --resolution 256 --train_batch_size 4 --gradient_accumulation_steps 4 \\",
        "  --max_train_steps 15000 --learning_rate 5e-05 --lr_warmup_steps 0 \\",
        "  --conditioning_dropout_prob 0.05 --mixed_precision fp16 --seed 42",
        "```",
        "",
    ]
    return f"---\n{metadata(name, examples, tags, license_name)}\n---\n\n" + "\n".join(lines)


def metadata(name: str, examples: int, tags: list[str], license_name: str | None = None) -> str:
    """The card's YAML.

    It tells the columns but not the number of rows: `datasets` refuses a dataset that has another than it is told, such
    as one that grows.
    """
    data = DatasetCardData(
        license=license_name,
        pretty_name=one_line(name),
        task_categories=["image-to-image", "text-to-image"],
        size_categories=[next((size for limit, size in SIZES.items() if examples < limit), "10M<n<100M")],
        tags=tags,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    )
    DatasetInfosDict({"default": DatasetInfo(features=EXAMPLES)}).to_dataset_card_data(data)
    return data.to_yaml().strip()


def kind(column: str) -> str:
    """The type of a column's values."""
    return "image" if column in PICTURES else str(EXAMPLES[column].dtype)


def without_place(name: str, value: Any) -> Any:
    """A setting's value; of a model on the maker's machine only the last part of its path."""
    if name not in MODELS or not isinstance(value, str):
        return value
    path = value.removeprefix("local-dir:")
    return Path(path).name if path.startswith(("/", ".", "~")) or Path(path).exists() else value


def told(value: Any) -> str:
    """A value as part of a table or a heading, whatever is in it."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>|#~$!" else letter for letter in one_line(text))

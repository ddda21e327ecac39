"""The card: metadata that the Hub's own library reads, and texts that stay texts."""

import re
from itertools import pairwise
from pathlib import Path

import yaml
from datasets import Features, load_dataset
from huggingface_hub import DatasetCard
from ip2p.training.pairs.card import imported_card, made_card
from ip2p.training.pairs.features import EXAMPLES
from pairs_data import make_run

REPORT = {
    **{"triplets": 1200, "failed": 2, "with_pairs": 900, "candidates": 120000, "kept": 2500, "examples": 2500},
    "verdicts": {"kept": 2500, "direction": 117500},
    "kinds": {"add": 2000, "": 500},
}


def test_the_metadata_is_what_the_hub_reads(tmp_path: Path) -> None:
    card = DatasetCard(made_card(tmp_path / "birds", {"model": "tiny"}, REPORT))
    data = card.data.to_dict()
    assert data["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    assert Features._from_yaml_list(data["dataset_info"]["features"]) == EXAMPLES
    assert data["size_categories"] == ["1K<n<10K"]
    assert "image-to-image" in data["task_categories"] and "instruct-pix2pix" in data["tags"]
    assert "splits" not in data["dataset_info"]


def test_the_body_tells_counts_columns_and_how_to_train(tmp_path: Path) -> None:
    card = made_card(tmp_path / "birds", {"model": "tiny", "min_image_similarity": 0.75}, REPORT)
    assert "1,200 triplets, 900 with pairs, 2 failed; 120,000 candidates, 2,500 kept." in card
    assert "| `min_image_similarity` | 0.75 |" in card
    assert all(f"| `{column}` |" in card for column in EXAMPLES)
    command = re.search(r"accelerate launch (.*?)```", card, re.DOTALL)
    assert command is not None
    words = command[1].replace("\\\n", " ").split()
    given = dict(pairwise(words))
    assert given["--dataset_name"] == "./birds"
    assert {given[f"--{name}_column"] for name in ("original_image", "edited_image", "edit_prompt")} <= set(EXAMPLES)


def test_paths_of_the_makers_machine_stay_private(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    settings = {"model": "/home/alice/sd15", "vae": str(tmp_path / "here"), "clip_model": "local-dir:/home/alice/clip"}
    card = made_card(tmp_path / "birds", settings, REPORT)
    assert "alice" not in card and str(tmp_path) not in card
    assert "| `model` | sd15 |" in card and "| `vae` | here |" in card and "| `clip_model` | clip |" in card
    assert "| `model` | user/sd15 |" in made_card(tmp_path / "birds", {"model": "user/sd15"}, REPORT)


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    name = "a: [b]\n---\n<script>x</script> | $(rm) `c`"
    card = made_card(tmp_path / "x", {"model": name}, REPORT | {"kinds": {name: 3}})
    assert "<script>" not in card and card.count("\n---\n") == 1
    folder = tmp_path / "it's $(x): | <b>"
    text = made_card(folder, {}, REPORT)
    assert yaml.safe_load(text.split("---\n")[1])["pretty_name"] == folder.name
    assert "--dataset_name './it'\"'\"'s $(x): | <b>'" in text


def test_magicbrush_tells_its_license(tmp_path: Path) -> None:
    report = {"units": 3, "examples": 2, "skipped": {"missing file": 1}}
    identity = {"layout": "magicbrush", "from": "/home/me/dev", "rows": "0"}
    card = DatasetCard(imported_card(tmp_path, "magicbrush", identity, report))
    assert card.data.to_dict()["license"] == "cc-by-4.0"
    assert "missing file | 1" in card.text and "/home/me" not in card.text
    assert "license" not in DatasetCard(imported_card(tmp_path, "folder", identity, report)).data.to_dict()


def test_a_card_that_is_behind_does_not_spoil_loading(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_run(folder, 4, 2)
    card = (folder / "README.md").read_text()
    make_run(folder, 8, 2)
    (folder / "README.md").write_text(card)
    assert len(load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))) > 0

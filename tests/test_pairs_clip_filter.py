"""CLIP scores against the formulas in plain Python, each rule of the filter, and which models are loaded how."""

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from ip2p.training.pairs import clip_filter
from ip2p.training.pairs.candidates import PairTriplet, Rendered, Scores
from ip2p.training.pairs.clip_filter import ClipScorer, direction_similarity, verdicts
from ip2p.training.pairs.filter_settings import FilterSettings, Thresholds, thresholds
from ip2p.training.shapes.clip import new_clip, save_weights
from open_clip.transformer import QuickGELU
from PIL import Image
from tiny_models import picture

TRIPLET = PairTriplet(
    "a red circle in the middle, on white", "make it blue", "a blue circle in the middle, on white", "recolor"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP in open_clip's format."""
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    model, _ = new_clip(path)
    save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return ClipScorer(str(folder), None)


def pixels(seed: int) -> np.ndarray:
    return np.asarray(picture(seed, 80, 48))


def rendered() -> list[Rendered]:
    """Two groups of two candidates."""
    return [
        Rendered(pixels(0), [pixels(1), pixels(2)], [None, None]),
        Rendered(pixels(3), [pixels(4), pixels(5)], [None, None]),
    ]


# Scores.


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def difference(after: list[float], before: list[float]) -> list[float]:
    """Between the features scaled to length 1."""
    return [x / math.hypot(*after) - y / math.hypot(*before) for x, y in zip(after, before, strict=True)]


@torch.no_grad()
def test_scores_are_the_formulas_candidate_by_candidate(folder: Path, scorer: ClipScorer) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def text(prompt: str) -> list[float]:
        return model.encode_text(tokenizer([prompt]))[0].tolist()

    def image(array: np.ndarray) -> list[float]:
        return model.encode_image(preprocess(Image.fromarray(array))[None])[0].tolist()

    expected = []
    t0, t1 = text(TRIPLET.original_prompt), text(TRIPLET.edited_prompt)
    for group in rendered():
        i0 = image(group.source)
        for i1 in map(image, group.targets):
            direction = cosine(difference(i1, i0), difference(t1, t0))
            expected.append([cosine(i0, t0), cosine(i1, t1), cosine(i0, i1), direction])
    scores = scorer.score(TRIPLET, rendered())
    assert len({score for row in expected for score in row}) == 4 * 4 - 2  # a source has one caption similarity
    assert np.allclose([list(vars(each).values()) for each in scores], expected, atol=1e-5)


def test_each_source_is_encoded_once_and_in_batches(folder: Path, scorer: ClipScorer) -> None:
    small = ClipScorer(f"local-dir:{folder}", "openai", batch_size=4)  # a folder's weights are its own
    batches: list[int] = []
    small.model.visual.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    few, many = small.score(TRIPLET, rendered()), scorer.score(TRIPLET, rendered())
    assert batches == [4, 2]
    assert np.allclose(*([list(vars(each).values()) for each in scores] for scores in (few, many)), atol=1e-5)


def test_a_score_survives_being_stored_as_float32(scorer: ClipScorer) -> None:
    for each in scorer.score(TRIPLET, rendered()):
        assert all(float(np.float32(score)) == score for score in vars(each).values())


def test_where_nothing_changes_the_direction_is_zero(scorer: ClipScorer) -> None:
    same_picture = [Rendered(pixels(0), [pixels(0), pixels(1)], [None, None])]
    still, changed = scorer.score(TRIPLET, same_picture)
    assert still.directional_similarity == 0 and still.image_similarity == 1
    assert changed.directional_similarity != 0
    same_caption = PairTriplet(TRIPLET.original_prompt, "do nothing", TRIPLET.original_prompt)
    assert all(each.directional_similarity == 0 for each in scorer.score(same_caption, rendered()))


def test_a_change_as_small_as_rounding_has_no_direction() -> None:
    changes = torch.tensor([[1e-8, 0.0], [0.01, 0.0]], dtype=torch.float64)
    ahead = torch.tensor([0.5, 0.0], dtype=torch.float64)
    assert direction_similarity(changes, ahead).tolist() == [0, 1]
    assert direction_similarity(changes, ahead * 1e-8).tolist() == [0, 0]


def test_a_caption_that_is_too_long_is_cut(scorer: ClipScorer) -> None:
    long = " ".join(["a red circle in the middle and"] * 40)
    as_long = PairTriplet(long, "add a star", f"{long} a blue star")
    assert all(each.directional_similarity == 0 for each in scorer.score(as_long, rendered()))  # cut, they are alike


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_scores_about_the_same(folder: Path, scorer: ClipScorer, dtype: torch.dtype) -> None:
    half = ClipScorer(str(folder), None, dtype=dtype).score(TRIPLET, rendered())
    for ours, exact in zip(half, scorer.score(TRIPLET, rendered()), strict=True):
        assert abs(ours.image_similarity - exact.image_similarity) < 0.05
        assert abs(ours.original_caption_similarity - exact.original_caption_similarity) < 0.05


def test_features_that_are_no_numbers_give_a_verdict_of_their_own(folder: Path) -> None:
    broken = ClipScorer(str(folder), None)
    next(broken.model.visual.parameters()).fill_(torch.nan)
    scores = broken.score(TRIPLET, rendered())
    assert all(math.isnan(each.directional_similarity) for each in scores)
    assert verdicts(scores, [1, 1, 2, 2], FilterSettings()) == ["not_finite"] * 4


# Verdicts.


def scored(direction: float = 0.5, original: float = 0.5, edited: float = 0.5, image: float = 0.9) -> Scores:
    return Scores(original, edited, image, direction)


def test_each_rule_turns_away_by_its_name_and_the_thresholds_themselves_pass() -> None:
    scores = [
        scored(original=0.19, edited=0.0, image=0.0, direction=0.0),  # the first rule that it breaks
        scored(edited=0.19, image=0.0),
        scored(image=0.74, direction=0.0),
        scored(direction=0.19),
        scored(0.9),
        scored(original=0.2, edited=0.2, image=0.75, direction=0.2),
        scored(image=math.inf),
        scored(original=0.0, direction=math.nan),
    ]
    unsafe = [True, False, False, False, True, False, True, False]
    assert verdicts(scores, list(range(8)), FilterSettings(), unsafe) == [
        "original_caption",
        "edited_caption",
        "image",
        "direction",
        "nsfw",
        "kept",
        "not_finite",
        "not_finite",
    ]


def test_the_best_of_each_seed_are_kept_up_to_the_most() -> None:
    directions = [0.3, 0.4, 0.9, 0.8, 0.5, 0.5, 0.6, 0.7]
    seeds = [1, 1, 2, 2, 3, 4, 5, 2]
    scores = [scored(direction) for direction in directions]
    assert verdicts(scores, seeds, FilterSettings()) == [
        "beyond_best",  # better ones of its seed are not kept either
        "beyond_best",
        "kept",
        "same_seed",
        "kept",
        "kept",
        "kept",
        "same_seed",
    ]
    two = verdicts(scores, seeds, FilterSettings(max_per_triplet=2))
    assert [n for n, word in enumerate(two) if word == "kept"] == [2, 6]
    assert [n for n, word in enumerate(two) if word == "same_seed"] == [3, 7]
    pairs_of_a_seed = FilterSettings(max_per_seed=2, max_per_triplet=3)
    kept = [n for n, word in enumerate(verdicts(scores, seeds, pairs_of_a_seed)) if word == "kept"]
    assert kept == [2, 3, 6]


def test_of_equal_ones_the_first_is_kept() -> None:
    assert verdicts([scored()] * 3, [7, 7, 8], FilterSettings(max_per_triplet=1)) == [
        "kept",
        "same_seed",
        "beyond_best",
    ]


def test_one_that_is_unsafe_leaves_its_place_to_the_next() -> None:
    scores = [scored(0.9), scored(0.8), scored(0.7)]
    assert verdicts(scores, [1, 1, 1], FilterSettings(), [True, False, False]) == ["nsfw", "kept", "same_seed"]


# Settings.


def test_thresholds_are_those_of_the_model_where_none_is_set() -> None:
    assert thresholds(FilterSettings()) == Thresholds(caption=0.2, image=0.75, direction=0.2)
    chosen = FilterSettings(min_image_similarity=0.7, min_caption_similarity=0.0)
    assert thresholds(chosen) == Thresholds(caption=0.0, image=0.7, direction=0.2)


def test_thresholds_of_shapes_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Thresholds(caption=0.31, image=0.32, direction=0.33)
    monkeypatch.setattr("ip2p.training.pairs.filter_settings.SHAPES_THRESHOLDS", own)
    assert thresholds(FilterSettings(clip_model="shapes")) == own
    assert thresholds(FilterSettings(clip_model="shapes", min_directional_similarity=-1)).direction == -1


@pytest.mark.parametrize("name", ["min_caption_similarity", "max_per_triplet", "max_per_seed"])
def test_settings_out_of_range_are_refused_by_their_flag(name: str) -> None:
    with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
        FilterSettings(**{name: 1.5 if name.startswith("min") else 0})
    with pytest.raises(ValueError, match="--" + name.replace("_", "-")):
        FilterSettings(**{name: math.nan if name.startswith("min") else -1})


def test_the_settings_import_nothing_heavy() -> None:
    code = "import sys, ip2p.training.pairs.filter_settings; assert not {'torch', 'open_clip'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# Models.


def test_shapes_is_the_clip_of_the_package(
    folder: Path, scorer: ClipScorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(clip_filter, "SHAPES_CLIP", folder)
    assert ClipScorer("shapes", "openai").score(TRIPLET, rendered()) == scorer.score(TRIPLET, rendered())
    monkeypatch.setattr(clip_filter, "SHAPES_CLIP", tmp_path)
    with pytest.raises(ValueError, match=r"has no open_clip_config\.json"):
        ClipScorer("shapes", None)


@pytest.mark.parametrize("named", ["tag", "file"])
def test_a_model_by_name_has_the_activation_that_its_weights_were_trained_with(
    named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-B", config)
    save_weights(open_clip.create_model("tiny-B"), tmp_path)
    file = str(tmp_path / "open_clip_model.safetensors")
    tag = {"file": file, "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-B", {"openai": tag})

    scorer = ClipScorer("tiny/B", "OpenAI" if named == "tag" else file)
    assert any(isinstance(part, QuickGELU) for part in scorer.model.modules()) == (named == "tag")
    mean = tuple(scorer.preprocess.transforms[-1].mean)
    assert mean == ((0.1, 0.2, 0.3) if named == "tag" else open_clip.OPENAI_DATASET_MEAN)
    assert len(scorer.score(TRIPLET, rendered())) == 4


@pytest.mark.parametrize(
    ("model", "pretrained", "told"),
    [
        ("ViT-L-41", "openai", "no CLIP model ViT-L-41"),
        ("local-dir:/nowhere", None, "no open_clip_config"),
        ("ViT-L-14", "laion9b", "no weights laion9b for ViT-L-14.*openai, laion400m_e31"),
        ("ViT-L-14", None, "--clip-pretrained"),
        ("ViT-L-14", "openai", "ViT-L-14 can't be loaded: .*Where the Hub can't be reached, give a folder"),
        ("hf-hub:nobody/nothing", None, "hf-hub:nobody/nothing can't be loaded: .*Hub"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_in_a_line(
    model: str, pretrained: str | None, told: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as outside pytest
    with pytest.raises(ValueError, match=told) as caught:
        ClipScorer(model, pretrained)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == []


def copy_without_weights(folder: Path, to: Path) -> None:
    for file in folder.glob("*.json"):
        (to / file.name).write_bytes(file.read_bytes())


def test_pickled_weights_are_not_opened(folder: Path, scorer: ClipScorer, tmp_path: Path) -> None:
    copy_without_weights(folder, tmp_path)
    torch.save(scorer.model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no open_clip_model\.safetensors.*pickled"):
        ClipScorer(str(tmp_path), None)
    with pytest.raises(ValueError, match="a \\.safetensors file"):
        ClipScorer("RN50", str(tmp_path / "open_clip_pytorch_model.bin"))


def test_damaged_weights_are_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    copy_without_weights(folder, tmp_path)
    whole = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="can't be loaded") as caught:
        ClipScorer(str(tmp_path), None)
    assert "\n" not in str(caught.value)


def test_a_folder_cannot_make_its_tokenizer_run_code(folder: Path, tmp_path: Path) -> None:
    copy_without_weights(folder, tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes((folder / "open_clip_model.safetensors").read_bytes())
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    with pytest.raises(ValueError, match="can't be loaded"):
        ClipScorer(str(tmp_path), None)
    assert not (tmp_path / "ran").exists()

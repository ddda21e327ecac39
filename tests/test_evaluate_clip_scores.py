"""CLIP's scores of edits: known answers, and plain numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluate_data import clip, samples
from ip2p.training.evaluate.clip_scores import Captions, ClipJudge
from ip2p.training.shapes.render import render

EDITS = [sample.edit for sample in samples(8) if sample.edit is not None]
BEFORE = [render(edit.source) for edit in EDITS]
AFTER = [render(edit.target) for edit in EDITS]
CAPTIONS = [(edit.original_prompt, edit.edited_prompt) for edit in EDITS]


@pytest.fixture(scope="module")
def judge() -> ClipJudge:
    return clip(as_published=True)


def test_they_equal_plain_numpy(judge: ClipJudge) -> None:
    model, scorer = judge.scorer.model, judge.scorer
    with torch.no_grad():
        rows = judge.score(BEFORE, AFTER, CAPTIONS)
        for row, before, after, captions in zip(rows, BEFORE, AFTER, CAPTIONS, strict=True):
            pixels = torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in (before, after)]).float() / 255
            mean, std = (
                np.array(each).reshape(1, 3, 1, 1) for each in (model.visual.image_mean, model.visual.image_std)
            )
            images = model.encode_image(((pixels - torch.tensor(mean)) / torch.tensor(std)).float()).double().numpy()
            texts = model.encode_text(scorer.tokenizer(list(captions))).double().numpy()
            images, texts = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (images, texts))
            change, told = images[1] - images[0], texts[1] - texts[0]
            assert row["image_similarity"] == pytest.approx(images[0] @ images[1], abs=1e-5)
            assert row["caption_similarity"] == pytest.approx(images[1] @ texts[1], abs=1e-5)
            cosine = change @ told / np.linalg.norm(change) / np.linalg.norm(told)
            assert row["directional_similarity"] == pytest.approx(cosine, abs=1e-5)


def test_the_published_mode_has_the_originals_defect(judge: ClipJudge) -> None:
    visual = judge.scorer.model.visual
    row = judge.score(BEFORE[:1], AFTER[:1], CAPTIONS[:1])[0]
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (visual.image_mean, visual.image_std))
    pictures = [torch.from_numpy(each[0]).permute(2, 0, 1)[None].float() / 255 * 2 - 1 for each in (BEFORE, AFTER)]
    with torch.no_grad():
        features = [visual((F.interpolate(each, 64, mode="bicubic") - mean) / std) for each in pictures]
    expected = F.cosine_similarity(*features).item()
    assert row["image_similarity_as_published"] == pytest.approx(expected, abs=1e-5)
    assert row["image_similarity_as_published"] != pytest.approx(row["image_similarity"], abs=1e-3)


def test_no_edit_is_the_same_picture_that_changed_nowhere(judge: ClipJudge) -> None:
    for row in judge.score(BEFORE, BEFORE, CAPTIONS):
        assert row["image_similarity"] == pytest.approx(1) and row["directional_similarity"] == 0


def test_right_edits_go_the_captions_way_and_swapped_ones_the_other(judge: ClipJudge) -> None:
    right = judge.score(BEFORE, AFTER, CAPTIONS)
    swapped = judge.score(AFTER, BEFORE, CAPTIONS)
    for one, other in zip(right, swapped, strict=True):
        assert one["directional_similarity"] == pytest.approx(-other["directional_similarity"], abs=1e-6)
    assert np.mean([row["directional_similarity"] for row in right]) > 0.5


def test_without_captions_only_pictures_are_compared(judge: ClipJudge) -> None:
    captionless = judge.score(BEFORE[:2], AFTER[:2], [("", ""), ("a", "")])
    assert all(set(row) == {"image_similarity", "image_similarity_as_published"} for row in captionless)


def test_the_caption_after_is_enough_to_look_for_what_it_says(judge: ClipJudge) -> None:
    [row] = judge.score(BEFORE[:1], AFTER[:1], [("", CAPTIONS[0][1])])
    [both] = judge.score(BEFORE[:1], AFTER[:1], CAPTIONS[:1])
    assert row["caption_similarity"] == pytest.approx(both["caption_similarity"])
    assert "directional_similarity" not in row


def test_what_changed_is_looked_for_by_its_own_caption_and_the_change_by_those_of_whole_pictures(
    judge: ClipJudge,
) -> None:
    before, after = CAPTIONS[0]
    [row] = judge.score(BEFORE[:1], AFTER[:1], [Captions(before, after, "a red circle")])
    [whole] = judge.score(BEFORE[:1], AFTER[:1], [(before, after)])
    [alone] = judge.score(BEFORE[:1], AFTER[:1], [("", "a red circle")])
    assert row["caption_similarity"] == pytest.approx(alone["caption_similarity"]) != whole["caption_similarity"]
    assert row["directional_similarity"] == pytest.approx(whole["directional_similarity"])


@pytest.mark.parametrize("captions", [("", ""), ("a", ""), ("", "a"), ("a", "b"), ("a", "", "c")])
def test_what_an_edit_gets_is_known_before(captions: tuple[str, ...], judge: ClipJudge) -> None:
    [row] = judge.score(BEFORE[:1], AFTER[:1], [Captions(*captions)])
    assert set(row) == judge.names(Captions(*captions))

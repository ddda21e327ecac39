"""Settings without meaning are told in a sentence."""

from typing import Any

import pytest
from finetune_data import settings
from ip2p.training.finetune.settings import INDIFFERENT, FinetuneSettings


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": 0}, "--steps is at least 1"),
        ({"held_out": -1}, "--held-out is at least 0"),
        ({"drop_text": 1.5}, "--drop-text is a share"),
        ({"drop_text": 0.5, "drop_both": 0.6}, "together at most 1"),
        ({"learning_rate": float("nan")}, "--learning-rate is a number above 0"),
        ({"min_snr_gamma": -5.0}, "--min-snr-gamma is a number above 0"),
        ({"resolution": 100}, "--resolution is a multiple of 8"),
        ({"resolution": 64, "resize_max": 32}, "--resize-max is at least the resolution"),
        ({"ema_decay": 1.0}, "--ema-decay is below 1"),
        ({"train": "layers"}, "--layers names"),
        ({"layers": ["attn2"]}, "--layers names"),
        ({"train": "lora", "train_text_encoder": True}, "not with a LoRA"),
        ({"streaming": True, "cache": True}, "not with --streaming"),
    ],
)
def test_what_has_no_meaning_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        settings(**given)


def test_the_papers_dropout_is_the_default() -> None:
    assert (FinetuneSettings().drop_text, FinetuneSettings().drop_image, FinetuneSettings().drop_both) == (0.05,) * 3


def test_what_may_change_in_a_run_are_settings() -> None:
    assert all(hasattr(FinetuneSettings(), name) for name in INDIFFERENT)
    assert not {"seed", "batch_size", "learning_rate", "model", "resolution"} & set(INDIFFERENT)

"""Which commits an evaluation had."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from ip2p.training.evaluate.commits import commits


def test_they_are_those_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    for folder, commit in (
        ("models--me--editor", "a" * 40),
        ("datasets--me--pairs", "b" * 40),
        ("models--my--run", "c"),
    ):
        refs = tmp_path / "hub" / folder / "refs"
        refs.mkdir(parents=True)
        (refs / "main").write_text(commit)
    (tmp_path / "my" / "run").mkdir(parents=True)  # on this machine, whatever the Hub has by that name
    models = {"me/editor", "me/other", "my/run", "shapes", "/models/editor"}
    assert commits(models, "me/pairs") == {"me/editor": "a" * 40, "me/pairs": "b" * 40}
    assert commits(set(), "shapes") == {}

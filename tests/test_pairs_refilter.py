"""Candidates judged again by other thresholds, with few or none rendered again."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from ip2p.training.pairs.candidates import SeedGroup
from ip2p.training.pairs.local_engine import LocalEngine
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.renderer import Renderer
from ip2p.training.pairs.run import make_pairs
from PIL import Image
from tiny_runs import TRIPLETS, rows, tiny_settings, without_pictures

pytest_plugins = ["pairs_fixtures"]


@pytest.fixture(scope="module")
def earlier(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a few of its blocks merged and a part besides, of five of the eight triplets."""
    folder = tmp_path_factory.mktemp("earlier") / "pairs"

    class Stopping(LocalEngine):
        def run(self, settings: Any, work: Any) -> Any:
            for place, part in super().run(settings, work):
                if place == 5:
                    raise KeyboardInterrupt
                yield place, part

    with pytest.raises(KeyboardInterrupt):
        make_pairs(TRIPLETS, folder, tiny_settings(models, image_format="png"), Stopping(), shard_triplets=2)
    assert list((folder / "parts").iterdir()) and list((folder / "candidates").iterdir())
    return folder


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Sequence[SeedGroup]]]:
    """What is rendered: captions and groups."""
    seen: list[tuple[str, Sequence[SeedGroup]]] = []
    whole = Renderer.render

    def render(self: Renderer, original: str, edited: str, groups: Sequence[SeedGroup]) -> Any:
        seen.append((original, groups))
        return whole(self, original, edited, groups)

    monkeypatch.setattr(Renderer, "render", render)
    return seen


def close(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> bool:
    """Whether rows are the same, and their pictures to the rounding of a batch."""
    for row, other in zip(one, two, strict=True):
        for name in ("original_image", "edited_image"):
            if (row[name] is None) != (other[name] is None):
                return False
            if row[name] is not None:
                pixels = [np.asarray(Image.open(BytesIO(each[name]))).astype(int) for each in (row, other)]
                if np.abs(pixels[0] - pixels[1]).max() > 1:
                    return False
    return without_pictures(one) == without_pictures(two)


def test_stricter_thresholds_choose_among_what_is_there(
    models: dict[str, str], earlier: Path, tmp_path: Path, rendered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    least = median(row["directional_similarity"] for row in rows(earlier))
    settings = tiny_settings(models, image_format="png", min_directional_similarity=least, max_per_triplet=1)
    monkeypatch.setattr(PairMaker, "scorer", None)  # nothing is scored again
    again = tmp_path / "again"
    report = make_pairs(TRIPLETS[:5], again, settings, LocalEngine(), earlier=earlier)
    assert rendered == []
    assert 0 < report["kept"] <= 5 and report["verdicts"]["direction"]
    monkeypatch.undo()
    make_pairs(TRIPLETS[:5], tmp_path / "fresh", settings, LocalEngine())
    assert rows(again) == rows(tmp_path / "fresh")


def test_looser_ones_render_only_winners_without_pictures(
    models: dict[str, str], earlier: Path, tmp_path: Path, rendered: list[Any]
) -> None:
    settings = tiny_settings(models, image_format="png", max_per_triplet=5, max_per_seed=2)
    make_pairs(TRIPLETS[:5], tmp_path / "again", settings, LocalEngine(), earlier=earlier)
    assert sum(len(group.ps) for _, groups in rendered for group in groups) == 5 * (5 - 2)
    make_pairs(TRIPLETS[:5], tmp_path / "fresh", settings, LocalEngine())
    assert close(rows(tmp_path / "again"), rows(tmp_path / "fresh"))


def test_triplets_that_the_earlier_run_lacks_are_made(
    models: dict[str, str], earlier: Path, tmp_path: Path, rendered: list[Any]
) -> None:
    make_pairs(TRIPLETS, tmp_path, tiny_settings(models, image_format="png"), LocalEngine(), earlier=earlier)
    assert [caption for caption, _ in rendered] == [triplet.original_prompt for triplet in TRIPLETS[5:]]
    assert rows(tmp_path)[: 5 * 6] == rows(earlier)


def odd(pictures: Sequence[np.ndarray]) -> list[bool]:
    """An NSFW check that turns down about half of all pictures, whatever the rounding of a batch did to them."""
    return [int(picture.mean()) % 2 == 1 for picture in pictures]


def test_a_new_nsfw_check_is_asked_of_winners_until_they_are_safe(
    models: dict[str, str], earlier: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(models, image_format="png", nsfw_check=f"{__name__}:odd")
    make_pairs(TRIPLETS[:5], tmp_path / "again", settings, LocalEngine(), earlier=earlier)
    make_pairs(TRIPLETS[:5], tmp_path / "fresh", settings, LocalEngine())
    kept = [[row for row in rows(tmp_path / name) if row["verdict"] == "kept"] for name in ("again", "fresh")]
    assert close(*kept) and kept[0]
    assert "nsfw" in {row["verdict"] for row in rows(tmp_path / "again")}


def test_candidates_that_no_nsfw_check_saw_are_checked_once_they_win(
    models: dict[str, str], earlier: Path, tmp_path: Path
) -> None:
    checked = {"image_format": "png", "nsfw_check": f"{__name__}:odd"}
    few = tiny_settings(models, **checked, max_per_triplet=1)
    more = tiny_settings(models, **checked, max_per_triplet=5, max_per_seed=2)
    make_pairs(TRIPLETS[:5], tmp_path / "few", few, LocalEngine(), earlier=earlier)
    make_pairs(TRIPLETS[:5], tmp_path / "again", more, LocalEngine(), earlier=tmp_path / "few")
    make_pairs(TRIPLETS[:5], tmp_path / "fresh", more, LocalEngine())
    names = ("few", "again", "fresh")
    beaten, again, fresh = ([row for row in rows(tmp_path / each) if row["verdict"] == "kept"] for each in names)
    assert len(again) > len(beaten)
    assert close(again, fresh)


@pytest.mark.parametrize(("changed", "name"), [({"steps": 3}, "steps"), ({"seed": 1}, "seed")])
def test_a_run_drawn_otherwise_is_refused(
    models: dict[str, str], earlier: Path, tmp_path: Path, changed: dict[str, int], name: str
) -> None:
    settings = tiny_settings(models, image_format="png", **changed)
    with pytest.raises(ValueError, match=f"can't be judged again: its {name} is"):
        make_pairs(TRIPLETS, tmp_path, settings, LocalEngine(), earlier=earlier)


def test_other_triplets_are_refused(models: dict[str, str], earlier: Path, tmp_path: Path) -> None:
    settings = tiny_settings(models, image_format="png")
    with pytest.raises(ValueError, match="its triplet 0 is another one"):
        make_pairs(TRIPLETS[::-1], tmp_path, settings, LocalEngine(), earlier=earlier)
    with pytest.raises(ValueError, match="can't be judged again in place"):
        make_pairs(TRIPLETS, earlier, settings, LocalEngine(), earlier=earlier)
    with pytest.raises(ValueError, match="There is no run of `ip2p dataset pairs`"):
        make_pairs(TRIPLETS, tmp_path / "new", settings, LocalEngine(), earlier=tmp_path / "nowhere")

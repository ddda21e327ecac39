"""`ip2p dataset show`: a sample of a dataset and its statistics, for pairs as a page, too."""

from pathlib import Path

import pyarrow.parquet as pq

from ..training.files import write_whole
from .dataset import show as show_triplets
from .pairs_data_settings import ShowDatasetSettings
from .report import say


def show(settings: ShowDatasetSettings) -> int:
    """Print a sample of a dataset, or write its page. Gives the exit status."""
    if holds_pairs(settings.dataset):
        return show_pairs(settings)
    if settings.html is not None:
        raise ValueError(f"--html is for datasets of pairs, and {settings.dataset} is none.")
    return show_triplets(settings)


def holds_pairs(path: Path) -> bool:
    """Whether a folder or a file is a dataset of pairs."""
    if path.is_dir():
        return any((path / name).is_dir() for name in ("data", "parts", "candidates"))
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        return "edited_image" in pq.read_schema(path).names
    except (ValueError, OSError):
        return False


def show_pairs(settings: ShowDatasetSettings) -> int:
    """Print a sample of pairs and what became of the candidates."""
    from ..training.pairs.card import VERDICTS
    from ..training.pairs.page import page
    from ..training.pairs.sample import sample_triplets
    from ..training.pairs.shards import shards
    from ..training.pairs.tally import Tally, count_examples, count_run

    dataset = settings.dataset
    if settings.html is not None:
        if settings.html.is_dir():
            raise ValueError(f"{settings.html} is a folder: name the page itself.")
        write_whole(settings.html, page(dataset, settings.sample, settings.seed).encode())
        say(f"{settings.html}")
        return 0
    files = shards(dataset / "data") if dataset.is_dir() else [dataset]
    if dataset.is_dir():
        tally = count_run(dataset)
    else:
        tally = Tally()
        count_examples(tally, dataset)
    say(f"{dataset}  {tally.examples:,} pairs\n")
    for rows in sample_triplets(files, settings.sample, settings.seed):
        first = rows[0]
        say(f"{first.get('original_prompt') or 'no caption'}\n  → {first.get('edit_prompt')}")
        say(f"  = {first.get('edited_prompt') or 'no caption'}  ({len(rows)} pair{'s' if len(rows) > 1 else ''})\n")
    if tally.triplets:
        failed = sum(tally.problems.values())
        say(f"{tally.triplets:,} triplets, {tally.with_pairs:,} with pairs, {failed:,} failed")
        total = sum(tally.verdicts.values())
        for name, count in tally.verdicts.most_common():
            say(f"{count / total:7.1%}  {VERDICTS.get(name, name)}")
    if set(tally.kinds) - {""}:
        told = (f"{kind or 'none'} {count / tally.examples:.1%}" for kind, count in tally.kinds.most_common())
        say("kinds: " + ", ".join(told))
    say("\n--html page.html writes a page with the pictures.")
    return 0

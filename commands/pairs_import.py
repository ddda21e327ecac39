"""`ip2p dataset import`: pairs that others made, in our format."""

from pathlib import Path

from ..training.pairs.importers import Layout, import_pairs
from .pairs_data_settings import ImportSettings
from .report import say


def import_dataset(settings: ImportSettings) -> int:
    """Import a dataset. Gives the exit status."""
    folder = Path(settings.output or f"pairs-{settings.layout}")
    report = import_pairs(find_layout(settings), folder, settings.shard_rows)
    skipped = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped.most_common())
    say(
        f"{folder}  {report.examples:,} pairs"
        + (f"; skipped: {skipped}, see {folder / 'report.json'}" if skipped else "")
        + f". Look at them: ip2p dataset show {folder} --html page.html"
    )
    return 0


def find_layout(settings: ImportSettings) -> Layout:
    """The dataset as its layout reads it."""
    if settings.layout == "magicbrush":
        from ..training.pairs.import_magicbrush import magicbrush

        return magicbrush(settings.source, settings.split)
    path = Path(settings.source).expanduser()
    if settings.layout == "csv":
        from ..training.pairs.import_csv import CsvLayout

        return CsvLayout(path)
    from ..training.pairs.import_original import OriginalLayout

    return OriginalLayout(path)

"""Which commits an evaluation had of what it took from the Hub: there the same name may be another content tomorrow."""

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name


def commits(models: Iterable[str], data: str) -> dict[str, str]:
    """The commit of each model and of the data, by their names; without what is on this machine, or a stream that
    kept nothing."""
    found = {}
    for kind, name in [*(("model", name) for name in sorted(models)), ("dataset", data)]:
        if name.count("/") != 1 or Path(name).expanduser().exists():
            continue
        known = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind) / "refs" / "main"
        if known.is_file():
            found[name] = known.read_text().strip()
    return found

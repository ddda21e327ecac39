"""Fetching from the Hub: pipelines, LoRAs and datasets, whole, checked, and without pickles."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tqdm import tqdm

from ..ip2p_pipeline.loading import PICKLES, REFUSED, check_folder
from .artifact import LORA
from .errors import told
from .settings import PullSettings

Say = Callable[[str], None]
DATA = (".parquet", ".json", ".jsonl", ".csv", ".md", ".txt", ".png", ".jpg")
MODEL = (".json", ".safetensors", ".txt", ".model", ".md", ".png", ".jpg")
BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file of a repository: its path there, its size, and its hash: SHA-256 of a large file, else git's."""

    name: str
    size: int
    sha256: str | None
    git: str


def pull(settings: PullSettings, say: Say) -> Path:
    """Fetch a repository, and give where it is. Raises ValueError, OSError or ConnectionError, in a sentence."""
    with told(settings.repo):
        if settings.offline:
            return from_cache(settings)
        api = HfApi(library_name="ip2p")
        repo_type, info = look_up(api, settings)
        files = [
            Remote(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None, each.blob_id or "")
            for each in info.siblings
        ]
        wanted = chosen(files, settings, repo_type)
        if settings.trust_remote_code:
            for line in code_told(files, settings, info.sha):
                say(line)
        place = destination(settings, wanted, repo_type)
        root = fetch(wanted, settings, repo_type, info.sha, place)
    if repo_type == "model" and any(file.name == "model_index.json" for file in wanted):
        check_folder(root)
    return root


def look_up(api: HfApi, settings: PullSettings) -> tuple[str, Any]:
    """Which kind of repository it is, and what the Hub tells of it."""
    kinds = ["dataset"] if settings.dataset else ["model", "dataset"]
    for kind in kinds[:-1]:
        try:
            return kind, api.repo_info(settings.repo, repo_type=kind, revision=settings.revision, files_metadata=True)
        except RepositoryNotFoundError:
            continue
    return kinds[-1], api.repo_info(settings.repo, repo_type=kinds[-1], revision=settings.revision, files_metadata=True)


def chosen(files: Sequence[Remote], settings: PullSettings, repo_type: str) -> list[Remote]:
    """The files to fetch: no pickles, no code unless it is trusted, and of variants the one that is asked for.

    Raises ValueError for names that would leave a folder, and where there are weights as pickles only.
    """
    for file in files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or "\\" in file.name or ":" in file.name or "\0" in file.name:
            raise ValueError(
                f"{settings.repo} has a file named {file.name!r}, which would leave its folder: it is refused."
            )
    suffixes = DATA if repo_type == "dataset" else MODEL
    kept = [file for file in files if PurePosixPath(file.name).suffix in suffixes or file.name == "LICENSE"]
    if repo_type == "dataset":
        if not any(file.name.endswith(".parquet") for file in kept):
            raise ValueError(f"{settings.repo} has no Parquet files: only datasets in Parquet are fetched.")
        return kept
    weights = [file for file in kept if file.name.endswith(".safetensors")]
    if not weights:
        if any(PurePosixPath(file.name).suffix in PICKLES for file in files):
            raise ValueError(f"{settings.repo} has its weights only as {REFUSED}")
        raise ValueError(f"{settings.repo} has no weights in safetensors.")
    kept = of_variant(kept, settings)
    if settings.trust_remote_code:
        kept += [file for file in files if file.name.endswith(".py")]
    return kept


def of_variant(files: list[Remote], settings: PullSettings) -> list[Remote]:
    """Without the weights of other variants: of each folder of weights those that are asked for, or else all."""

    def is_variant(file: Remote, name: str) -> bool:
        return f".{name}." in PurePosixPath(file.name).name or f".{name}-" in PurePosixPath(file.name).name

    variants = ("fp16", "bf16", "non_ema", "ema_only")
    if settings.variant is None:
        return [file for file in files if not any(is_variant(file, name) for name in variants)]
    if not any(is_variant(file, settings.variant) for file in files):
        raise ValueError(f"{settings.repo} has no variant {settings.variant}: leave --variant out.")
    having = {PurePosixPath(file.name).parent for file in files if is_variant(file, settings.variant)}
    return [
        file
        for file in files
        if is_variant(file, settings.variant)
        or not file.name.endswith((".safetensors", ".safetensors.index.json"))
        or PurePosixPath(file.name).parent not in having | {PurePosixPath(".")}
    ]


def code_told(files: Sequence[Remote], settings: PullSettings, commit: str) -> list[str]:
    """What would run where a program trusts the repository's code."""
    code = [file for file in files if file.name.endswith(".py")]
    if not code:
        return [f"{settings.repo} has no code."]
    return [
        f"Code of {settings.repo} at {commit[:12]}, which runs where it is asked for with trust_remote_code; read it:",
        *(f"  {file.name}  {file.size:,} bytes" for file in code),
    ]


def destination(settings: PullSettings, files: Sequence[Remote], repo_type: str) -> Path | None:
    """The folder to fetch into; None for the Hub's cache."""
    if settings.comfyui is None:
        return settings.output
    models = settings.comfyui / "models"
    if not models.is_dir():
        raise FileNotFoundError(f"{settings.comfyui} is no ComfyUI: it has no folder models.")
    if repo_type == "dataset":
        raise ValueError("ComfyUI has no place for datasets: give --output.")
    name = settings.repo.partition("/")[2]
    return models / ("loras" if is_lora(files) else "diffusers") / name


def is_lora(files: Sequence[Remote]) -> bool:
    """Whether a repository holds a LoRA."""
    names = {file.name for file in files}
    return LORA in names and "model_index.json" not in names


def fetch(files: Sequence[Remote], settings: PullSettings, repo_type: str, commit: str, place: Path | None) -> Path:
    """Fetch file by file, each whole and checked before the next, and give the folder."""
    total = sum(file.size for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"from {settings.repo}") as bar:
        for file in files:
            path = Path(
                hf_hub_download(settings.repo, file.name, repo_type=repo_type, revision=commit, local_dir=place)
            )
            if not is_whole(path, file):
                path.resolve().unlink()
                raise OSError(
                    f"{file.name} did not arrive as the Hub has it, and was removed: run the same command again."
                )
            bar.update(file.size)
            root = path.parents[len(PurePosixPath(file.name).parts) - 1]
    if place is not None:
        return place
    # Now that all is there, let the cache know what the branch is.
    hf_hub_download(settings.repo, files[0].name, repo_type=repo_type, revision=settings.revision or "main")
    return root


def is_whole(path: Path, file: Remote) -> bool:
    """Whether a file is the one that the Hub has, by its hash."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is None:
        content = path.read_bytes()
        return not file.git or hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.git
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def from_cache(settings: PullSettings) -> Path:
    """Where the cache has a repository. Raises FileNotFoundError where it has not, or lacks a part."""
    kind = "dataset" if settings.dataset else "model"
    try:
        root = Path(snapshot_download(settings.repo, repo_type=kind, revision=settings.revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(f"{settings.repo} is not in the Hub's cache on this machine.") from error
    if (root / "model_index.json").is_file():
        try:
            check_folder(root)
        except ValueError as error:
            raise FileNotFoundError(
                f"{settings.repo} is not whole in the Hub's cache ({error}) Fetch it again."
            ) from error
    return root

"""Fetching from the Hub: pipelines, LoRAs and datasets, whole, checked, and without pickles."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tqdm import tqdm

from ..ip2p_pipeline.loading import PICKLES, REFUSED, check_folder
from .artifact import LORA
from .errors import told
from .settings import PullSettings

Say = Callable[[str], None]
DATA = (".parquet", ".json", ".jsonl", ".csv", ".md", ".txt", ".png", ".jpg")
MODEL = (".json", ".safetensors", ".txt", ".model", ".md", ".png", ".jpg")
WEIGHTS = (".safetensors", ".safetensors.index.json")
BLOCK = 1 << 20
PIPELINE = Path(__file__).parent.parent / "ip2p_pipeline"
MOST_TEXT = 200_000_000  # bytes of a file that is read at once, such as a configuration; tokenizers have some millions


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
        for line in code_told(files, settings, info.sha):
            say(line)
        place = destination(settings, wanted, repo_type)
        missing = [file for file in wanted if not is_there(file, settings, repo_type, info.sha, place)]
        check_room(missing, place or Path(HF_HUB_CACHE), settings.repo)
        root = fetch(wanted, settings, repo_type, info.sha, place)
    if repo_type == "model" and is_pipeline(wanted):
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
        check_name(file, settings.repo)
    suffixes = DATA if repo_type == "dataset" else MODEL
    kept = [file for file in files if PurePosixPath(file.name).suffix in suffixes or file.name == "LICENSE"]
    kept = [file for file in kept if not any(part.startswith(".") for part in PurePosixPath(file.name).parts)]
    for file in kept:
        if file.size > MOST_TEXT and file.name.endswith((".json", ".txt", ".model", ".md")):
            raise ValueError(f"{settings.repo} has {file.name} of {file.size:,} bytes, which is refused as too large.")
    if repo_type == "dataset":
        if not any(file.name.endswith(".parquet") for file in kept):
            raise ValueError(f"{settings.repo} has no Parquet files: only datasets in Parquet are fetched.")
        return kept
    if is_pipeline(kept):  # its folders have the weights; a single file beside them has them once more
        kept = [file for file in kept if "/" in file.name or not file.name.endswith(WEIGHTS)]
    if not any(file.name.endswith(".safetensors") for file in kept):
        if any(PurePosixPath(file.name).suffix in PICKLES for file in files):
            raise ValueError(f"{settings.repo} has its weights only as {REFUSED}")
        raise ValueError(f"{settings.repo} has no weights in safetensors.")
    kept = of_variant(kept, settings)
    if settings.trust_remote_code:
        kept += [file for file in files if file.name.endswith(".py")]
    return kept


def check_name(file: Remote, repo: str) -> None:
    """Raise ValueError for a name that would leave its folder, or that a terminal might obey."""
    path = PurePosixPath(file.name)
    if path.is_absolute() or ".." in path.parts or any(letter in file.name for letter in "\\:\0"):
        raise ValueError(f"{repo} has a file named {file.name!r}, which would leave its folder: it is refused.")
    if not file.name.isprintable():
        raise ValueError(f"{repo} has a file named {file.name!r}, with unprintable letters: it is refused.")


def is_there(file: Remote, settings: PullSettings, repo_type: str, commit: str, place: Path | None) -> bool:
    """Whether a file lies in the folder, or in the cache, in its size."""
    if place is None:
        path = try_to_load_from_cache(settings.repo, file.name, repo_type=repo_type, revision=commit)
    else:
        path = str(place / file.name)
    return isinstance(path, str) and Path(path).is_file() and Path(path).stat().st_size == file.size


def check_room(files: Sequence[Remote], place: Path, repo: str) -> None:
    """Raise ValueError where a disk has not the room for all that is to be fetched."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    needed, free = sum(file.size for file in files), shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(f"{repo} has {needed:,} bytes to fetch, and {there} room for {free:,}.")


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
        or not file.name.endswith(WEIGHTS)
        or PurePosixPath(file.name).parent not in having
    ]


def code_told(files: Sequence[Remote], settings: PullSettings, commit: str) -> list[str]:
    """What would run where a program trusts the repository's code, and whether it is this package's own."""
    code = [file for file in files if file.name.endswith(".py")]
    if not code:
        return [f"{settings.repo} has no code."] if settings.trust_remote_code else []
    if not settings.trust_remote_code:
        return [f"{settings.repo} has code, {code[0].name} and the like, which stays there: see --trust-remote-code."]
    lines = [f"  {file.name}  {file.size:,} bytes{', the same as in this ip2p' * is_ours(file)}" for file in code]
    return [
        f"Code of {settings.repo} at {commit[:12]}, which runs where it is asked for with trust_remote_code; read it:",
        *lines,
    ]


def is_ours(file: Remote) -> bool:
    """Whether a file of code is the one that this package publishes."""
    own = PIPELINE / file.name
    return own.is_file() and is_whole(own, file)


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
    kind = "diffusers" if is_pipeline(files) else "loras" if is_lora(files) else "checkpoints"
    return models / kind / name


def is_pipeline(files: Sequence[Remote]) -> bool:
    """Whether a repository holds a pipeline in diffusers' layout."""
    return any(file.name == "model_index.json" for file in files)


def is_lora(files: Sequence[Remote]) -> bool:
    """Whether a repository holds a LoRA."""
    return any(file.name == LORA for file in files)


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
        return not file.git or git_hash(path.read_bytes()) == file.git
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest() == file.sha256


def git_hash(content: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def from_cache(settings: PullSettings) -> Path:
    """Where the cache has a repository. Raises FileNotFoundError where it has not, or lacks a part."""
    for kind in ("dataset",) if settings.dataset else ("model", "dataset"):
        root = cached(settings, kind)
        if root is not None:
            break
    else:
        at = f" at {settings.revision}" if settings.revision else ""
        raise FileNotFoundError(
            f"{settings.repo}{at} is not in the Hub's cache on this machine: fetch it once without --offline."
        )
    if (root / "model_index.json").is_file():
        try:
            check_folder(root)
        except ValueError as error:
            raise FileNotFoundError(
                f"{settings.repo} is not whole in the Hub's cache ({error}) Fetch it again."
            ) from error
    return root


def cached(settings: PullSettings, kind: str) -> Path | None:
    """The folder of a repository in the cache: of a dataset that has all its Parquet files, of a model with weights.

    Not all files of a model need be there: its other variants and its code are not fetched either.
    """
    data = "*.parquet" if kind == "dataset" else None
    try:
        found: str | None = snapshot_download(
            settings.repo, repo_type=kind, revision=settings.revision, allow_patterns=data, local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        found = None if data else getattr(error, "snapshot_path", None)
    return Path(found) if found and any(Path(found).rglob(data or "*.safetensors")) else None

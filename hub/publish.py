"""Publishing to the Hub: what is listed, nothing else, and a broken upload goes on where it was."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard
from tqdm import tqdm

from .artifact import find_artifact
from .errors import told
from .settings import PublishSettings, SpaceSettings
from .space import stage_space
from .staging import stage, stale

Say = Callable[[str], None]


@dataclass(frozen=True)
class Destination:
    """Where on the Hub, and how."""

    repo: str
    repo_type: str
    private: bool
    branch: str | None = None
    pr: bool = False
    message: str | None = None


def publish(settings: PublishSettings, say: Say) -> str | None:
    """Publish a folder, and give the address of the commit or pull request; None for a dry run.

    Raises ValueError, OSError or ConnectionError, in a sentence.
    """
    with TemporaryDirectory() as aside:
        files = stage(settings, Path(aside))
        if settings.dry_run:
            for line in listing(files):
                say(line)
            say("")
            say(files["README.md"].read_text(encoding="utf-8"))
            return None
        repo_type = "dataset" if find_artifact(settings.folder, settings.what).kind == "dataset" else "model"
        destination = Destination(
            settings.to, repo_type, settings.private, settings.branch, settings.pr, settings.message
        )
        with told(settings.to):
            return upload(files, destination)


def publish_space(settings: SpaceSettings, say: Say) -> str | None:
    """Publish the web page of a model, and give its address; None for a dry run.

    Raises ValueError, OSError or ConnectionError, in a sentence.
    """
    with TemporaryDirectory() as aside:
        files = stage_space(settings, Path(aside))
        if settings.dry_run:
            for line in listing(files):
                say(line)
            return None
        with told(settings.to):
            upload(files, Destination(settings.to, "space", settings.private))
        return f"{HfApi().endpoint}/spaces/{settings.to}"


def listing(files: dict[str, Path]) -> list[str]:
    """The files with their sizes, a line each, and together."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    width = max(map(len, sizes))
    lines = [f"{name:<{width}}  {size:>15,} bytes" for name, size in sizes.items()]
    return [*lines, f"{len(sizes)} files, {sum(sizes.values()):,} bytes"]


def upload(files: dict[str, Path], to: Destination) -> str:
    """Upload large files one by one, which the Hub keeps, and then commit all at once."""
    api, repo, repo_type, branch = HfApi(library_name="ip2p"), to.repo, to.repo_type, to.branch
    sdk = "gradio" if repo_type == "space" else None
    RepoCard.load(files["README.md"]).validate(repo_type)  # before gigabytes are sent in vain
    api.create_repo(repo, repo_type=repo_type, private=to.private or None, exist_ok=True, space_sdk=sdk)
    if branch is not None:
        api.create_branch(repo, repo_type=repo_type, branch=branch, exist_ok=True)
    additions = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    total = sum(path.stat().st_size for path in files.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"to {repo}") as bar:
        for addition in additions:
            # One at a time: what is broken off is never more than one file.
            api.preupload_lfs_files(
                repo, [addition], repo_type=repo_type, revision=branch, create_pr=to.pr, num_threads=1
            )
            bar.update(addition.upload_info.size)
    there = api.list_repo_files(repo, repo_type=repo_type, revision=branch)
    commit = api.create_commit(
        repo,
        [*additions, *(CommitOperationDelete(name) for name in stale(there, files))],
        commit_message=to.message or "Publish with ip2p",
        repo_type=repo_type,
        revision=branch,
        create_pr=to.pr,
        num_threads=1,
    )
    return str(commit.pr_url or commit.commit_url)

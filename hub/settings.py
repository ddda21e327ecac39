"""The settings of `ip2p hub`. Nothing heavy is imported here."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..ip2p_pipeline.inside import INSIDE

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_repo(flag: str, repo: str) -> None:
    """Raise ValueError unless a text can name a repository of the Hub."""
    if not REPO.fullmatch(repo) or ".." in repo or "--" in repo or repo.endswith((".git", ".", "-")):
        raise ValueError(f"{flag} is a repository's id like user/name, not {repo!r}.")


@dataclass(kw_only=True)
class PublishSettings:
    """Settings of `ip2p hub publish`."""

    folder: Path
    """What to publish: a run of `ip2p train`, a diffusers folder, a LoRA's folder, or a dataset of pairs."""
    to: str = ""
    """The repository on the Hub, as user/name. It is made where there is none."""
    what: Literal["pipeline", "lora"] = "pipeline"
    """Of a run that trained a LoRA: the whole pipeline with it merged, or the LoRA alone."""
    private: bool = False
    """Make a new repository private. One that is there stays as it is."""
    branch: str | None = None
    """Publish to this branch, which is made where there is none. Default: main."""
    pr: bool = False
    """Open a pull request instead of committing."""
    dry_run: bool = False
    """Only list what would be published, with sizes, and write the card to the terminal. The Hub is asked at most for
    the base model's kind and license."""
    fp16: bool = False
    """Of a pipeline: add the variant fp16, weights in half precision, which users load with variant="fp16"."""
    license: str | None = None
    """The license, as the Hub names it. Default: that of the base model, or of the card in the folder."""
    base_model: str | None = None
    """What the model was trained from, an id on the Hub. Default: what the run's settings or the folder's card say."""
    dataset: str | None = None
    """What it was trained on, an id on the Hub. Default: what the run's settings or the folder's card say."""
    evaluation: Path | None = None
    """A report of `ip2p evaluate`, its folder: its figures go into the card."""
    example: Path | None = None
    """A picture of edits to show in the card. Default: the run's last sheet of held-out edits."""
    message: str | None = None
    """The commit's message."""

    def __post_init__(self) -> None:
        check_repo("--to", self.to)
        if self.branch is not None and not re.fullmatch(r"[\w][\w./-]*", self.branch):
            raise ValueError(f"--branch {self.branch} can't be a branch's name.")


@dataclass(kw_only=True)
class SpaceSettings:
    """Settings of `ip2p hub space`."""

    to: str = ""
    """The Space on the Hub, as user/name. It is made where there is none."""
    model: str = "shapes"
    """The model of the page: "shapes", "shapes-few", or an id on the Hub."""
    private: bool = False
    """Make a new Space private. One that is there stays as it is."""
    dry_run: bool = False
    """Only list what would be published, with sizes. Asks nothing of the Hub."""

    def __post_init__(self) -> None:
        check_repo("--to", self.to)
        if self.model not in INSIDE:
            check_repo("--model", self.model)


@dataclass(kw_only=True)
class PullSettings:
    """Settings of `ip2p hub pull`."""

    repo: str
    """The repository on the Hub, as user/name."""
    output: Path | None = None
    """A folder to put it into. Default: the Hub's own cache, where `--model user/name` finds it."""
    comfyui: Path | None = None
    """ComfyUI's folder: a pipeline goes to its models/diffusers, a LoRA to models/loras, a single file to
    models/checkpoints."""
    revision: str | None = None
    """A branch, tag or commit. Default: main."""
    dataset: bool = False
    """It is a dataset. Default: a model, or what there is under that name."""
    variant: str | None = None
    """Of a pipeline: these weights instead of the full ones, such as fp16."""
    trust_remote_code: bool = False
    """Fetch Python files, too. They run only where a program asks for them, as diffusers does with custom_pipeline."""
    offline: bool = False
    """Ask nothing of the network: tell whether all of it is in the Hub's cache."""

    def __post_init__(self) -> None:
        check_repo("REPO", self.repo)
        if self.output is not None and self.comfyui is not None:
            raise ValueError("Give --output or --comfyui, not both.")
        if self.offline and (self.output is not None or self.comfyui is not None):
            raise ValueError("--offline is about the Hub's cache: leave --output and --comfyui out.")

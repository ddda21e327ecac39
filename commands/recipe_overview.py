"""The stages of a recipe on a terminal: state, progress, time and figures, drawn over as they change."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .recipe_progress import Progress

State = Literal["waiting", "running", "done", "as before", "stopped", "failed"]
COLORS = {"running": "bold cyan", "done": "green", "as before": "green", "failed": "bold red", "stopped": "yellow"}


@dataclass
class Row:
    """A stage as it is shown."""

    name: str
    state: State = "waiting"
    seconds: float = 0.0
    figures: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    since: float = 0.0

    def begin(self, earlier: float = 0.0) -> None:
        """From now on it runs; it did so for some seconds before."""
        self.state, self.since, self.progress = "running", time.monotonic() - earlier, Progress()

    def spent(self) -> float:
        """The seconds that it has run."""
        return time.monotonic() - self.since

    def end(self, state: State, figures: dict[str, str] | None = None, seconds: float | None = None) -> None:
        """It came to an end, in so many seconds if not in those since it began."""
        self.seconds = self.spent() if seconds is None else seconds
        self.state, self.figures = state, figures or {}

    def told(self) -> tuple[str, str, str]:
        """Progress or figures, and the time, in words."""
        if self.state == "running":
            bar = "█" * round(10 * self.progress.share)
            return f"{bar:·<10} {self.progress.share:.0%}", self.progress.text, clock(self.spent())
        told = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        return "", told, "" if self.state == "waiting" else clock(self.seconds)


class Overview:
    """All stages: a table that is drawn over on a terminal; elsewhere a line for each change."""

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.rows = {name: Row(name) for name in names}
        self.live = Live(console=self.console, get_renderable=self.table, refresh_per_second=4)

    def __enter__(self) -> "Overview":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def changed(self, row: Row) -> None:
        """A stage began or ended."""
        if not self.console.is_terminal:
            _, told, spent = row.told()
            words = (row.name, row.state, told if row.state != "running" else "", spent if row.seconds else "")
            self.console.print("  ".join(word for word in words if word), highlight=False, markup=False, soft_wrap=True)

    def table(self) -> Table:
        """The stages as they are now."""
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for title, justify in (("stage", "left"), ("", "left"), ("", "left"), ("time", "right"), ("", "left")):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for row in self.rows.values():
            bar, told, spent = row.told()
            table.add_row(row.name, f"[{COLORS.get(row.state, 'dim')}]{row.state}[/]", bar, spent, told)
        return table


def clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"

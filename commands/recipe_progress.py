"""What a stage's process tells while it runs: its progress bar, read, and its messages, kept."""

import re
from collections import deque
from dataclasses import dataclass, field

BAR = re.compile(
    r"(?:(?P<name>[^:|%]*?):?\s*)?(?P<percent>\d+)%\|[^|]*\|\s*(?P<done>[\d.,]+[kMG]?)/(?P<total>[\d.,]+[kMG]?) "
    r"\[(?P<spent>[\d:]+)<(?P<left>[\d:?]+)"
)
KEPT = 20  # messages


@dataclass
class Progress:
    """Where a process is, as its bar tells it.

    share: of the bar that moves, 0 to 1
    text:  that bar's name, count and time left
    """

    share: float = 0.0
    text: str = ""
    messages: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    _rest: str = ""

    def read(self, chunk: str) -> None:
        """Take what came on stderr: bars are drawn over, lines stay."""
        *lines, self._rest = re.split(r"[\r\n]", self._rest + chunk)
        for line in [*lines, self._rest] if "%|" in self._rest else lines:
            found = BAR.search(line)
            if found:
                self.share = int(found["percent"]) / 100
                name = (found["name"] or "").strip()
                self.text = f"{name} {found['done']}/{found['total']}, {found['left']} left".strip()
            elif line.strip():
                self.messages.append(line.strip())

    def told(self) -> str:
        """The last sentence of our own, or the last line of anything; empty where there was none."""
        own = [line for line in self.messages if line.startswith("ip2p: ")]
        last = (own or list(self.messages) or [""])[-1]
        return last.removeprefix("ip2p: ")

"""What a stage's process tells while it runs: its progress bar, read, and its messages, kept."""

import re
from dataclasses import dataclass

BAR = re.compile(
    r"(?:(?P<name>[^:|%]*?):?\s*)?(?P<percent>\d+)%\|[^|]*\|\s*(?P<done>[\d.,]+[kMG]?)/(?P<total>[\d.,]+[kMG]?) "
    r"\[(?P<spent>[\d:]+)<(?P<left>[\d:?]+)"
)
OURS = "ip2p: "  # begins our sentences


@dataclass
class Progress:
    """Where a process is, as its bar tells it.

    share: of the bar that moves, 0 to 1
    text:  that bar's name, count and time left
    sentence, line: the last one of our own, and the last of anything
    """

    share: float = 0.0
    text: str = ""
    sentence: str = ""
    line: str = ""
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
                self.line = line.strip()
                if self.line.startswith(OURS):
                    self.sentence = self.line.removeprefix(OURS)

    def told(self) -> str:
        """The last sentence of our own, however much a launcher adds to it, or the last line of anything; empty where
        there was none."""
        return self.sentence or self.line

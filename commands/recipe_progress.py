"""What a stage's process tells while it runs: its progress bar, read, and its messages, kept."""

import re
from dataclasses import dataclass

BAR = re.compile(
    r"(?:(?P<name>[^:|%]*?):?\s*)?(?P<percent>\d+)%\|[^|]*\|\s*(?P<done>[\d.,]+[kMG]?)/(?P<total>[\d.,]+[kMG]?) "
    r"\[(?P<spent>[\d:]+)<(?P<left>[\d:?]+)"
)
OURS = "ip2p: "  # begins our sentences
ERROR = re.compile(r"(?:\[rank\d+\]:\s*)?(?P<error>[A-Za-z_][\w.]*(?:Error|Exception)\b.*)")
LAUNCHERS = "ChildFailedError"  # torchrun's own, of whatever went wrong in one of its processes
KILLED = re.compile(r"exitcode\s*:\s*-(?P<signal>\d+)")  # as torchrun tells it
ENDED = "15"  # the signal by which torchrun ends the other processes


@dataclass
class Progress:
    """Where a process is, as its bar tells it.

    share:    of the bar that moves, 0 to 1
    text:     that bar's name, count and time left
    sentence: the last one of our own
    error:    the last of Python's, or of a process that was killed
    line:     the last of anything
    """

    share: float = 0.0
    text: str = ""
    sentence: str = ""
    error: str = ""
    line: str = ""
    _rest: str = ""
    _over: bool = False

    def read(self, chunk: str) -> list[str]:
        """Take what came on stderr: bars are drawn over, lines stay; these."""
        stay = []
        *lines, self._rest = re.split(r"[\r\n]", self._rest + chunk)
        for line in [*lines, self._rest] if "%|" in self._rest else lines:
            found = BAR.search(line)
            if found:
                self.share = int(found["percent"]) / 100
                name = (found["name"] or "").strip()
                self.text = f"{name} {found['done']}/{found['total']}, {found['left']} left".strip()
            elif line.strip():
                stay.append(line)
                self.take(line.strip())
        return stay

    def take(self, line: str) -> None:
        """See whether a line tells what went wrong."""
        if line.startswith(OURS):
            self.sentence = line.removeprefix(OURS)
        elif line.startswith("Exception ignored"):
            self._over = True  # what follows comes of the end, and did not bring it about
        elif not self._over and (error := ERROR.match(line)) and LAUNCHERS not in line:
            self.error = error["error"]
        elif (killed := KILLED.search(line)) and killed["signal"] != ENDED:
            self.error = f"one of its processes was killed by signal {killed['signal']}."
        if re.search(r"\w", line):
            self.line = line

    def told(self) -> str:
        """The last sentence of our own, however much a launcher adds to it, or the last error, or the last line of
        anything; empty where there was none."""
        return self.sentence or self.error or self.line

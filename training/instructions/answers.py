"""Raw answers on disk: whatever was paid for is kept as it came, and a killed run goes on from there."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Answers:
    """An append-only file of answers, one JSON object a line, each with the id of its request.

    An answer is on disk when `add` returns. A line that a kill left unfinished is dropped when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.added: Callable[[int], object] = lambda count: None
        """Called with the count of answers whenever some were added, as a progress bar's `update`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a+b")
        self.file.seek(0)
        self.places: dict[str, int] = {}
        end = 0
        for line in self.file:
            if not line.endswith(b"\n"):
                break
            self.places[json.loads(line)["id"]] = end
            end += len(line)
        self.file.truncate(end)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self.places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, request_id: str) -> dict[str, Any]:
        self.file.seek(self.places[request_id])
        return json.loads(self.file.readline())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every answer, in the order in which they came."""
        for request_id in list(self.places):
            yield self[request_id]

    def add(self, *answers: dict[str, Any]) -> None:
        """Append answers, each with its request's `id`, and wait until they are on disk."""
        self.file.seek(0, os.SEEK_END)
        for answer in answers:
            self.places[answer["id"]] = self.file.tell()
            self.file.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.added(len(answers))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

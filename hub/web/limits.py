"""What keeps a public page up: how often a visitor may ask."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

VISITORS = 10_000  # that are remembered


class Rate:
    """At most so many requests of each visitor in a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self.seen: OrderedDict[str, deque[float]] = OrderedDict()
        self.lock = threading.Lock()

    def wait(self, visitor: str) -> float:
        """Count a request; how many seconds its visitor has to wait first, 0 for not at all."""
        with self.lock:
            now = self.clock()
            times = self.seen.setdefault(visitor, deque())
            self.seen.move_to_end(visitor)
            while len(self.seen) > VISITORS:
                self.seen.popitem(last=False)
            while times and times[0] <= now - 60:
                times.popleft()
            if len(times) >= self.per_minute:
                return times[0] + 60 - now
            times.append(now)
            return 0.0

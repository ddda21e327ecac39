"""The page of `ip2p web` under many visitors at once, and what strangers can do to it.

    python benchmarks/web.py [--quick] [--users 50] [--seconds 300]

The shapes model, served by the command in a process of its own. Each visitor has an address, a cookie and a session of
its own, as behind a proxy, and does as a browser does: opens the page, sends a picture, asks for an edit, follows it
step by step, fetches the result, and asks again after a moment; now and then it leaves in the middle.

edits      that visitors asked for and got, of one picture and instruction always the same to the bit, else `other`
polite     refusals by the page itself: the queue is full, or a visitor asks too often
failed     requests that ended in any other way, in the run and in a burst of twice what the queue holds
memory     of the server in the last fifth of the run, in that of the second fifth, at their highest
hostile    requests for others' files, paths outside, oversized and broken ones; those not refused

The last line has the figures.
"""

import argparse
import asyncio
import random
import secrets
import statistics
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

# Instead of this folder.
sys.path[0] = str(Path(__file__).parent.parent / "tests")
from web_server import serve  # noqa: E402
from web_visitor import EDITS, PoliteError, Visitor, taken  # noqa: E402

QUEUE = 64
LEAVE = 0.05  # share of edits that nobody waits for to the end


class Tally:
    """What became of requests."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.results: dict[int, set[bytes]] = defaultdict(set)
        self.waits: list[float] = []

    async def edit(self, visitor: Visitor, number: int, leaves: bool = False) -> None:
        """An edit, counted."""
        began = time.monotonic()
        try:
            made = await visitor.edit(number, leaves)
        except PoliteError:
            self.counts["polite"] += 1
            return
        except Exception as error:
            self.counts["failed"] += 1
            print(f"failed: {type(error).__name__} {error}", flush=True)
            return
        if made is None:
            self.counts["left"] += 1
            return
        self.counts["edits"] += 1
        self.waits.append(time.monotonic() - began)
        self.results[number].add(made)

    def figures(self) -> dict[str, float]:
        """As they are printed."""
        other = sum(len(each) - 1 for each in self.results.values())
        counts = [*((name, self.counts[name]) for name in ("edits", "left", "polite", "failed")), ("other", other)]
        return {name: float(count) for name, count in counts}


async def crowd(address: str, pid: int, users: int, seconds: float) -> dict[str, float]:
    """Visitors for some time."""
    tally, end, rng = Tally(), time.monotonic() + seconds, random.Random(0)
    memory: list[tuple[float, float]] = []

    async def visit(number: int) -> None:
        visitor = Visitor(address, number)
        await asyncio.sleep(rng.uniform(0, 5))
        await visitor.open()
        while time.monotonic() < end:
            await tally.edit(visitor, rng.randrange(len(EDITS)), rng.random() < LEAVE)
            if rng.random() < LEAVE:  # a new tab
                visitor.session = secrets.token_hex(8)
            await asyncio.sleep(rng.uniform(0, 2))
        await visitor.client.aclose()

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append((1 - (end - time.monotonic()) / seconds, resident(pid)))
            await asyncio.sleep(0.5)

    await asyncio.gather(watch(), *(visit(number) for number in range(users)))
    early, late = (max(size for at, size in memory if low <= at < low + 0.2) for low in (0.2, 0.8))
    print(f"crowd: {dict(tally.counts)}, memory {early:.0f} MB early, {late:.0f} MB late", flush=True)
    waits = {"wait_s": statistics.median(tally.waits), "longest_wait_s": max(tally.waits)}
    return {"users": users, **tally.figures(), **waits, "memory": late / early}


async def burst(address: str) -> dict[str, float]:
    """Twice as many requests at once as the queue holds."""
    tally = Tally()
    visitors = [Visitor(address, 1000 + number) for number in range(2 * QUEUE)]
    for visitor in visitors:
        await visitor.open()
    await asyncio.gather(*(tally.edit(visitor, 0) for visitor in visitors))
    print(f"burst: {dict(tally.counts)}", flush=True)
    return {f"burst_{name}": value for name, value in tally.figures().items()}


async def hostile(address: str) -> dict[str, float]:
    """What strangers try."""
    tried = await taken(address)
    not_refused = [name for name, is_taken in tried.items() if is_taken]
    print(f"hostile: {', '.join(tried)}; not refused: {', '.join(not_refused) or 'none'}", flush=True)
    return {"hostile": len(tried), "hostile_not_refused": len(not_refused)}


def resident(pid: int) -> float:
    """A process's memory in MB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 visitors for 15 seconds, and no burst")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.users, arguments.seconds = 10, 15
    with TemporaryDirectory() as folder, serve(Path(folder) / "log", "--queue", str(QUEUE)) as page:
        figures = asyncio.run(crowd(page.address, page.pid, arguments.users, arguments.seconds))
        if not arguments.quick:
            figures |= asyncio.run(burst(page.address))
        figures |= asyncio.run(hostile(page.address))
    print(" ".join(f"{name}={value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()

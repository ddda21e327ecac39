"""Every picture of every method at every position of its dials, made and scored once, whatever the interruptions."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count, groupby

from PIL import Image
from tqdm import tqdm

from ..pairs.candidates import digest
from .metrics import Metrics
from .samples import Sample
from .store import Store, Task


class Sweep:
    """Makes and scores what a store lacks.

    process, processes: which share of the samples; a session's turns stay together
    problems:           what could not be made or scored, and how often
    """

    def __init__(self, store: Store, metrics: Metrics, batch_size: int, process: int = 0, processes: int = 1) -> None:
        self.store, self.metrics, self.batch_size = store, metrics, batch_size
        self.process, self.processes = process, processes
        self.problems: Counter[str] = Counter()

    def run(self, tasks: Sequence[Task], samples: Sequence[Sample]) -> None:
        """Make and score all; each batch is on disk before the next begins."""
        mine = self.share(samples)
        known = {sample.id: sample for sample in samples}
        total = len(tasks) * len(mine)
        done = sum(self.is_done(task.key, sample) for task in tasks for sample in mine)
        with tqdm(total=total, initial=done, desc="evaluating", unit="picture", disable=self.process != 0) as bar:
            for method, mine_of in groupby(tasks, key=lambda task: task.method):
                for task in mine_of:
                    for batch in self.batches(mine, known, 1 if method.one_by_one else self.batch_size):
                        lacking = [sample for sample in batch if not self.is_done(task.key, sample)]
                        for sized in self.of_one_size(task, batch) if lacking else ():
                            self.make(task, sized)
                            self.score(task, sized, lacking)
                        bar.update(len(lacking))
                method.free()

    def share(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples of this process."""
        session: dict[str, int] = {}
        number = count()
        for sample in samples:
            session[sample.id] = next(number) if sample.after is None else session[sample.after]
        return [sample for sample in samples if session[sample.id] % self.processes == self.process]

    def is_done(self, key: str, sample: Sample) -> bool:
        """Whether a picture has all its scores."""
        return self.metrics.names(sample) <= self.store.scores(key, sample.id).keys()

    @staticmethod
    def batches(samples: Sequence[Sample], known: dict[str, Sample], size: int) -> Iterator[list[Sample]]:
        """Samples in batches that are the same in every run, for with others sums round otherwise; of sessions all the
        first turns, then all the second."""
        for turn in turns(samples, known):
            for start in range(0, len(turn), size):
                yield turn[start : start + size]

    def of_one_size(self, task: Task, batch: Sequence[Sample]) -> list[list[tuple[Sample, Image.Image]]]:
        """A batch with its pictures before, by their size. One whose picture can't be had is left out."""
        sizes: dict[tuple[int, int], list[tuple[Sample, Image.Image]]] = {}
        for sample in batch:
            picture = self.before(task, sample)
            if picture is not None:
                sizes.setdefault(picture.size, []).append((sample, picture))
        return list(sizes.values())

    def before(self, task: Task, sample: Sample) -> Image.Image | None:
        """The picture that is edited: the sample's own, or in a session what the turn before made. None where there is
        none, which is counted."""
        if sample.after is not None:
            return self.store.picture(task.key, sample.after)
        return self.opened(sample, sample.picture)

    def opened(self, sample: Sample, read: Callable[[], Image.Image]) -> Image.Image | None:
        """A picture of a sample. None where it can't be had, which is counted."""
        try:
            return read()
        except ValueError as error:
            self.problems[f"{sample.id}: {error}"] += 1
            return None

    def make(self, task: Task, batch: Sequence[tuple[Sample, Image.Image]]) -> None:
        """Edit a batch of which a picture is not yet made, and keep those that are not."""
        lacking = {sample.id for sample, _ in batch if not self.store.has_picture(task.key, sample.id)}
        if not lacking:
            return
        samples, pictures = zip(*batch, strict=True)
        seeds = [int(digest(f"{task.seed}/{sample.id}"), 16) % 2**48 for sample in samples]
        for sample, made in zip(samples, task.method.edit(samples, pictures, task.setting, seeds), strict=True):
            if sample.id in lacking:
                self.store.save_picture(task.key, sample.id, made)

    def score(self, task: Task, batch: Sequence[tuple[Sample, Image.Image]], lacking: Sequence[Sample]) -> None:
        """Score a batch of edits as they are kept, and keep what they lack; where the wanted picture can't be had,
        without the scores to it."""
        known = [(sample, self.store.scores(task.key, sample.id)) for sample, _ in batch if sample in lacking]
        if not known:
            return
        samples, befores = zip(*batch, strict=True)
        afters = [self.store.kept_picture(task.key, sample.id) for sample in samples]
        wanted = [None if sample.wanted is None else self.opened(sample, sample.wanted) for sample in samples]
        rows = self.metrics.lacking(known).score(samples, befores, afters, wanted)
        for sample, scores in zip(samples, rows, strict=True):
            if sample in lacking:
                self.store.add(task.key, sample.id, scores)


def turns(samples: Sequence[Sample], known: dict[str, Sample]) -> Iterator[list[Sample]]:
    """The samples that are edited first, then those that are edited after one of them, and so on."""

    def depth(sample: Sample) -> int:
        return 0 if sample.after is None else 1 + depth(known[sample.after])

    ordered = sorted(samples, key=depth)
    for _, group in groupby(ordered, key=depth):
        yield list(group)

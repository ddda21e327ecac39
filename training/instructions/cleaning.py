"""Cleaning of triplets: rules that turn one away, each named, counted and with its own switch.

The rules are applied in the order of RULES, cheap ones first, and a triplet is counted under the first that drops it.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from itertools import islice, pairwise, product
from math import prod

from .cleaning_rules import TRIPLET_RULES, words
from .triplets import Triplet, digest

RULES = (*TRIPLET_RULES, "near_duplicate", "balance")
EXAMPLES = 5
PERMUTATIONS = 128  # of MinHash
JUDGED_TOGETHER = 1024


@dataclass(kw_only=True)
class CleaningSettings:
    """Which triplets are kept."""

    disable: list[str] | None = None
    """Rules to leave out: unchanged, length, form, restates, unrelated, moderation, near_duplicate, balance."""
    max_instruction_words: int = 30
    """Most words of an instruction."""
    max_restated: float = 0.8
    """Share of the content words of either caption from which an instruction that holds them merely restates it."""
    min_related: float = 0.25
    """Least share of the original caption's content words that the edited caption keeps."""
    near_duplicate: float = 0.75
    """Likeness, above 0 and at most 1, from which a triplet counts as an earlier one again: the Jaccard index of the
    pairs of neighbouring words, multiplied out over caption and instruction."""
    max_kind_share: float | None = None
    """Greatest share of any kind of edit among the kept triplets; of the kinds above it some are dropped, drawn by a
    hash. Default: no limit."""

    def __post_init__(self) -> None:
        for name in self.disable or ():
            if name not in RULES:
                raise ValueError(f"There is no rule {name}: it is one of {', '.join(RULES)}.")
        if self.max_instruction_words < 1:
            raise ValueError(f"--max-instruction-words is at least 1, not {self.max_instruction_words}.")
        for name in ("max_restated", "near_duplicate", "max_kind_share"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is above 0 and at most 1, not {value}.")
        if not 0 <= self.min_related <= 1:
            raise ValueError(f"--min-related is at least 0 and at most 1, not {self.min_related}.")


@dataclass(frozen=True)
class Dropped:
    """A triplet turned away, and why."""

    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    reason: str


@dataclass
class CleaningReport:
    """What cleaning kept and dropped."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Triplets by the rule that turned them away."""
    examples: dict[str, list[Dropped]] = field(default_factory=dict)
    """The first five of each rule."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Kept triplets by kind."""

    def drop(self, rule: str, triplet: Triplet, reason: str) -> None:
        """Count a triplet turned away."""
        self.dropped[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            texts = (triplet.original_prompt, triplet.edit_prompt, triplet.edited_prompt)
            examples.append(Dropped(*texts, reason))


Judge = Callable[[Sequence[str]], list[str]]
"""What texts are flagged for, "" where nothing: `ModerationService.judge`."""


def clean(
    triplets: Iterable[Triplet], settings: CleaningSettings, report: CleaningReport, judge: Judge | None = None
) -> Iterator[Triplet]:
    """The triplets worth keeping, in their order, as a stream.

    triplets: of near duplicates the first is kept; nothing else depends on their order
    report:   filled as the triplets are taken
    judge:    a moderation service, asked of what the other rules let pass

    In memory is a signature of each kept triplet, of about a kilobyte. With `max_kind_share` the kept triplets are laid
    aside in a temporary file, and the first is given when all are there; ValueError where there are too few kinds.
    """
    off = settings.disable or ()
    stream = follow_rules(triplets, settings, report)
    if "near_duplicate" not in off:
        stream = drop_near_duplicates(stream, settings.near_duplicate, report)
    if judge is not None and "moderation" not in off:
        stream = drop_flagged(stream, judge, report)
    if settings.max_kind_share is not None and "balance" not in off:
        stream = balance(stream, settings.max_kind_share, report)
    for triplet in stream:
        report.kept += 1
        report.kinds[triplet.kind] += 1
        yield triplet


def follow_rules(triplets: Iterable[Triplet], settings: CleaningSettings, report: CleaningReport) -> Iterator[Triplet]:
    """The triplets that every rule about a triplet by itself lets pass."""
    rules = {name: rule for name, rule in TRIPLET_RULES.items() if name not in (settings.disable or ())}
    for triplet in triplets:
        report.seen += 1
        for name, rule in rules.items():
            if reason := rule(triplet, settings):
                report.drop(name, triplet, reason)
                break
        else:
            yield triplet


def drop_near_duplicates(triplets: Iterable[Triplet], threshold: float, report: CleaningReport) -> Iterator[Triplet]:
    """The triplets that are like no earlier one: MinHash (Broder 1997) finds which may be, and they are compared.

    MinHash misses some of those barely above the threshold.
    """
    from rensa import RMinHash, RMinHashDeduplicator

    kept = RMinHashDeduplicator(threshold=threshold, num_perm=PERMUTATIONS, use_lsh=True, seed=0)
    for triplet in triplets:
        texts = triplet.original_prompt, triplet.edit_prompt
        signature = RMinHash(num_perm=PERMUTATIONS, seed=0)
        signature.update([f"{one} {two}" for one, two in product(*map(shingles, texts))])
        candidates = map(json.loads, kept.get_duplicates(signature))
        same = next((other for other in candidates if similarity(texts, other) >= threshold), None)
        if same is None:
            kept.add(json.dumps(texts), signature)
            yield triplet
        else:
            caption, instruction = same
            report.drop("near_duplicate", triplet, f"much like {instruction!r} for {caption!r}")


def similarity(one: Sequence[str], two: Sequence[str]) -> float:
    """The Jaccard index of two (caption, instruction), as sets of all pairs of a shingle of each.

    So it is the captions' where the instructions are the same, and the instructions' where the captions are.
    """
    ones, twos = [shingles(text) for text in one], [shingles(text) for text in two]
    common = prod(len(this & that) for this, that in zip(ones, twos, strict=True))
    return common / (prod(map(len, ones)) + prod(map(len, twos)) - common)


def shingles(text: str) -> set[str]:
    """The pairs of neighbouring words of a text but for case and punctuation, its ends being words too."""
    return {f"{one} {two}" for one, two in pairwise(["", *words(text), ""])}


def drop_flagged(triplets: Iterable[Triplet], judge: Judge, report: CleaningReport) -> Iterator[Triplet]:
    """The triplets that a moderation service flags for nothing."""
    triplets = iter(triplets)
    while batch := list(islice(triplets, JUDGED_TOGETHER)):
        texts = ["\n".join((each.original_prompt, each.edit_prompt, each.edited_prompt)) for each in batch]
        for triplet, flags in zip(batch, judge(texts), strict=True):
            if flags:
                report.drop("moderation", triplet, f"the service flags it for {flags}")
            else:
                yield triplet


def balance(triplets: Iterable[Triplet], share: float, report: CleaningReport) -> Iterator[Triplet]:
    """The triplets without so many of any kind that it is above its share. Those of no kind are all kept.

    Raises ValueError where there are too few kinds for that.
    """
    places: dict[str, list[str]] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as laid_aside:
        for triplet in triplets:
            laid_aside.write(json.dumps(astuple(triplet)) + "\n")
            places.setdefault(triplet.kind, []).append(place(triplet))
        most = most_of_a_kind({kind: len(those) for kind, those in places.items()}, share)
        last = {kind: sorted(those)[most - 1] for kind, those in places.items() if kind and len(those) > most}
        laid_aside.seek(0)
        for line in laid_aside:
            triplet = Triplet(*json.loads(line))
            if triplet.kind in last and place(triplet) > last[triplet.kind]:
                report.drop("balance", triplet, f"{triplet.kind} has more than its share of {share:g}")
            else:
                yield triplet


def place(triplet: Triplet) -> str:
    """A hash, by whose order the triplets of a kind are kept."""
    return digest(f"{triplet.original_prompt}\n{triplet.edit_prompt}\n{triplet.edited_prompt}")


def most_of_a_kind(counts: dict[str, int], share: float) -> int:
    """The greatest number such that that many of each kind, at most, are no more than the share of what is left."""
    most = max(counts.values(), default=0)
    while counts:
        left = sum(min(count, most) if kind else count for kind, count in counts.items())
        fair = int(share * left + 1e-6)
        if fair >= most:
            break
        most = fair
    if counts and most == 0:
        kinds = len([kind for kind in counts if kind])
        raise ValueError(
            f"{kinds} kinds of edit can't each be {share:g} of the triplets or less: raise --max-kind-share."
        )
    return most

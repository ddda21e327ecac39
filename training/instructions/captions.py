"""A sample of captions from a dataset or from files, cleaned: the same for a seed whatever the order of the rows."""

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .caption_sources import caption_rows, is_laion
from .triplets import Caption, digest

LONGEST = 1000  # characters of anything that may be a caption
EXAMPLES = 5
LAION_AESTHETIC = 6.5


@dataclass(kw_only=True)
class CaptionSettings:
    """Which captions are taken."""

    num_captions: int = 1000
    """Captions to sample, at most; they are held in memory."""
    column: str | None = None
    """Column of the captions. Default: the only column, or the only one named text, caption or prompt."""
    min_aesthetic: float | None = None
    """Least aesthetic score of a caption's picture, from the source's column of that name. Default: 6.5 for LAION's
    datasets on the Hub (the paper's), none for others."""
    min_caption_words: int = 3
    """Fewest words of a caption."""
    max_caption_words: int = 50
    """Most words of a caption; CLIP reads about that many."""
    disable_caption_rules: list[str] | None = None
    """Rules of cleaning to leave out: characters, markup, boilerplate, contact, url, file_name, symbols, moderation,
    language."""

    def __post_init__(self) -> None:
        if self.num_captions < 1:
            raise ValueError(f"--num-captions is at least 1, not {self.num_captions}.")
        if self.min_aesthetic is not None and not math.isfinite(self.min_aesthetic):
            raise ValueError(f"--min-aesthetic is a number, not {self.min_aesthetic}.")
        if not 1 <= self.min_caption_words <= self.max_caption_words:
            raise ValueError("--min-caption-words is at least 1 and at most --max-caption-words.")
        if self.disable_caption_rules:
            from .caption_rules import RULES

            for name in self.disable_caption_rules:
                if name not in RULES:
                    raise ValueError(f"There is no caption rule {name}: it is one of {', '.join(RULES)}.")


@dataclass
class CaptionReport:
    """What was read, what cleaning did, and what was sampled."""

    read: int = 0
    """Rows."""
    clean: int = 0
    """Captions left after cleaning, repeated ones too."""
    repeated: int = 0
    """Times that a sampled caption came again."""
    sampled: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Captions by the rule that turned them away: those of caption_rules, `aesthetic` and `length`."""
    mended: Counter[str] = field(default_factory=Counter)
    """Captions by the rules that mended them, dropped later or not."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Up to five captions that each rule turned away."""

    def drop(self, rule: str, text: str) -> None:
        """Count a caption turned away."""
        self.dropped[rule] += 1
        examples = self.examples.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(text[:LONGEST])


def sample_captions(
    source: str,
    settings: CaptionSettings,
    seed: int,
    report: CaptionReport | None = None,
    progress: Callable[[int], object] = lambda rows: None,
) -> list[Caption]:
    """A sample of a source's captions, in an order drawn by the seed.

    A caption's place is a hash of the seed and of its text but for case and punctuation, and the first
    `num_captions` are taken: so the sample depends on neither the order of rows nor of files, a smaller one is the
    beginning of a larger one, and captions that differ no more than that count once. All rows are read; in memory are
    those sampled so far.

    source:   a .parquet, .csv, .tsv, .json, .jsonl or .txt file, a folder of one of these kinds or as
              `datasets.save_to_disk` writes it, or a dataset's id on the Hub
    report:   filled as rows are read
    progress: called with 1 at each row

    Raises ValueError and OSError where the source can't be read, lacks the column or has no caption left.
    """
    report = report or CaptionReport()
    chosen: dict[str, tuple[str, int]] = {}  # text and how often it came, by what makes it the same
    last_first: list[tuple[int, str]] = []  # a heap of the places, negative, and keys of `chosen`
    for text in clean_captions(source, settings, report, progress):
        key = " ".join(re.findall(r"\w+", text.casefold()))
        if key in chosen:
            other, times = chosen[key]
            chosen[key] = min(text, other), times + 1
            continue
        entry = (-int(digest(f"{seed}/{key}"), 16), key)
        if len(chosen) < settings.num_captions:
            heapq.heappush(last_first, entry)
        else:
            _, out = heapq.heappushpop(last_first, entry)
            if out == key:
                continue
            del chosen[out]
        chosen[key] = text, 1
    if not chosen:
        why = ", ".join(f"{rule} {count}" for rule, count in report.dropped.most_common())
        raise ValueError(f"{source} has no captions" + (f" left after cleaning ({why})." if why else "."))
    report.sampled = len(chosen)
    report.repeated = sum(times - 1 for _, times in chosen.values())
    return [Caption(chosen[key][0]) for _, key in sorted(last_first, reverse=True)]


def clean_captions(
    source: str, settings: CaptionSettings, report: CaptionReport, progress: Callable[[int], object]
) -> Iterator[str]:
    """The captions of a source that the rules let pass, mended, in the source's order."""
    from .caption_rules import JUDGING, MENDING

    def length(text: str) -> str | None:
        return text if settings.min_caption_words <= len(text.split()) <= settings.max_caption_words else None

    off = settings.disable_caption_rules or ()
    rules = {name: rule for name, rule in (MENDING | {"length": length} | JUDGING).items() if name not in off}
    least = LAION_AESTHETIC if settings.min_aesthetic is None and is_laion(source) else settings.min_aesthetic
    for text, score in caption_rows(source, settings.column, needs_score=settings.min_aesthetic is not None):
        report.read += 1
        progress(1)
        if least is not None and score is not None and not score >= least:
            report.drop("aesthetic", text)
        elif clean := clean_caption(text, rules, report):
            report.clean += 1
            yield clean


def clean_caption(text: str, rules: dict[str, Callable[[str], str | None]], report: CaptionReport) -> str | None:
    """A caption as the rules mend it, or None and counted where one turns it away."""
    clean = text.strip()
    if len(clean) > LONGEST:
        report.drop("length", text)
        return None
    for name, rule in rules.items():
        mended = rule(clean)
        if mended is None:
            report.drop(name, text)
            return None
        if mended != clean:
            report.mended[name] += 1
            clean = mended
    return clean

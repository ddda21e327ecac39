"""What a run of the text stage read, made, dropped and kept, told in Markdown and as JSON."""

import json
from pathlib import Path

from ..files import write_whole
from ..markdown import one_line, table
from .captions import CaptionReport
from .cleaning import CleaningReport
from .run import Parsing


def write_report(folder: Path, captions: CaptionReport, parsing: Parsing, cleaning: CleaningReport) -> None:
    """Write report.json and report.md."""
    told = {"captions": captions, "answers": parsing, "triplets": cleaning}
    write_whole(folder / "report.json", json.dumps(told, indent=2, default=vars).encode())
    write_whole(folder / "report.md", markdown(captions, parsing, cleaning).encode())


def markdown(captions: CaptionReport, parsing: Parsing, cleaning: CleaningReport) -> str:
    """The report for people."""
    lines = ["# Captions", "", f"{captions.read:,} rows read, {captions.sampled:,} captions sampled.", ""]
    lines += table("turned away by", captions.dropped)
    for rule, texts in captions.examples.items():
        lines += [f"**{rule}**", "", *(f"- {one_line(text)}" for text in texts), ""]

    lines += [
        "# Answers",
        "",
        f"{sum(parsing.attempts.values()):,} requests gave a triplet, {parsing.given_up:,} none.",
    ]
    lines += ["", *table("at attempt", {str(key): count for key, count in sorted(parsing.attempts.items())})]
    lines += table("what was wrong with an answer", parsing.bad)

    lines += ["# Triplets", "", f"{cleaning.seen:,} triplets, {cleaning.kept:,} kept.", ""]
    lines += table("dropped by", cleaning.dropped)
    for rule, dropped in cleaning.examples.items():
        lines += [f"**{rule}**", ""]
        for each in dropped:
            lines.append(f"- {one_line(each.edit_prompt)}: {one_line(each.reason)}")
            lines.append(f"  - {one_line(each.original_prompt)} → {one_line(each.edited_prompt)}")
        lines.append("")
    lines += table("kept, by kind", {kind or "none": count for kind, count in cleaning.kinds.most_common()})
    return "\n".join(lines).rstrip() + "\n"

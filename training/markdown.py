"""Markdown of reports and cards."""


def table(title: str, counts: dict[str, int]) -> list[str]:
    """Counts as a Markdown table, nothing where there are none."""
    if not counts:
        return []
    return [f"| {title} | |", "|---|---|", *(f"| {name} | {count:,} |" for name, count in counts.items()), ""]


def one_line(text: str) -> str:
    """A text as part of a line."""
    return " ".join(text.split())

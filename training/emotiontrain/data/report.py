"""What `emotiontrain data` prints: counts by split and class, what cleaning dropped, and how the taggers voted."""

import textwrap
from collections.abc import Iterator, Sequence

from emotiontrain.data import Dataset, Split
from emotiontrain.data.votes import majority

_WIDTH = 100  # characters of a line


def describe(data: Dataset) -> str:
    """Returns the lines, as tables for a terminal."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    by_label = [data.counts(split) for split in splits.values()]
    rows = [[label, *(f"{counts[label]:,}" for counts in by_label)] for label in data.labels]
    side = data.train.pictures.shape[-1]
    lines = [f"{side}x{side} grey, after cleaning:", "",
             *_table([["", *splits], *rows, ["all", *(f"{len(split):,}" for split in splits.values())]])]
    if any(data.dropped.values()):
        lines += ["", "dropped:", ""]
        lines += _dropped(data)
    voted = {name: _describe_votes(split) for name, split in splits.items() if split.votes is not None and len(split)}
    if voted:
        lines += ["", "taggers' votes, on pictures:", "", *_table([
            ["", *voted],
            ["with votes", *(f"{with_votes:,}" for with_votes, _, _ in voted.values())],
            ["with a clear majority", *(f"{clear:,}" for _, clear, _ in voted.values())],
            ["where it is the label", *(f"{same / clear:.1%}" if clear else "-" for _, clear, same in voted.values())],
        ])]
    if data.notes:
        lines += ["", "note:", ""]
        lines += (textwrap.fill(note, _WIDTH, initial_indent="  ", subsequent_indent="    ") for note in data.notes)
    return "\n".join(lines)


def _dropped(data: Dataset) -> Iterator[str]:
    for reason, count in data.dropped.items():
        if count:
            yield f"{count:>7,}  {reason}"
            names = data.examples.get(reason, [])
            if names:
                text = ", ".join(names) + (", ..." if count > len(names) else "")
                yield textwrap.fill(text, _WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9)


def _describe_votes(split: Split) -> tuple[int, int, int]:
    """Returns how many pictures have votes, a clear majority, and one that is the label."""
    assert split.votes is not None
    winner = majority(split.votes)
    return int(split.votes.any(axis=1).sum()), int((winner >= 0).sum()), int((winner == split.labels).sum())


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines with the first column to the left and the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [f"  {row[0]:<{widths[0]}}" + "".join(f"  {cell:>{max(width, 8)}}" for cell, width in
                                               zip(row[1:], widths[1:], strict=True)) for row in rows]

"""What long runs print: quantiles out of /metrics, and tables."""

import re
from collections.abc import Sequence

from tests.support.daemon import Scrape

_BUCKET = re.compile(r'^emotiond_(\w+)_bucket\{([^}]*)\} (\S+)$', re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def quantile(share: float, name: str, before: Scrape, after: Scrape, **labels: str) -> float:
    """Returns a quantile of what a histogram counted between two readings, over all series with these labels.

    It lies within its bucket in proportion, as in PromQL's histogram_quantile; 0 where nothing was counted.
    """
    first, last = _buckets(name, before, labels), _buckets(name, after, labels)
    counts = [(bound, last[bound] - first.get(bound, 0)) for bound in sorted(last)]
    wanted = share * counts[-1][1]
    low, below = 0.0, 0.0
    for bound, count in counts:
        if count >= wanted > 0:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return 0.0


def _buckets(name: str, scrape: Scrape, labels: dict[str, str]) -> dict[float, float]:
    found: dict[float, float] = {}
    for metric, written, value in _BUCKET.findall(scrape.text):
        has = dict(_LABEL.findall(written))
        if metric == name and labels.items() <= has.items():
            bound = float(has["le"])
            found[bound] = found.get(bound, 0) + float(value)
    return found


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns rows as text, each column as wide as it must be, numbers to the right."""
    cells = [list(titles), *([f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    return "\n".join("  ".join(
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in cells)

"""The pieces of a page: sections, figures, tables, and numbers as people read them."""

from collections.abc import Sequence
from html import escape


def section(title: str, content: str) -> str:
    """Returns a section with its heading; `content` is markup."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def figure(plot: str, caption: str) -> str:
    """Returns a plot with its caption."""
    return f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Returns a table with plain cells; without names of columns it has no head, and `kind` is its class."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f'<tr><th scope="row">{escape(row[0])}</th>'
                    + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    top = f"<thead><tr>{columns}</tr></thead>" if any(head) else ""
    return (f'<div class="wide"><table class="{kind}"><caption>{escape(caption)}</caption>{top}'
            f"<tbody>{lines}</tbody></table></div>")


def percent(share: float | None) -> str:
    """Returns a share in percent, `-` for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def between(interval: Sequence[float]) -> str:
    """Returns an interval of shares in percent."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def span(interval: Sequence[float]) -> str:
    """Returns an interval of plain values."""
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def signed(value: float) -> str:
    """Returns percentage points, with a minus where they are negative."""
    return f"{value:.1f}".replace("-", "\N{MINUS SIGN}") if round(value, 1) else "0.0"


def signed_span(low: float, high: float) -> str:
    """Returns an interval of percentage points."""
    return f"{signed(low)} to {signed(high)}"

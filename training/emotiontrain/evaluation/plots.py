"""Plots as SVG that stands in a page: colours come from the page's style, so they suit light, dark and paper.

A unit of the drawings is about a pixel of a telephone's screen; the page scales them to its width.
"""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 420
_LEFT, _RIGHT, _TOP = 48, 20, 28
_FIFTHS = [i / 5 for i in range(6)]
FEW = 20
"""A bin with fewer pictures says little and is drawn faintly."""

Point = tuple[float, float]


def reliability_plot(bins: Sequence[dict[str, float]]) -> str:
    """Draws accuracy over top confidence, the diagonal it should lie on, and below it where the pictures are.

    Args:
        bins: each with `low` and `high` confidence, `pictures`, mean `confidence` and `accuracy`.
    """
    height, strip = 300, 46
    x, y = _Scale(0, 1, _LEFT, WIDTH - _RIGHT), _Scale(0, 1, height, _TOP)
    most = max((b["pictures"] for b in bins), default=1) or 1
    base = height + 34 + strip
    parts = [_grid_y(y, _FIFTHS), _grid_x(x, _FIFTHS, base)]
    for b in bins:
        if b["pictures"]:
            left, width = x(b["low"]) + 1, x(b["high"]) - x(b["low"]) - 2
            upper, lower = sorted((y(b["accuracy"]), y(b["confidence"])))
            faint = " faint" if b["pictures"] < FEW else ""
            gap = "under" if upper == y(b["accuracy"]) else "over"
            parts.append(_rect(left, lower, width, height - lower, "bar" + faint))
            parts.append(_rect(left, upper, width, lower - upper, gap + faint))
            tall = strip * b["pictures"] / most
            parts.append(_rect(left, base - tall, width, tall, "quiet"))
    parts.append(_line([(x(0), y(0)), (x(1), y(1))], "diagonal"))
    parts.append(_text(_LEFT, base - strip - 8, f"pictures (at most {most:.0f} in a bin)"))
    parts.append(_text(WIDTH - _RIGHT, base + 34, "confidence of the answer", anchor="end"))
    parts.append(_text(_LEFT, _TOP - 12, "share of right answers"))
    return _svg(base + 40, "Reliability: share of right answers by confidence", parts)


def risk_plot(curves: Mapping[str, Sequence[Point]], marks: Mapping[str, Point]) -> str:
    """Draws risk over coverage, a line for each truth, with the default threshold of the weights marked."""
    height = 280
    top = max((risk for curve in curves.values() for _, risk in curve), default=0.1)
    top = max(0.1, -(-top // 0.1) * 0.1)
    x, y = _Scale(0, 1, _LEFT, WIDTH - _RIGHT), _Scale(0, top, height, _TOP)
    ticks = [i / 10 for i in range(round(top * 10) + 1)]
    parts = [_grid_y(y, ticks), _grid_x(x, _FIFTHS, height)]
    for place, (name, curve) in enumerate(curves.items()):
        parts.append(_line([(x(c), y(r)) for c, r in curve], f"curve s{place}"))
        if name in marks:
            c, r = marks[name]
            parts.append(f'<circle class="mark s{place}" cx="{x(c):.1f}" cy="{y(r):.1f}" r="4.5"/>')
        parts.append(_line([(_LEFT + 8, _TOP + 14 + 18 * place), (_LEFT + 30, _TOP + 14 + 18 * place)],
                           f"curve s{place}"))
        parts.append(_text(_LEFT + 36, _TOP + 18 + 18 * place, name))
    parts.append(_text(_LEFT, _TOP - 12, "share of wrong answers among those given"))
    parts.append(_text(WIDTH - _RIGHT, height + 34, "share of pictures answered", anchor="end"))
    return _svg(height + 40, "Risk against coverage", parts)


def class_plot(rows: Sequence[tuple[str, Sequence[tuple[float, float, float] | None]]], names: Sequence[str]) -> str:
    """Draws shares with their intervals, a row for each class and in it a mark for each of `names`.

    Args:
        rows: class -> for each name its share, low and high; None where there is none.
        names: what the marks are.
    """
    line, left = 14 * len(names) + 12, 78
    height = _TOP + 4 + line * len(rows)
    x = _Scale(0, 1, left, WIDTH - _RIGHT)
    parts = [_grid_x(x, _FIFTHS, height, top=_TOP + 4)]
    for place, name in enumerate(names):
        parts.append(f'<circle class="mark s{place}" cx="{left + 6 + 150 * place}" cy="{_TOP - 14}" r="4.5"/>')
        parts.append(_text(left + 16 + 150 * place, _TOP - 10, name))
    for index, (label, values) in enumerate(rows):
        begin = _TOP + 4 + line * index
        parts.append(_text(left - 8, begin + line / 2 + 4, label, anchor="end"))
        for place, value in enumerate(values):
            if value:
                middle = begin + 13 + 14 * place
                parts.append(_line([(x(value[1]), middle), (x(value[2]), middle)], f"whisker s{place}"))
                parts.append(f'<circle class="mark s{place}" cx="{x(value[0]):.1f}" cy="{middle:.1f}" r="4.5"/>')
    return _svg(height + 24, "Shares by class with 95 % intervals", parts)


def bar_plot(rows: Sequence[tuple[str, str, float]], clean: float) -> str:
    """Draws accuracies as bars, grouped, with a line at the accuracy of the clean pictures.

    Args:
        rows: group, name and accuracy.
        clean: the line.
    """
    left, bar = 150, 15
    x = _Scale(0, 1, left, WIDTH - 44)
    parts: list[str] = []
    at, group = 24.0, ""
    for own, name, value in rows:
        at += 8 if group and own != group else 0
        group = own
        parts.append(_text(left - 8, at + 11, name, anchor="end"))
        parts.append(_rect(x(0), at, x(value) - x(0), bar - 3, "bar"))
        parts.append(_text(max(x(value), x(clean)) + 5, at + 11, f"{100 * value:.1f}"))
        at += bar + 1
    parts.append(_line([(x(clean), 18), (x(clean), at)], "diagonal"))
    parts.append(_text(x(clean), 13, f"clean {100 * clean:.1f} %", anchor="middle"))
    return _svg(at + 6, "Accuracy by corruption, in percent", parts)


class _Scale:
    """Maps values to places along one axis."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.first = low, first
        self.factor = (last - first) / (high - low)

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) * self.factor


def _grid_x(x: _Scale, ticks: Sequence[float], bottom: float, top: float = _TOP) -> str:
    return "".join(_line([(x(t), top), (x(t), bottom)], "grid")
                   + _text(x(t), bottom + 16, _label(t), anchor="middle") for t in ticks)


def _grid_y(y: _Scale, ticks: Sequence[float]) -> str:
    return "".join(_line([(_LEFT, y(t)), (WIDTH - _RIGHT, y(t))], "grid")
                   + _text(_LEFT - 6, y(t) + 4, _label(t), anchor="end") for t in ticks)


def _label(share: float) -> str:
    return f"{100 * share:.0f} %"


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
            f'height="{max(height, 0):.1f}"/>')


def _line(points: Sequence[Point], kind: str) -> str:
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>{''.join(parts)}</svg>")

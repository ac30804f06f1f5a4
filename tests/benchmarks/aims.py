"""What the project aims at in speed, and how near a run came: computed from its figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from tests.benchmarks import accuracy, density, events, faces, latency, peers, scaling, streams, tracking, whole
from tests.benchmarks.figures import Measured

ABOUT = """\
What was aimed at, and what this run measured. Where a goal was missed: nine tenths of a frame's time go to FFmpeg,
YuNet and EmotionNet, in the daemon and in the plain loop alike, so that no better loop makes full mode a third faster
than the plain one; that takes faster networks. OpenVINO, XNNPACK, ncnn, 8 bits for YuNet, other shapes of its first
layers, other sizes of batches, longer time slices and other switch intervals of Python's lock were measured, brought
nothing or too little, and are not here. Two analyzers of a process share Python's lock; two processes do not."""
_FULL, _TRACKING = "full", "tracking, answers kept"

Cells = Mapping[tuple[str, str], float]
"""Row and column -> value."""


@dataclass(frozen=True)
class Aim:
    """One goal.

    Attributes:
        what: in words.
        part: that measures it.
        read: returns the values from the part's tables, table -> cells.
        bounds: that they are held against, the last one for all further values too.
        at_most: whether a value has to be below its bound, not above it.
    """

    what: str
    part: str
    read: Callable[[Mapping[str, Cells]], list[float]]
    bounds: tuple[float, ...]
    at_most: bool = False

    def row(self, parts: Mapping[str, Measured]) -> str | None:
        """Returns a line of the page; None where it was not measured."""
        tables: dict[str, dict[tuple[str, str], float]] = {}
        for figure in parts[self.part].figures if self.part in parts else ():
            tables.setdefault(figure.table, {})[figure.row, figure.column] = figure.value
        try:
            values = self.read(tables)
        except (KeyError, ZeroDivisionError):
            return None
        if not values:
            return None
        bounds = chain(self.bounds, repeat(self.bounds[-1]))
        met = [value <= bound if self.at_most else value >= bound for value, bound in zip(values, bounds, strict=False)]
        reached = "yes" if all(met) else "in part" if any(met) else "no"
        return f"| {self.what} | {self._wanted} | {', '.join(map(_write, values))} | {reached} |"

    @property
    def unmeasured(self) -> str:
        """The line of one that was not measured."""
        return f"| {self.what} | {self._wanted} | not measured | |"

    @property
    def _wanted(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {', '.join(f'{bound:,g}' for bound in self.bounds)}"


def _write(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _column(table: str, column: str) -> Callable[[Mapping[str, Cells]], list[float]]:
    """Reads a column, row by row."""
    return lambda tables: [value for (_, name), value in tables[table].items() if name == column]


def _cells(table: str, column: str, *rows: str) -> Callable[[Mapping[str, Cells]], list[float]]:
    return lambda tables: [tables[table][row, column] for row in rows]


def _faster_than_fer(mode: str) -> Callable[[Mapping[str, Cells]], list[float]]:
    rate = "frames a second"
    return lambda tables: [cells[f"emotiond, {mode}", rate] / cells[peers.FER, rate] for cells in tables.values()]


def _beyond_fer(tables: Mapping[str, Cells]) -> list[float]:
    cells = tables[accuracy.TABLE]
    return [cells[accuracy.BUILTIN_NAME, accuracy.LABELS] - cells[peers.FER, accuracy.LABELS]]


AIMS = (
    Aim("plain loop's time of a frame over full mode's", "whole", _column(whole.TABLE, f"plain loop / {_FULL}"),
        (1.25, 1.3)),
    Aim("the same over tracking, answers kept", "whole", _column(whole.TABLE, f"plain loop / {_TRACKING}"),
        (2.75, 1.9)),
    Aim("full mode's faces that tracking, answers kept finds, %", "tracking",
        _column(tracking.title(_TRACKING), "found"), (98,)),
    Aim("of these with the same smoothed emotion, %", "tracking",
        _column(tracking.title(_TRACKING), "smoothed"), (98,)),
    Aim("efficiency", "whole", _column(whole.TABLE, "efficiency"), (0.92,)),
    Aim("two cores over one: one file, eight files, full", "scaling",
        _cells(scaling.TABLE, "speed-up", *(f"{files}, {_FULL}" for files in scaling.FILES)), (1.9,)),
    Aim("the same, tracking, answers kept", "scaling",
        _cells(scaling.TABLE, "speed-up", *(f"{files}, {_TRACKING}" for files in scaling.FILES)), (1.9,)),
    Aim("live streams on two cores: full; tracking, answers kept", "density",
        _cells(density.HELD, "streams", _FULL, _TRACKING), (10, 20)),
    Aim("full mode's frames a second over those of `fer`", "peers", _faster_than_fer(_FULL), (6,)),
    Aim("the same, tracking, answers kept", "peers", _faster_than_fer(_TRACKING), (12,)),
    Aim("accuracy on PrivateTest beyond that of `fer`, points", "accuracy", _beyond_fer, (0,)),
    Aim("events a second by one core", "events", _column(events.TABLE, "events"), (20_000,)),
    Aim("95th percentile from capture to subscriber with 10 streams, ms", "latency",
        lambda tables: [value for (row, column), value in tables[latency.TABLE].items()
                        if row.startswith("10 ") and column == "95 %"], (100,), at_most=True),
    Aim("a frame of 64 streams over one of a single one", "streams", _cells(streams.TABLE, "against single ones", "64"),
        (1.1,), at_most=True),
    Aim("a face of 200 over a single one", "faces", _cells(faces.TABLE, "against single ones", "200"), (1.1,),
        at_most=True),
)


def section(
    parts: Mapping[str, Measured], aims: Sequence[Aim] = AIMS, about: str = ABOUT, *, all_of_them: bool = False
) -> str:
    """Returns a page's section; empty where nothing of it was measured.

    Args:
        parts: what was.
        aims: the page's.
        about: what to say of them.
        all_of_them: whether those stand there too that were not measured.
    """
    rows = [row for aim in aims if (row := aim.row(parts) or (aim.unmeasured if all_of_them else None))]
    head = ["## Aims", "", about, "", "| | aim | measured | reached |", "|---|---|---|---|"]
    return "\n".join([*head, *rows]) if rows else ""

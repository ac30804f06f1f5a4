"""The page's plots, drawn from results alone: white, so that they read on light and dark pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import density, faces, modes, peers, stages, streams, whole
from tests.benchmarks.figures import Measured, Results

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")     # Okabe and Ito's
INK, GRID = "#333333", "#dddddd"
WIDTH = 9.0     # inches
TICKS = (20, 50, 100, 200, 500, 1000)     # ms


class Cells:
    """The medians of a part: table -> row -> column -> value."""

    def __init__(self, measured: Measured) -> None:
        self._tables: dict[str, dict[str, dict[str, float]]] = {}
        for figure in measured.figures:
            self._tables.setdefault(figure.table, {}).setdefault(figure.row, {})[figure.column] = figure.value

    def rows(self, table: str) -> dict[str, dict[str, float]]:
        """Returns a table's rows; none where it was not measured."""
        return self._tables.get(table, {})

    @property
    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """All of them."""
        return self._tables


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Draws what was measured; returns part -> file."""
    import matplotlib as mpl
    mpl.use("Agg")
    from matplotlib import pyplot
    pyplot.rcParams.update({
        "font.size": 10, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
        "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "figure.facecolor": "white", "savefig.facecolor": "white", "legend.frameon": False})
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for name, drawing in DRAWINGS.items():
        measured = results.parts.get(name)
        if measured is None or not measured.figures:
            continue
        figure: Any = drawing(pyplot, Cells(measured))
        if figure is None:
            continue
        files[name] = folder / f"bench-{name}.png"
        figure.tight_layout()
        figure.savefig(files[name], dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return files


def _stages(pyplot: Any, cells: Cells) -> Any:
    rows = cells.rows(stages.TABLE)
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.2 + 0.6 * len(rows)))
    begin = dict.fromkeys(rows, 0.0)
    for stage, colour in zip(stages.STAGES, COLOURS, strict=True):
        values = [row[stage] for row in rows.values()]
        axes.barh(list(rows), values, left=list(begin.values()), color=colour, label=stage, height=0.6)
        begin = {row: begin[row] + value for row, value in zip(rows, values, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("processor time of a frame, ms")
    _legend(axes, len(stages.STAGES))
    _grid(axes, "x")
    return figure


def _whole(pyplot: Any, cells: Cells) -> Any:
    rows = cells.rows(whole.TABLE)
    return _grouped(pyplot, rows, ["plain loop", *modes.MODES], "processor time of a frame, ms")


def _peers(pyplot: Any, cells: Cells) -> Any:
    tables = cells.tables
    figure, all_axes = pyplot.subplots(1, len(tables), figsize=(WIDTH, 3), sharey=True, squeeze=False)
    for axes, (clip, rows) in zip(all_axes[0], tables.items(), strict=True):
        values = [row["frames a second"] for row in rows.values()]
        ours = [COLOURS[0] if row in peers.EMOTIOND else COLOURS[-1] for row in rows]
        bars = axes.barh(list(rows), values, color=ours, height=0.65)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, color=INK)
        axes.set_xlim(0, 1.2 * max(values))
        axes.set_title(clip, fontsize=10)
        axes.set_xlabel("frames a second")
        _grid(axes, "x")
    all_axes[0][0].invert_yaxis()
    return figure


def _streams(pyplot: Any, cells: Cells) -> Any:
    rows = cells.rows(streams.TABLE)
    count = [float(row) for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(WIDTH, 3.2))
    for axes, column, label in ((left, "of one core", "processor, % of one core"), (right, "memory", "memory, MB")):
        _line(axes, count, [row[column] for row in rows.values()], cells.rows(streams.LINES).get(column), "a stream")
        axes.set_xlabel("streams of one frame a second")
        axes.set_ylabel(label)
    return figure


def _faces(pyplot: Any, cells: Cells) -> Any:
    rows = cells.rows(faces.TABLE)
    found = [row[faces.FOUND] for row in rows.values()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(WIDTH, 3.2))
    _line(left, found, [row[faces.TIME] for row in rows.values()], cells.rows(faces.LINE).get(faces.TIME), "a face")
    _line(right, found, [row[faces.MEMORY] for row in rows.values()], None, "")
    for axes, label in ((left, "processor time of a frame, ms"), (right, "most memory, MB")):
        axes.set_xlabel("faces found in the frame")
        axes.set_ylabel(label)
    return figure


def _density(pyplot: Any, cells: Cells) -> Any:
    figure, axes = pyplot.subplots(figsize=(WIDTH, 3.2))
    for mode, colour in zip(density.CASES, COLOURS, strict=False):
        points = sorted((int(row.partition(": ")[2]), values["95th percentile to Redis"], values["held"])
                        for row, values in cells.rows(density.TABLE).items() if row.startswith(f"{mode}: "))
        axes.plot([p[0] for p in points], [p[1] for p in points], color=colour, label=mode, linewidth=1.5)
        for held, marker in ((True, "o"), (False, "x")):
            chosen = [point for point in points if (point[2] == 1) is held]
            axes.scatter([p[0] for p in chosen], [p[1] for p in chosen], color=colour, marker=marker, zorder=3)
    axes.axhline(density.MOST_MS, color=INK, linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_yticks(TICKS, [str(tick) for tick in TICKS], minor=False)
    axes.minorticks_off()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("streams of 640x360 at 15 frames a second (o held, x not)")
    axes.set_ylabel("95th percentile to Redis, ms")
    axes.legend()
    _grid(axes, "y")
    return figure


def _grouped(pyplot: Any, rows: dict[str, dict[str, float]], columns: list[str], label: str) -> Any:
    figure, axes = pyplot.subplots(figsize=(WIDTH, 3.2))
    width = 0.8 / len(columns)
    for index, column in enumerate(columns):
        places = [place + (index - (len(columns) - 1) / 2) * width for place in range(len(rows))]
        values = [row[column] for row in rows.values()]
        bars = axes.bar(places, values, 0.94 * width, color=COLOURS[index - 1], label=column)
        axes.bar_label(bars, fmt="%.1f", padding=2, color=INK)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_ylabel(label)
    _legend(axes, len(columns))
    _grid(axes, "y")
    return figure


def _line(axes: Any, x: list[float], y: list[float], fit: dict[str, float] | None, slope: str) -> None:
    if fit:
        ends = (0.0, max(x))
        axes.plot(ends, [fit["at 0"] + fit[slope] * end for end in ends], color=GRID, linewidth=4, zorder=1)
    axes.plot(x, y, "o-" if not fit else "o", color=COLOURS[0], zorder=3, clip_on=False)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.1 * max(y))
    _grid(axes, "both")


def _legend(axes: Any, columns: int) -> None:
    axes.legend(ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.0, columnspacing=1.2)


def _grid(axes: Any, axis: str) -> None:
    axes.grid(axis=axis, color=GRID, linewidth=0.7)


DRAWINGS: dict[str, Callable[[Any, Cells], Any]] = {
    "stages": _stages, "whole": _whole, "density": _density, "streams": _streams, "faces": _faces, "peers": _peers}

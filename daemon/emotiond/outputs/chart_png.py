"""The chart as a PNG, drawn with matplotlib: white, so that it reads on light and dark pages."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from emotiond.outputs.chart import Lane, Run, StreamChart, share_lanes
from emotiond.palette import colour_of, in_order

INK, SOFT, LINE, GROUND = "#1b1f24", "#59636e", "#d5dbe1", "#f1f4f7"
MOST_STREAMS = 12       # of one picture; a page in HTML has room for more
_WIDTH, _LEFT, _RIGHT = 10.0, 0.7, 0.2                                  # inches, as all that follow
_HEAD, _TITLE, _STACK, _LANE, _GAP, _FOOT = 0.55, 0.5, 1.2, 0.26, 0.08, 0.35
_DPI = 150


def draw_chart(charts: Sequence[StreamChart]) -> bytes:
    """Returns the picture."""
    shown, more = charts[:MOST_STREAMS], max(len(charts) - MOST_STREAMS, 0)
    lanes = share_lanes(shown)
    height = _HEAD + sum(_TITLE + _STACK + len(its) * (_LANE + _GAP) + _FOOT for its in lanes) + 0.3 * bool(more)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(_LEFT / _WIDTH, 1 - 0.2 / height, "Emotions over time", size=15, weight="bold", color=INK, va="top")
    _legend(figure, in_order({emotion for chart in shown for emotion in chart.emotions}), height)
    top = height - _HEAD
    for chart, its in zip(shown, lanes, strict=True):
        top = _draw_stream(figure, chart, its, top, height)
    if more:
        figure.text(_LEFT / _WIDTH, 0.15 / height, f"and {more} more; a .html shows them all", size=9, color=SOFT)
    content = io.BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def _draw_stream(figure: Figure, chart: StreamChart, lanes: Sequence[Lane], top: float, height: float) -> float:
    """Draws a stream below `top`, in inches from the bottom; returns where the next one begins."""
    more = chart.track_count - len(lanes)
    figure.text(_LEFT / _WIDTH, (top - 0.3) / height, chart.name, size=11, weight="bold", color=INK)
    tracks = f"{chart.track_count} {'track' if chart.track_count == 1 else 'tracks'}"
    figure.text(1 - _RIGHT / _WIDTH, (top - 0.3) / height, ha="right", size=9, color=SOFT,
                s=f"{chart.analysed.total()} frames; {tracks}"
                + (f", the {len(lanes)} most seen are shown" if more > 0 else ""))
    top -= _TITLE
    axes = _axes(figure, chart, top - _STACK, _STACK, height)
    axes.set_ylim(0, chart.most_faces)
    axes.set_yticks([0, chart.most_faces])
    axes.set_ylabel("faces", size=9, color=SOFT, labelpad=2)
    _draw(axes, chart.stacks())
    top -= _STACK
    for lane in lanes:
        top -= _GAP + _LANE
        axes = _axes(figure, chart, top, _LANE, height)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.5], [f"#{lane.track.id}"])
        _draw(axes, lane.stacks())
    axes.set_xticks(*zip(*((us / chart.bin_us, text) for us, text in chart.ticks()), strict=True))
    axes.tick_params(axis="x", labelbottom=True)
    return top - _FOOT


def _axes(figure: Figure, chart: StreamChart, bottom: float, tall: float, height: float) -> Any:
    axes: Any = figure.add_axes((_LEFT / _WIDTH, bottom / height, 1 - (_LEFT + _RIGHT) / _WIDTH, tall / height))
    axes.set_facecolor(GROUND)
    axes.set_xlim(0, chart.bins)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK, labelbottom=False)
    axes.set_xticks([us / chart.bin_us for us, _ in chart.ticks()])
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _draw(axes: Any, stacks: Iterable[tuple[str | None, list[Run]]]) -> None:
    for emotion, runs in stacks:
        corners = [[(begin, low), (begin, high), (end, high), (end, low)] for begin, end, low, high in runs]
        axes.add_collection(PolyCollection(corners, **_style(emotion)))


def _legend(figure: Figure, emotions: Sequence[str | None], height: float) -> None:
    handles = [Patch(label=emotion or "unsure", **_style(emotion)) for emotion in emotions]
    if handles:
        figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(1 - _RIGHT / _WIDTH, 1 - 0.15 / height),
                      ncols=len(handles), frameon=False, fontsize=9.5, labelcolor=INK, handlelength=1,
                      handleheight=1, columnspacing=1.2, handletextpad=0.5, borderaxespad=0)


def _style(emotion: str | None) -> dict[str, Any]:
    if emotion is None:
        return {"facecolor": colour_of(None), "edgecolor": "#8a8a8a", "hatch": "//////", "linewidth": 0}
    return {"facecolor": colour_of(emotion), "edgecolor": "none", "linewidth": 0, "antialiased": False}

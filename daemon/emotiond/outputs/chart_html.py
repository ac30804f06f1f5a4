"""The chart as one HTML page: inline SVG, a script of a few lines for pointing, the numbers, and tables of them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from emotiond import __version__
from emotiond.events import rfc3339
from emotiond.outputs.chart import Lane, Run, StreamChart, figures_of, share_lanes
from emotiond.outputs.tracks import TrackFigures, format_clock
from emotiond.palette import UNSURE, colour_of, in_order

WIDTH, LEFT, RIGHT = 1000, 56, 8        # units of a drawing, about a pixel each; the page scales them to its width
STACK, LANE, GAP, AXIS = 110, 26, 8, 22
MOST_ROWS = 24                          # of the table over time
# nothing is fetched, whatever a name in the page may hold
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def draw_page(charts: Sequence[StreamChart]) -> bytes:
    """Returns the page."""
    lanes = share_lanes(charts)
    drawn = list(zip(charts, lanes, strict=True))
    figures = json.dumps({"streams": [figures_of(chart, its) for chart, its in drawn]}, separators=(",", ":"))
    figures = figures.replace("<", "\\u003c")      # nothing in it may end the element that holds it
    here = files("emotiond.outputs")
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("chart.css", "chart.js"))
    sections = "\n".join(_section(place, chart, its) for place, (chart, its) in enumerate(drawn))
    legend = "".join(_legend_item(emotion) for emotion in in_order({e for chart in charts for e in chart.emotions}))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="emotiond {__version__}">
<title>Emotions over time: {escape(", ".join(chart.name for chart in charts))}</title>
<style>
{style}</style>
</head>
<body>
<svg width="0" height="0" aria-hidden="true"><defs><pattern id="unsure" width="5" height="5"
 patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="{UNSURE}"/>
<rect width="1.5" height="5" fill="#8a8a8a"/></pattern></defs></svg>
<header>
<h1>Emotions over time</h1>
<p>Expressions as people would name them, smoothed over time; they do not tell what somebody feels.</p>
<ul class="legend">{legend}</ul>
</header>
<main>
{sections}
</main>
<script type="application/json" id="figures">{figures}</script>
<script>
{script}</script>
</body>
</html>
""".encode()


def _section(place: int, chart: StreamChart, lanes: Sequence[Lane]) -> str:
    more = chart.track_count - len(lanes)
    tracks = f"{chart.track_count} {'track' if chart.track_count == 1 else 'tracks'}" + (
        f", of which the {len(lanes)} most seen are shown" if more > 0 else "")
    name, begin = escape(chart.name), rfc3339(chart.start_us)[:19].replace("T", " ")
    return f"""<section>
<h2>{name}</h2>
<p class="facts">{format_clock(chart.end_us)} long, from {begin} UTC on; {chart.analysed.total()} frames; {tracks}.
Each column is {chart.bin_us / 1_000_000:g} s.</p>
<figure tabindex="0" data-place="{place}" aria-label="Chart of {name}; arrow keys move through it">
<div class="wide">{_drawing(chart, lanes)}</div>
<figcaption aria-live="polite">Point at the chart, or move through it with the arrow keys.</figcaption>
</figure>
<details><summary>{name} in numbers</summary>
<div class="wide">{_tracks_table([lane.track for lane in lanes], chart.emotions)}</div>
<div class="wide">{_time_table(chart)}</div>
</details>
</section>"""


def _drawing(chart: StreamChart, lanes: Sequence[Lane]) -> str:
    height = STACK + len(lanes) * (LANE + GAP) + AXIS + GAP
    tops = [STACK + 2 * GAP + row * (LANE + GAP) for row in range(len(lanes))]
    top = chart.most_faces
    parts = [_ground(0, STACK), *(_ground(y, LANE) for y in tops), *_axis(chart, height - AXIS),
             _name(12, str(top)), _name(STACK / 2 + 4, "faces", "soft"), _name(STACK, "0")]
    parts += [_path(chart, emotion, runs, STACK, STACK / top) for emotion, runs in chart.stacks()]
    for y, lane in zip(tops, lanes, strict=True):
        parts.append(_name(y + LANE / 2 + 4, f"#{lane.track.id}"))
        parts += [_path(chart, emotion, runs, y + LANE, LANE) for emotion, runs in lane.stacks()]
    total: Counter[str | None] = Counter()
    for counts in chart.faces.values():
        total.update(counts)
    label = f"{chart.name}: " + (", ".join(f"{emotion or 'unsure'} {count / total.total():.0%}"
                                           for emotion, count in total.most_common()) or "no face")
    return (f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}'
            f'<line class="cursor" y1="0" y2="{height - AXIS}" visibility="hidden"/></svg>')


def _ground(top: float, height: float) -> str:
    return f'<rect class="ground" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{height}"/>'


def _name(base: float, text: str, style: str = "") -> str:
    return f'<text x="{LEFT - 8}" y="{base:.0f}" class="end {style}">{text}</text>'


def _path(chart: StreamChart, emotion: str | None, runs: Iterable[Run], bottom: float, scale: float) -> str:
    """Draws rectangles of one colour as one path; `scale` is the height of 1."""
    path = "".join(
        f"M{_x(chart, begin):.1f} {bottom - high * scale:.1f}H{_x(chart, end):.1f}V{bottom - low * scale:.1f}"
        f"H{_x(chart, begin):.1f}z" for begin, end, low, high in runs)
    return f'<path fill="{_fill(emotion)}" d="{path}"/>'


def _axis(chart: StreamChart, bottom: float) -> Iterable[str]:
    for us, text in chart.ticks():
        x = _x(chart, us / chart.bin_us)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>'
        yield f'<text class="{"middle" if us else ""}" x="{x:.1f}" y="{bottom + 16:.1f}">{text}</text>'


def _x(chart: StreamChart, place: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * place / chart.bins


def _tracks_table(tracks: Iterable[TrackFigures], emotions: Sequence[str | None]) -> str:
    """A row for each shown track."""
    head = _cells("th", ["track", "seen from", "to", "frames", *(emotion or "unsure" for emotion in emotions)])
    rows = "".join("<tr>" + _cells("td", [
        f"#{track.id}", format_clock(track.first_us), format_clock(track.last_us), str(track.frames),
        *(_share(track.emotions[emotion], track.frames) for emotion in emotions)]) + "</tr>" for track in tracks)
    return f"<table><caption>By track, share of its frames</caption><thead><tr>{head}</tr></thead>{rows}</table>"


def _time_table(chart: StreamChart) -> str:
    """A row for so many bins together that they become few."""
    each = -(-chart.bins // MOST_ROWS)
    rows: list[str] = []
    for begin in range(0, chart.bins, each):
        places = range(begin, min(begin + each, chart.bins))
        frames = sum(chart.analysed[place] for place in places)
        faces: Counter[str | None] = Counter()
        for place in places:
            faces.update(chart.faces.get(place, {}))
        rows.append("<tr>" + _cells("td", [
            format_clock(begin * chart.bin_us), str(frames), f"{faces.total() / frames:.2f}" if frames else "",
            *(_share(faces[emotion], faces.total()) for emotion in chart.emotions)]) + "</tr>")
    head = _cells("th", ["from", "frames", "faces a frame", *(emotion or "unsure" for emotion in chart.emotions)])
    return (f"<table><caption>Over time, share of faces</caption><thead><tr>{head}</tr></thead>{''.join(rows)}"
            "</table>")


def _cells(kind: str, texts: Iterable[str]) -> str:
    scope = ' scope="col"' if kind == "th" else ""
    return "".join(f"<{kind}{scope}>{escape(text)}</{kind}>" for text in texts)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if part else ""


def _legend_item(emotion: str | None) -> str:
    return (f'<li><svg viewBox="0 0 14 14" aria-hidden="true"><rect width="14" height="14" fill="{_fill(emotion)}"/>'
            f"</svg>{escape(emotion or 'unsure')}</li>")


def _fill(emotion: str | None) -> str:
    return "url(#unsure)" if emotion is None else colour_of(emotion)

"""Draws the dashboards as pictures from a real Prometheus: `python -m tests.deploy.sheets docs/images`.

A daemon with three cameras runs for some minutes; one camera dies and comes back, and Redis is away for a while. What
Grafana would ask is asked, and every panel stands where Grafana puts it, with its title, unit and colours.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import Bbox

from tests.conftest import DATA
from tests.support.daemon import Daemon
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer

ROOT = Path(__file__).parents[2]
CLIPS = {"door": "one_woman_20s_360p.mp4", "hall": "group7_classroom_720p.mp4", "yard": "lp_d10_15s.mp4"}
COLUMNS, WIDTH, HEIGHT = 24, .53, .24      # of Grafana's grid; inches of a cell
STEP_S = 2
UNITS = {"cps": "1/s", "eps": "1/s", "cpm": "1/min", "Bps": "bytes/s", "dtdurations": "s", "percentunit": "share",
         "none": "", "short": ""}
Json = dict[str, Any]
Series = tuple[str, dict[str, str], Any]
"""Legend, labels, and the value, or rows of time and value."""


@dataclass(frozen=True)
class Sheet:
    """What is asked for a dashboard: variables filled in, and the time that it shows."""

    server: PrometheusServer
    chosen: Mapping[str, str]
    minutes: float
    end: float

    def ask(self, target: Json) -> Iterator[Series]:
        """Yields what a panel's query finds."""
        query = target["expr"]
        for name, value in self.chosen.items():
            query = query.replace(name, value)
        if target["instant"]:
            found = self.server.get("query", query=query, time=str(self.end))["result"]
        else:
            found = self.server.get("query_range", query=query, start=str(self.end - 60 * self.minutes),
                                    end=str(self.end), step=str(STEP_S))["result"]
        for series in found:
            labels = series["metric"]
            legend = re.sub(r"{{(\w+)}}", lambda match, of=labels: of.get(match[1], ""), target["legendFormat"])
            if target["instant"]:
                yield legend, labels, float(series["value"][1])
            else:
                rows = np.array(series["values"], float)
                rows[:, 0] = (rows[:, 0] - self.end) / 60
                yield legend, labels, rows

    def draw(self, dashboard: Json, file: Path) -> None:
        """Draws a dashboard, as Grafana takes it, into a PNG."""
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) + 1
        figure = plt.figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT))
        figure.text(.008, 1 - .5 / rows, f"{dashboard['title']}; minutes before the picture was made", fontsize=10,
                    va="center")
        for panel in dashboard["panels"]:
            x, y, wide, high = (panel["gridPos"][key] for key in "xywh")
            y += 1
            if panel["type"] == "row":
                figure.text(.008, 1 - (y + .5) / rows, panel["title"], fontsize=9, weight="bold", va="center")
                continue
            beside, below = (.15, .2) if panel["type"] in ("stat", "table") else (1.1, 1.2)      # room for the axes
            place = figure.add_axes((
                (x + beside) / COLUMNS, 1 - (y + high - below) / rows,
                (wide - beside - .15) / COLUMNS, (high - below - 1) / rows))
            place.set_title(panel["title"], fontsize=8, loc="left", pad=3)
            place.tick_params(labelsize=6)
            DRAW[panel["type"]](self, panel, place)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=80)
        plt.close(figure)


def graph(sheet: Sheet, panel: Json, place: Axes) -> None:
    """Lines over time."""
    for target in panel["targets"]:
        for legend, _, rows in sheet.ask(target):
            place.plot(*rows.T, label=legend, color=_paint(panel, legend), linewidth=1.1)
    place.set_ylabel(_unit(panel), fontsize=6, labelpad=1)
    place.set_xlim(-sheet.minutes, 0)
    place.set_ylim(0, 1.4 * max(place.get_ylim()[1], 1e-9))      # room for the legend
    place.grid(alpha=.3)
    if "bytes" in _unit(panel):
        place.yaxis.set_major_formatter(EngFormatter())
    if legends := place.get_legend_handles_labels()[1]:
        place.legend(fontsize=5.5, loc="upper left", ncols=3 if max(map(len, legends)) < 20 else 2)


def heatmap(sheet: Sheet, panel: Json, place: Axes) -> None:
    """How much is in each bucket of a histogram; darker is more."""
    found = sorted(sheet.ask(panel["targets"][0]), key=lambda series: float(series[0]))
    times = np.unique(np.concatenate([rows[:, 0] for _, _, rows in found]))
    counts = np.zeros((len(found), len(times)))
    for index, (_, _, rows) in enumerate(found):
        counts[index, np.searchsorted(times, rows[:, 0])] = rows[:, 1]
    place.pcolormesh(times, np.arange(len(found)), np.diff(counts, axis=0, prepend=0), cmap="Blues", shading="nearest")
    place.set_yticks(range(len(found)), [legend for legend, _, _ in found], fontsize=5)
    place.set_ylabel(f"up to, {panel['options']['yAxis']['unit']}", fontsize=6, labelpad=1)
    place.set_xlim(-sheet.minutes, 0)


def timeline(sheet: Sheet, panel: Json, place: Axes) -> None:
    """A bar for each series as long as it has a value."""
    found = list(sheet.ask(panel["targets"][0]))
    for index, (legend, _, rows) in enumerate(found):
        bars = [(at - STEP_S / 60, STEP_S / 60) for at in rows[:, 0]]
        place.broken_barh(bars, (index - .4, .8), color=_paint(panel, legend))
    place.set_yticks(range(len(found)), [legend for legend, _, _ in found], fontsize=6)
    place.set_xlim(-sheet.minutes, 0)


def stat(sheet: Sheet, panel: Json, place: Axes) -> None:
    """One number, or a series' name, on its colour."""
    field = panel["fieldConfig"]["defaults"]
    found = [series for target in panel["targets"] for series in sheet.ask(target)]
    by_name = panel["options"]["textMode"] == "name"
    texts = [legend if by_name else f"{_text(value, field)} {legend}" for legend, _, value in found]
    color = _paint(panel, found[0][0]) if by_name and found else _step(found[0][2] if found else 0, field)
    place.set(xticks=[], yticks=[])
    filled = panel["options"]["colorMode"] == "background"
    place.set_facecolor(color if filled else "white")
    place.text(.5, .5, "\n".join(texts or [field["noValue"]]), ha="center", va="center", fontsize=11,
               color="white" if filled else color)


def table(sheet: Sheet, panel: Json, place: Axes) -> None:
    """A line for each set of labels, a column for each query."""
    filtering, ordering = (step["options"] for step in panel["transformations"][-2:])
    headings = ordering["renameByName"]
    shown = [headings.get(name, name) for name in filtering["include"]["names"]]
    fields = {override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
              for override in panel["fieldConfig"]["overrides"]}
    lines: dict[tuple[str | None, ...], dict[str, tuple[str, str]]] = {}
    for target, heading in zip(panel["targets"], headings.values(), strict=True):
        for _, labels, value in sheet.ask(target):
            line = lines.setdefault(tuple(labels.get(key) for key in ("alertname", "instance", "stream")), {})
            line |= {name: _mapped(text, fields.get(name, {})) for name, text in labels.items()}
            field = fields.get(heading, {})
            line[heading] = (_mapped(f"{value:g}", field) if "mappings" in field
                             else (_text(value, field), _step(value, field)))
    place.set_axis_off()
    rows = [[line.get(name, ("", "black")) for name in shown] for line in lines.values()]
    if not rows:
        place.text(.5, .5, "No data", ha="center", va="center", fontsize=8, color="grey")
        return
    texts = [[text for text, _ in row] for row in rows]
    widths = [3 + max(map(len, column)) for column in zip(shown, *texts, strict=True)]
    high = (len(rows) + 1) * .95 / (panel["gridPos"]["h"] - 1.2)      # of the panel, as a line is about a cell
    drawn = place.table(texts, colLabels=shown, cellLoc="left", colLoc="left", edges="horizontal",
                        colWidths=[width / sum(widths) for width in widths],
                        bbox=Bbox.from_bounds(0, 1 - high, 1, high))
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(6.5)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_text_props(color=rows[row - 1][column][1] if row else "grey")


DRAW = {"timeseries": graph, "heatmap": heatmap, "state-timeline": timeline, "stat": stat, "table": table}


def _paint(panel: Json, legend: str) -> str | None:
    return next((override["properties"][0]["value"]["fixedColor"] for override in panel["fieldConfig"]["overrides"]
                 if override["matcher"]["options"] == legend), None)


def _unit(panel: Json) -> str:
    unit: str = panel["fieldConfig"]["defaults"]["unit"]
    return UNITS.get(unit, unit.removeprefix("suffix:"))


def _text(value: float, field: Json) -> str:
    unit = field.get("unit", "none")
    if unit == "percentunit":
        value, unit = 100 * value, "suffix:%"
    number = f"{value:.4g}" if field.get("decimals") is None else f"{value:.{field['decimals']}f}"
    return f"{number} {UNITS.get(unit, unit.removeprefix('suffix:'))}".strip()


def _step(value: float, field: Json) -> str:
    """Returns the colour of the highest threshold that a value reaches."""
    steps: list[Json] = field.get("thresholds", {}).get("steps", [])
    return next((step["color"] for step in reversed(steps) if value >= (step["value"] or -np.inf)), "black")


def _mapped(text: str, field: Json) -> tuple[str, str]:
    """Returns what a table shows for a word, and its colour."""
    mappings: list[Json] = field.get("mappings", [])
    option: Json = next((mapping["options"][text] for mapping in mappings if text in mapping["options"]), {})
    return option.get("text", text), option.get("color", "black")


def main() -> None:
    """Runs the scene and draws both dashboards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with clips/ (%(default)s)")
    parser.add_argument("--minutes", type=float, default=4)
    arguments = parser.parse_args()
    clips = {f"/{name}": arguments.data / "clips" / clip for name, clip in CLIPS.items()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        cameras = stack.enter_context(RtspServer(folder / "cameras", clips))
        daemon = stack.enter_context(Daemon(
            folder / "daemon", {name: {"source": cameras.url(f"/{name}"), "max_fps": 10} for name in CLIPS}, redis.url))
        server = stack.enter_context(PrometheusServer(
            folder / "prometheus", f"127.0.0.1:{daemon.port}", interval=f"{STEP_S}s",
            rules=(ROOT / "deploy/prometheus/emotiond.rules.yaml",)))
        quarter = arguments.minutes * 15
        time.sleep(quarter)
        redis.freeze()
        time.sleep(quarter)
        redis.thaw()
        cameras.kill()
        time.sleep(quarter / 2)
        cameras.start()
        time.sleep(1.5 * quarter)
        for name, stream in (("fleet", ".*"), ("stream", "door")):
            dashboard = json.loads((ROOT / f"deploy/grafana/dashboards/{name}.json").read_text())
            chosen = {"$job": "emotiond", "$instance": ".*", "$stream": stream, "$__rate_interval": "20s",
                      "$__range": "5m"}
            Sheet(server, chosen, arguments.minutes, time.time()).draw(dashboard, arguments.folder / f"{name}.png")


if __name__ == "__main__":
    main()

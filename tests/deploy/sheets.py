"""Draws the dashboards' panels of lines from a real Prometheus: `python -m tests.deploy.sheets docs/images`.

A daemon with three cameras runs for some minutes; one camera dies and comes back, and Redis is away for a while. What
Grafana would ask is asked, with the same titles and units, in the same order.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from tests.support.daemon import Daemon
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer

ROOT = Path(__file__).parents[2]
CLIPS = {"door": "one_woman_20s_360p.mp4", "hall": "group7_classroom_720p.mp4", "yard": "lp_d10_15s.mp4"}
COLUMNS = 3
UNITS = {"cps": "1/s", "cpm": "1/min", "Bps": "bytes/s", "s": "s", "percentunit": "share", "bytes": "bytes",
         "none": "", "short": ""}


def draw(server: PrometheusServer, dashboard: Mapping[str, Any], chosen: Mapping[str, str], minutes: float,
         file: Path) -> None:
    """Draws one dashboard's panels of lines into a PNG.

    Args:
        server: what is asked.
        dashboard: as Grafana takes it.
        chosen: variable -> value.
        minutes: how far back.
        file: the PNG.
    """
    panels = [panel for panel in dashboard["panels"] if panel["type"] == "timeseries"]
    rows = -(-len(panels) // COLUMNS)
    figure, places = plt.subplots(rows, COLUMNS, figsize=(15, 2.5 * rows), layout="constrained", squeeze=False)
    end = time.time()
    for place, panel in zip(places.flat, panels, strict=False):
        colors = {override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
                  for override in panel["fieldConfig"].get("overrides", [])}
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in chosen.items():
                query = query.replace(name, value)
            answer = server.get("query_range", query=query, start=str(end - 60 * minutes), end=str(end), step="2")
            for series in answer["result"]:
                name = re.sub(r"{{(\w+)}}", lambda match, of=series["metric"]: of.get(match[1], ""),
                              target["legendFormat"])
                at, values = np.array(series["values"], float).T
                place.plot((at - end) / 60, values, label=name, color=colors.get(name), linewidth=1.2)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        place.set_title(panel["title"], fontsize=9, loc="left")
        place.set_ylabel(UNITS.get(unit, unit.removeprefix("suffix:")), fontsize=7)
        place.set_ylim(0, 1.35 * max(place.get_ylim()[1], 1e-9))      # room for the legend
        place.tick_params(labelsize=7)
        place.grid(alpha=.3)
        if place.get_legend_handles_labels()[1]:
            place.legend(fontsize=6, loc="upper left", ncols=2)
    for place in places.flat[len(panels):]:
        place.set_axis_off()
    figure.suptitle(f"{dashboard['title']}; minutes before the picture was made", fontsize=10)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=60)
    plt.close(figure)


def main() -> None:
    """Runs the scene and draws both dashboards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT / "shared/data", help="folder with clips/ (%(default)s)")
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
            folder / "prometheus", f"127.0.0.1:{daemon.port}", interval="2s",
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
            draw(server, dashboard, {"$job": "emotiond", "$instance": ".*", "$stream": stream,
                                     "$__rate_interval": "20s", "$__range": "5m"}, arguments.minutes,
                 arguments.folder / f"{name}.png")


if __name__ == "__main__":
    main()

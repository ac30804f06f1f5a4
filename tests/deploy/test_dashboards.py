"""The dashboards as Grafana takes them, and every query of theirs and of the alerts asked of a real Prometheus."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.__main__ import write
from tests.support.alertmanager import Alertmanager, Webhook
from tests.support.contract import CONTRACT, PROCESS
from tests.support.daemon import Daemon, endless
from tests.support.pictures import face_frames
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.rules import ALERTS, RECORDED, SHARD_ALERTS, hurried, hurry, operands
from tests.support.videos import write_video
from tests.support.waiting import free_port, poll

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads((FOLDER / f"{name}.json").read_text())
                                         for name in ("fleet", "stream")}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]
          if panel["type"] != "row"]
QUERIES = sorted({target["expr"] for _, panel in PANELS for target in panel["targets"]})
FPS = 10
TIMES = {"$__rate_interval": "10s", "$__range": "1m"}


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    write(tmp_path)

    for name in DASHBOARDS:
        assert (tmp_path / f"{name}.json").read_text() == (FOLDER / f"{name}.json").read_text()


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 15
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"} == {
        panel["datasource"]["uid"]}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_laid_out_and_can_be_narrowed(name: str) -> None:
    dashboard = DASHBOARDS[name]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == [
        "datasource", "job", "instance", "stream"]
    assert {panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"} >= {
        "Rate", "Errors", "Latency", "Resources"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_there_is(query: str) -> None:
    for name in re.findall(r"(?<![\w:])emotiond_(\w+)", query):
        assert name in CONTRACT or re.sub(r"_(bucket|sum|count)$", "", name) in CONTRACT, name
    assert set(re.findall(r"\w+:emotiond_\w+:\w+", query)) <= RECORDED
    assert set(re.findall(r"(?<![\w:])process_\w+", query)) <= PROCESS


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]
) -> Iterator[tuple[PrometheusServer, Webhook]]:
    """A Prometheus with the shipped rules that has scraped a daemon through load and faults, beside other programs."""
    for server in ("redis-server", "prometheus", "alertmanager"):
        require_server(server)
    folder = tmp_path_factory.mktemp("fleet")
    clip = write_video(folder / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)
    streams = {"door": endless(clip, FPS), "dead": {"source": f"rtsp://127.0.0.1:{free_port()}/none"}}
    with (
        Webhook() as webhook, RedisServer(folder / "redis") as redis,
        Daemon(folder / "daemon", streams, redis.url) as daemon,
        Alertmanager(folder / "alertmanager", webhook) as alertmanager,
        PrometheusServer(folder / "prometheus", f"127.0.0.1:{daemon.port}", rules=(hurried(folder),),
                         alertmanager=f"127.0.0.1:{alertmanager.port}", shared=True) as server,
    ):
        server.wait_for_scrape()
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") >= 5, "events")
        redis.freeze()
        daemon.wait_for(lambda scrape: scrape("redis_up") == 0, "an outage")
        redis.thaw()
        daemon.wait_for(lambda scrape: scrape("redis_up") == 1 and scrape("spool_events") == 0, "its end")
        poll(lambda: server.query(
            'histogram_quantile(0.95, rate(emotiond_event_latency_seconds_bucket{stream="door"}[10s])) > 0'), 30,
            "no latency", every_s=0.5)
        yield server, webhook


def fill_in(query: str, server: PrometheusServer, dashboard: str = "fleet") -> str:
    """Writes into a query what Grafana would with "All" chosen wherever a dashboard offers it, else the first."""
    chosen = dict(TIMES)
    for variable in DASHBOARDS[dashboard]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", _replace(variable["definition"], chosen))
        assert found, variable["definition"]
        values = [re.escape(value).replace("\\", "\\\\") for value in server.label_values(found[1], found[2])]
        every = variable.get("allValue") or (values[0] if len(values) == 1 else f"({'|'.join(values)})")
        chosen[f"${variable['name']}"] = every if variable["includeAll"] else "door"
    return _replace(query, chosen)


def _replace(query: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        query = query.replace(name, value)
    return query


@pytest.mark.parametrize(("name", "query"), sorted({
    (name, target["expr"]) for name, panel in PANELS for target in panel["targets"]}))
def test_a_panels_query_returns_data(
    name: str, query: str, prometheus: tuple[PrometheusServer, Webhook]
) -> None:
    query = fill_in(query, prometheus[0], name)

    found = poll(lambda: prometheus[0].query(query), 30, f"no data: {query}", every_s=0.5)
    assert {labels.get("job", "emotiond") for labels, _ in found} == {"emotiond"}


def test_other_programs_of_the_same_prometheus_are_not_counted(prometheus: tuple[PrometheusServer, Webhook]) -> None:
    server = prometheus[0]
    poll(lambda: server.query('up{job="other"} == 0'), 30, "nothing else is down")
    poll(lambda: server.query('rate(process_cpu_seconds_total{job="other"}[10s])'), 30, "nothing else is scraped")

    fleet = {panel["title"]: fill_in(panel["targets"][0]["expr"], server) for name, panel in PANELS if name == "fleet"}
    assert server.query(fleet["Daemons down"]) == [({}, 0)]
    for title in ("CPU", "Memory", "File descriptors", "Daemons"):
        assert len(server.query(fleet[title])) == 1, title
    assert not server.query('ALERTS{alertname="EmotiondDown"}')


@pytest.mark.parametrize("name", [name for name in ALERTS if name not in SHARD_ALERTS])
def test_what_an_alert_compares_is_there(name: str, prometheus: tuple[PrometheusServer, Webhook]) -> None:
    for operand in operands(hurry(ALERTS[name]["expr"])):
        poll(lambda operand=operand: prometheus[0].query(operand), 30, f"no data: {operand}", every_s=0.5)


def test_a_dead_camera_reaches_the_alertmanagers_receiver(prometheus: tuple[PrometheusServer, Webhook]) -> None:
    server, webhook = prometheus

    poll(lambda: webhook.fired(alertname="EmotiondStreamDown", stream="dead"), 60,
         lambda: f"{webhook.messages}; {server.query('ALERTS')}", every_s=0.5)
    assert not webhook.fired(alertname="EmotiondStreamDown", stream="door")

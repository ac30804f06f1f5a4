"""The dashboards as Grafana takes them, and every query of theirs and of the alerts asked of a real Prometheus."""

import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from deploy.grafana.__main__ import write
from tests.support.contract import CONTRACT, PROCESS
from tests.support.daemon import Daemon, endless
from tests.support.pictures import face_frames
from tests.support.process import ServerProcess
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import free_port, poll

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"
RULES = ROOT / "deploy/prometheus/emotiond.rules.yaml"
DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads((FOLDER / f"{name}.json").read_text())
                                         for name in ("fleet", "stream")}
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]
          if panel["type"] != "row"]
QUERIES = sorted({target["expr"] for _, panel in PANELS for target in panel["targets"]})
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule["expr"] for group in GROUPS for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
FPS = 10
CHOSEN = {"$job": "emotiond", "$instance": ".*", "$stream": "door", "$__rate_interval": "10s", "$__range": "1m"}
SHARDED = {"EmotiondStreamOnNoShard", "EmotiondStreamOnTwoShards", "EmotiondShardMismatch"}


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


class Webhook:
    """Receives what an Alertmanager sends."""

    def __init__(self) -> None:
        self.firing: set[tuple[str, str]] = set()
        received = self.firing

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                received.update((alert["labels"]["alertname"], alert["labels"].get("stream", ""))
                                for alert in body["alerts"] if alert["status"] == "firing")
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


class Alertmanager(ServerProcess):
    """Sends every alert to a webhook at once."""

    def __init__(self, folder: Path, webhook: Webhook) -> None:
        self.port = free_port()
        folder.mkdir()
        (folder / "alertmanager.yml").write_text(yaml.safe_dump({
            "route": {"receiver": "hook", "group_by": ["..."], "group_wait": "1s"},
            "receivers": [{"name": "hook", "webhook_configs": [
                {"url": f"http://127.0.0.1:{webhook.server.server_port}/"}]}]}))
        super().__init__("alertmanager", [
            "prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="], folder / "alertmanager.log")

    def ready(self) -> bool:
        """Tells whether it listens."""
        return "Listening on" in self.output() or "listening" in self.output().lower()


def hurried(folder: Path) -> Path:
    """Writes the rules with their waits and windows shortened: minutes become seconds."""
    text = re.sub(r"^(\s+)for: \w+\n", "", RULES.read_text(), flags=re.M)
    file = folder / "hurried.rules.yaml"
    file.write_text(re.sub(r"(?<=\[)(\d+)m(?=\])", lambda match: f"{max(4, int(match[1]))}s", text))
    return file


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]
) -> Iterator[tuple[PrometheusServer, Webhook]]:
    """A Prometheus with the shipped rules that has scraped a daemon through load and faults for a while."""
    for server in ("redis-server", "prometheus", "alertmanager"):
        require_server(server)
    folder = tmp_path_factory.mktemp("fleet")
    clip = write_video(folder / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)
    streams = {"door": endless(clip, FPS), "dead": {"source": f"rtsp://127.0.0.1:{free_port()}/none"}}
    webhook = Webhook()
    with (
        RedisServer(folder / "redis") as redis, Daemon(folder / "daemon", streams, redis.url) as daemon,
        Alertmanager(folder / "alertmanager", webhook) as alertmanager,
        PrometheusServer(folder / "prometheus", f"127.0.0.1:{daemon.port}", rules=(hurried(folder),),
                         alertmanager=f"127.0.0.1:{alertmanager.port}") as server,
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
    webhook.close()


@pytest.mark.parametrize("query", QUERIES)
def test_a_panels_query_returns_data(query: str, prometheus: tuple[PrometheusServer, Webhook]) -> None:
    for variable, value in CHOSEN.items():
        query = query.replace(variable, value)

    poll(lambda: prometheus[0].query(query), 30, f"no data: {query}", every_s=0.5)


@pytest.mark.parametrize("name", [name for name in ALERTS if name not in SHARDED])
def test_what_an_alert_compares_is_there(name: str, prometheus: tuple[PrometheusServer, Webhook]) -> None:
    for part in re.split(r"\b(?:and|or|unless)\b(?: on \([^)]*\))?", re.sub(r"#.*", "", ALERTS[name])):
        operand = re.sub(r"\s*(==|!=|>=|<=|>|<)\s*[\d.]+", "", " ".join(part.split()))
        if operand.count("(") == operand.count(")") and "offset" not in operand:
            operand = re.sub(r"\[\d+m\]", "[10s]", operand)
            poll(lambda operand=operand: prometheus[0].query(operand), 30, f"no data: {operand}", every_s=0.5)


def test_a_dead_camera_reaches_the_alertmanagers_receiver(prometheus: tuple[PrometheusServer, Webhook]) -> None:
    server, webhook = prometheus

    poll(lambda: ("EmotiondStreamDown", "dead") in webhook.firing, 60,
         lambda: f"{webhook.firing}; {server.query('ALERTS')}", every_s=0.5)
    assert ("EmotiondStreamDown", "door") not in webhook.firing

"""`emotiond run` as an operator sees it: its pages, its metrics in a real Prometheus, its exit codes."""

import json
import socket
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.commands import run
from tests.support.contract import CONTRACT, PROCESS, STREAMS
from tests.support.daemon import Daemon, endless, write_config
from tests.support.events import assert_whole, read_entries, read_status
from tests.support.prometheus_server import PrometheusServer, check_metrics
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll

FPS = 10
PATTERN = {"source": "lavfi:testsrc2=size=320x240:rate=10,realtime"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, clip: Path, server: RedisServer) -> Iterator[Daemon]:
    """One with a camera that shows a face, and a dead one."""
    with Daemon(tmp_path_factory.mktemp("daemon"), {
        "door": endless(clip, FPS), "dead": {"source": f"rtsp://127.0.0.1:{free_port()}/"},
    }, server.url) as daemon:
        daemon.wait_until_ready()
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") > 10, "events")
        yield daemon


def test_metrics_are_as_prometheus_wants_them(daemon: Daemon, require_server: Callable[[str], None]) -> None:
    require_server("prometheus")
    answer = daemon.get("/metrics")

    assert answer.status == 200
    assert answer.kind.startswith("text/plain; version=")
    check_metrics(answer.text)


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metric_of_the_contract_is_there_with_its_labels(daemon: Daemon, name: str) -> None:
    kind, labels = CONTRACT[name]
    families = {family.name: family for family in text_string_to_metric_families(daemon.get("/metrics").text)}
    family = families[f"emotiond_{name.removesuffix('_total')}"]
    samples = [sample for sample in family.samples if not sample.name.endswith("_bucket")]

    assert family.type == kind
    assert family.documentation
    assert {name for sample in samples for name in sample.labels} == set(labels)
    for label, values in labels.items():
        seen = {sample.labels[label] for sample in samples}
        assert seen
        assert values is None or seen == values
    if kind != "histogram" and None not in labels.values():
        assert len(samples) == prod(len(values or ()) for values in labels.values())


def test_no_metric_is_outside_the_contract(daemon: Daemon) -> None:
    families = text_string_to_metric_families(daemon.get("/metrics").text)

    names = {f"emotiond_{name}" for name in CONTRACT} | PROCESS
    assert {family.name for family in families} == {name.removesuffix("_total") for name in names}


def test_metrics_come_as_openmetrics_to_whom_asks_for_it(daemon: Daemon) -> None:
    answer = daemon.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parse_openmetrics(answer.text)}

    assert answer.kind.startswith("application/openmetrics-text")
    assert families["emotiond_frames_analyzed"].type == "counter"
    assert len(families) == len(CONTRACT) + len(PROCESS)


def test_a_prometheus_scrapes_the_daemon(
    daemon: Daemon, start_prometheus: Callable[[str], PrometheusServer]
) -> None:
    prometheus = start_prometheus(f"127.0.0.1:{daemon.port}")
    prometheus.wait_for_scrape()

    analyzed = {labels["stream"]: value for labels, value in prometheus.query("emotiond_frames_analyzed_total")}
    assert analyzed.keys() == STREAMS
    assert analyzed["door"] > 0
    assert analyzed["dead"] == 0
    balance = ("emotiond_stream_frames_read_total - emotiond_frames_analyzed_total "
               "- sum without (reason) (emotiond_frames_dropped_total) - emotiond_frames_in_flight")
    assert {labels["stream"]: value for labels, value in prometheus.query(balance)} == {"door": 0, "dead": 0}


def test_what_metrics_say_of_a_running_stream_is_what_redis_says(daemon: Daemon, server: RedisServer) -> None:
    def added() -> int:
        return int(server.client.xinfo_stream("emotions:door")["entries-added"])

    before = added()
    scrape = daemon.wait_for(
        lambda scrape: scrape("events_published_total", stream="door") >= before, "all that is there is counted")

    assert scrape("events_published_total", stream="door") <= added()
    assert scrape("events_published_total", stream="dead") == 0
    assert scrape("ready") == scrape("redis_up") == 1
    assert scrape("spool_bytes") <= scrape("spool_capacity_bytes")


def test_pages_tell_health_readiness_and_streams(daemon: Daemon) -> None:
    assert (daemon.get("/healthz").status, daemon.get("/healthz").text) == (200, "ok\n")
    assert (daemon.get("/readyz").status, daemon.get("/readyz").text) == (200, "ok\n")
    answer = daemon.get("/streams")
    assert answer.kind == "application/json"
    streams = json.loads(answer.text)
    assert streams.keys() == STREAMS
    assert streams["door"]["state"] == "running"
    assert streams["door"]["error"] is None
    assert streams["door"]["frames_read"] > 0
    assert streams["dead"]["state"] in ("backoff", "connecting")
    assert "refused" in streams["dead"]["error"]
    missing = daemon.get("/secrets")
    assert missing.status == 404
    assert "/metrics" in missing.text


class StartingDaemon(Daemon):
    """Started means no more than that it answers."""

    def ready(self) -> bool:
        return self.answers()


def test_a_daemon_gets_ready_only_when_its_models_and_redis_are_there(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    late = RedisServer(tmp_path / "redis")
    slow_load = "import time, emotiond.pipeline as p\nload = p.load_models\n" \
                "p.load_models = lambda *a: (time.sleep(1), load(*a))[1]"
    with StartingDaemon(tmp_path, {"door": endless(clip, FPS)}, late.url, before=slow_load) as daemon:
        assert (daemon.get("/readyz").status, daemon.get("/readyz").text) == (503, "loading the models\n")
        assert daemon.get("/healthz").status == 200
        waiting = daemon.wait_for(
            lambda scrape: scrape("frames_analyzed_total") > 5, "frames are analysed without Redis")
        not_ready = daemon.get("/readyz")
        with late:
            daemon.wait_until_ready()
            poll(lambda: read_entries(late.client, "door"), 10, daemon.output)
            assert daemon.scrape()("ready") == 1
            assert daemon.end() == 0
            assert_whole(read_entries(late.client, "door"))

    assert not_ready.status == 503
    assert "Redis" in not_ready.text
    assert waiting("ready") == 0
    assert waiting("spool_events") > 0


def test_run_without_a_redis_url_is_a_configuration_error_that_names_both_ways_out(tmp_path: Path) -> None:
    ended = run("run", "-c", write_config(tmp_path / "emotiond.yaml", {"streams": {"door": PATTERN}}))

    assert ended.code == 78
    assert ended.out == ""
    assert len(ended.lines) == 1
    assert "redis.url" in ended.err
    assert "redis://" in ended.err
    assert "embedded" in ended.err


def test_run_without_streams_is_a_configuration_error(tmp_path: Path) -> None:
    ended = run("run", "-c", write_config(tmp_path / "emotiond.yaml", {"redis": {"url": "redis://127.0.0.1:1/0"}}))

    assert ended.code == 78
    assert "streams" in ended.err
    assert len(ended.lines) == 1


def test_a_taken_port_is_one_sentence_and_exit_69(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port: int = other.getsockname()[1]
        ended = run("run", "-c", write_config(tmp_path / "emotiond.yaml", {
            "streams": {"door": PATTERN}, "redis": {"url": "redis://127.0.0.1:1/0"},
            "http": {"listen": f"127.0.0.1:{port}"}, "spool": {"path": "memory"}}))

    assert ended.code == 69
    assert len(ended.lines) == 1
    assert "http.listen" in ended.err
    assert str(port) in ended.err


def test_a_heartbeat_tells_that_a_silent_daemon_lives(daemon: Daemon, server: RedisServer) -> None:
    def beats() -> list[dict[str, Any]]:
        return [body for kind, body in read_status(server.client) if kind == "heartbeat"]

    poll(beats, 20, daemon.output)

    assert beats()[0]["streams"].keys() == STREAMS
    assert beats()[0]["streams"]["door"] == "running"

"""A thread that dies is never silent: the daemon gets unready and unhealthy, and ends with a failure."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import emotiond.pipeline
from emotiond.config import Config
from emotiond.publisher import Publisher
from emotiond.service import Service
from emotiond.spool import Spool
from emotiond.stream import StreamReader
from emotiond.timeline import Timeline
from tests.support.daemon import Daemon, get_page
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

PATTERN = {"source": "lavfi:testsrc2=size=320x240:rate=10,realtime"}
INJECT = """
import emotiond.timeline
def break_down(*_):
    raise RuntimeError("injected")
emotiond.timeline.Timeline.deliver = break_down
"""
LOSE_DEVICE = """
import torch
from emotiond.device.plan import Plan
from emotiond.device.runtime import Runtime
def lose(*_):
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
Plan.end = lose
Runtime.works = lambda self: False
"""


def break_down(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("injected")


def break_reader(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StreamReader, "_read", break_down)


def break_analyzer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(emotiond.pipeline, "work", break_down)


def break_timeline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timeline, "deliver", break_down)


def break_publisher(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Publisher, "_round", break_down)


def break_spool(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Spool, "commit", break_down)


def make_service(url: str, port: int = 0) -> Service:
    return Service(Config.model_validate({
        "streams": {"pattern": PATTERN}, "http": {"listen": f"127.0.0.1:{port}"}, "publish_empty": True,
        "spool": {"path": "memory"}}), url)


@pytest.mark.parametrize(("break_it", "thread"), [
    (break_reader, "reader-pattern"), (break_analyzer, "analyzer-"), (break_timeline, "analyzer-"),
    (break_publisher, "publisher"), (break_spool, "spool")])
def test_a_thread_that_dies_makes_the_daemon_unready_and_end_with_a_failure(
    break_it: Callable[[pytest.MonkeyPatch], None], thread: str, monkeypatch: pytest.MonkeyPatch,
    redis_server: RedisServer,
) -> None:
    before = set(threading.enumerate())
    break_it(monkeypatch)
    monkeypatch.setattr("emotiond.service.STOP_SECONDS", 2.0)
    service = make_service(redis_server.url)

    service.start()
    poll(lambda: "died" in (service.not_ready() or ""), 20, "no thread died")
    assert service.web is not None
    ready, healthy = (get_page(service.web.port, page) for page in ("/readyz", "/healthz"))
    ended_well = service.shut_down()

    assert (ready.status, ready.text) == (503, "a thread died\n")
    assert healthy.status == 503
    assert healthy.text.startswith(f"thread {thread}")
    assert not ended_well
    assert set(threading.enumerate()) <= before


def test_a_service_that_stops_leaves_no_thread(redis_server: RedisServer) -> None:
    before = set(threading.enumerate())
    service = make_service(redis_server.url)

    service.start()
    poll(lambda: redis_server.client.exists("emotions:pattern"), 20, "no events")
    assert service.shut_down()

    assert set(threading.enumerate()) <= before


def test_the_process_ends_with_a_failure_and_names_thread_and_cause(tmp_path: Path, redis_server: RedisServer) -> None:
    with Daemon(tmp_path, {"pattern": PATTERN}, redis_server.url, before=INJECT) as daemon:
        assert daemon.wait() == 1

    died = daemon.log_entries("died")[0]
    assert died["level"] == "critical"
    assert died["message"].startswith("thread analyzer-")
    assert died["traceback"].endswith("RuntimeError: injected")
    assert daemon.log_entries("stopped")


@pytest.mark.slow
def test_a_device_that_is_lost_ends_the_process_at_its_first_error(tmp_path: Path, redis_server: RedisServer) -> None:
    pytest.importorskip("torch", reason="torch missing")
    with Daemon(tmp_path, {"pattern": PATTERN}, redis_server.url, before=LOSE_DEVICE,
                compute={"device": "torch:cpu"}) as daemon:
        assert daemon.wait() == 1

    died = daemon.log_entries("died")[0]
    assert died["traceback"].endswith("illegal memory access was encountered")
    assert not daemon.log_entries("could not be analysed")

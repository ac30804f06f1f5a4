"""A part that stands still is noticed and systemd hears no more; a Redis or cameras that do are no reason."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll

PATTERN = {"source": "lavfi:testsrc2=size=320x240:rate=10,realtime"}
IMPATIENT = """
import emotiond.watchdog
emotiond.watchdog.STALL_SECONDS = 4.0
"""
HANGING = f"""{IMPATIENT}
import threading, time, emotiond.{{module}}
began = time.monotonic()
before = emotiond.{{module}}.{{owner}}.{{method}}
def hang(*arguments, **named):
    if time.monotonic() - began > 4:
        time.sleep(3600)
    return before(*arguments, **named)
emotiond.{{module}}.{{owner}}.{{method}} = hang
"""


class Manager:
    """Plays systemd's part: collects what the daemon says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.said: list[str] = []

    def listen(self) -> list[str]:
        while True:
            try:
                self.said.append(self.socket.recv(1000).decode())
            except BlockingIOError:
                return self.said


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    yield manager
    manager.socket.close()


@pytest.mark.parametrize(("module", "owner", "method", "part"), [
    ("analyzer", "Analyzer", "analyze", "the analyzers"), ("spool.spool", "Spool", "commit", "the spool"),
    ("publisher", "Publisher", "_round", "the publisher")])
def test_a_part_that_hangs_is_named_and_systemd_hears_no_more(
    module: str, owner: str, method: str, part: str, tmp_path: Path, redis_server: RedisServer, manager: Manager
) -> None:
    broken = HANGING.format(module=module, owner=owner, method=method)
    with Daemon(tmp_path / "daemon", {"door": PATTERN}, redis_server.url, publish_empty=True, before=broken) as daemon:
        poll(lambda: "WATCHDOG=1" in manager.listen(), 20, daemon.output)
        assert "READY=1" in manager.said

        poll(lambda: daemon.get("/healthz").status == 503, 30, daemon.output)

        assert daemon.get("/healthz").text.startswith(f"{part} stood still for ")
        assert [entry["level"] for entry in daemon.log_entries("stood still")] == ["error"]
        manager.listen()
        manager.said.clear()
        time.sleep(3)
        assert "WATCHDOG=1" not in manager.listen()


def test_a_frozen_redis_and_a_dead_camera_are_no_standstill(
    tmp_path: Path, redis_server: RedisServer, manager: Manager
) -> None:
    cameras = {"door": {"source": f"rtsp://127.0.0.1:{free_port()}/none"}, "hall": PATTERN}
    with Daemon(tmp_path / "daemon", cameras, redis_server.url, publish_empty=True, before=IMPATIENT) as daemon:
        poll(lambda: redis_server.client.exists("emotions:hall"), 20, daemon.output)
        redis_server.freeze()
        end = time.monotonic() + 12
        while time.monotonic() < end:
            manager.said.clear()
            time.sleep(1.5)
            assert "WATCHDOG=1" in manager.listen()
            assert daemon.get("/healthz").status == 200
        redis_server.thaw()
        assert daemon.end() == 0
        assert manager.listen()[-1].startswith(("STOPPING=1", "STATUS="))
        assert "STOPPING=1" in manager.said

"""Progress: a part with work that does not move is named, one without work never; and what systemd is told."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from emotiond import watchdog
from emotiond.watchdog import Progress, ServiceManager


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def test_a_part_with_work_that_does_not_move_is_named(clock: list[float]) -> None:
    counts = {"one": 0, "two": 0}
    progress = Progress({name: lambda name=name: (True, counts[name]) for name in counts})
    progress.standing_still()

    found: list[str | None] = []
    for _ in range(70):
        clock[0] += 1
        counts["one"] += 1
        found.append(progress.standing_still())

    assert (found[58], found[-1]) == (None, "two stood still for 70 s")
    counts["two"] += 1
    assert progress.standing_still() is None


def test_a_part_without_work_may_rest_and_has_its_time_once_work_comes(clock: list[float]) -> None:
    has_work = False
    progress = Progress({"one": lambda: (has_work, 5)})
    for _ in range(500):
        clock[0] += 1
        assert progress.standing_still() is None

    has_work = True
    clock[0] += 1
    assert progress.standing_still() is None
    clock[0] += watchdog.STALL_SECONDS + 1
    assert progress.standing_still() == "one stood still for 62 s"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Plays systemd's part: a datagram socket whose address is in the environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def test_systemd_is_told_in_its_own_words(manager: socket.socket) -> None:
    told = ServiceManager()

    told.ready()
    told.status("2 streams")
    told.alive()
    told.reloading()
    told.stopping()

    said = [manager.recv(100) for _ in range(5)]
    assert said[:3] == [b"READY=1", b"STATUS=2 streams", b"WATCHDOG=1"]
    assert said[3].startswith(b"RELOADING=1\nMONOTONIC_USEC=")  # as Type=notify-reload wants it
    assert said[4] == b"STOPPING=1"


def test_the_watchdogs_interval_is_that_of_this_process_alone(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ServiceManager().watchdog_seconds is None
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert ServiceManager().watchdog_seconds == 30
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert ServiceManager().watchdog_seconds is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert ServiceManager().watchdog_seconds == 30


def test_nobody_is_told_where_there_is_no_systemd_or_it_is_gone(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ServiceManager()
    manager.close()
    (tmp_path / "notify").unlink()
    gone.alive()

    monkeypatch.delenv("NOTIFY_SOCKET")
    ServiceManager().alive()


def test_a_manager_that_does_not_read_holds_nothing_up(manager: socket.socket) -> None:
    told = ServiceManager()

    for _ in range(10_000):
        told.alive()

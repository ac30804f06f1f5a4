"""The spool: bounded, in order and on disk; full, live streams lose their oldest events and readers of files wait."""

import contextlib
import errno
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.errors import ConfigError
from emotiond.events import format_id
from emotiond.frames import FrameLedger
from emotiond.metrics import Metrics
from emotiond.spool import Entry, Spool, repair
from emotiond.spool import commit as commit_module
from emotiond.spool import disk as disk_module
from emotiond.spool import memory as memory_module
from emotiond.spool import spool as spool_module
from emotiond.spool.database import CorruptRecordError, decode_record, encode_record
from tests.support.threads import join, spawn
from tests.support.waiting import poll

LONG_S = 30.0
FIELDS = {"data": b"x" * 400}
NOW_US = 1_769_860_800_000_000
HOURS = 3600.0


def never() -> bool:
    return False


class Counts:
    """Counts what the spool says."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.gone: Counter[tuple[str, str]] = Counter()

    def produced(self, stream: str, events: int) -> None:
        self.made[stream] += events

    def lost(self, stream: str, reason: str, events: int) -> None:
        self.gone[stream, reason] += events


class Place:
    """A spool with some streams, what it says of them, and a clock that goes on by 40 ms with each event."""

    def __init__(self, *streams: str, events: float = 10, path: Path | None = None, keep: float = 0) -> None:
        self.counts = Counts()
        self.path, self.keep = path, keep
        self.ticks = 0
        size = Spool(None, 10**9, 0, self.counts)
        size.add_stream("size")
        size.put("size", FIELDS, NOW_US, 0, NOW_US)
        self.size = size.figures()[1]
        self.max_bytes = round(self.size * events)
        self.streams = streams
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.path, self.max_bytes, self.keep, self.counts)
        for stream in self.streams:
            self.spool.add_stream(stream)

    def close(self) -> None:
        self.spool.commit()
        self.spool.close()

    def put(
        self, stream: str, live: bool = True, fields: dict[str, bytes] = FIELDS, captured_us: int | None = None,
        commit: bool = True,
    ) -> None:
        at = NOW_US + 40_000 * self.ticks
        self.ticks += 1
        captured_us = at if captured_us is None else captured_us
        self.spool.put(stream, fields, captured_us, float(self.ticks), at if live else None)
        if commit:
            self.spool.commit()

    def entries(self, stream: str) -> list[Entry]:
        """Returns what waits of a stream without having it sent."""
        queue = self.spool._memory.queues[stream]
        sent = queue.sent
        entries = self.send(stream, 10**6)
        queue.sent = sent
        return entries

    def send(self, stream: str, events: int) -> list[Entry]:
        """Returns what waits of a stream and has it sent, and nothing of the others."""
        sent = {queue: queue.sent for queue in self.spool._memory.queues.values() if queue.name != stream}
        entries = self.spool.pending(events).get(stream, [])
        for queue, seq in sent.items():
            queue.sent = seq
        return entries

    def held(self, stream: str) -> list[int]:
        """Returns which events of a stream wait, by their tick."""
        return [round(entry.arrived) - 1 for entry in self.entries(stream)]

    def acknowledge(self, stream: str, events: int = 1) -> list[Entry]:
        entries = self.spool.pending(events).get(stream, [])
        self.spool.acknowledge(stream, entries)
        return entries


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every event read from the disk."""
    monkeypatch.setattr(memory_module, "FRESH_BYTES", 0)


@pytest.fixture(params=["memory", "disk", "disk, read back"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places whose spools are in memory or on the disk, from which the publisher reads or not."""
    made: list[Place] = []
    if request.param == "disk, read back":
        request.getfixturevalue("read_back")

    def make(*streams: str, **options: float) -> Place:
        path = None if request.param == "memory" else tmp_path / f"spool{len(made)}.db"
        made.append(Place(*streams, path=path, **options))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A spool on the disk that keeps what was acknowledged."""
    place = Place("a", "b", events=1000, path=tmp_path / "spool.db", keep=HOURS)
    yield place
    place.close()


def test_events_come_out_in_order_and_stay_until_they_are_acknowledged(make: Callable[..., Place]) -> None:
    place = make("a", "b")
    for stream in "abab":
        place.put(stream)

    pending = place.spool.pending(1)

    assert {stream: [e.captured_us for e in entries] for stream, entries in pending.items()} == {
        "a": [NOW_US], "b": [NOW_US + 40_000]}
    assert place.spool.pending(1) == pending
    assert pending["a"][0].fields == FIELDS
    place.spool.acknowledge("a", pending["a"])
    assert (place.held("a"), place.held("b")) == ([2], [1, 3])


def test_an_event_counts_as_produced_and_is_seen_once_it_is_committed(make: Callable[..., Place]) -> None:
    place = make("a")

    place.put("a", commit=False)
    assert (place.spool.pending(1), place.counts.made["a"]) == ({}, 0)
    place.spool.commit()

    assert (place.held("a"), place.counts.made["a"]) == ([0], 1)


def test_figures_tell_events_bytes_and_the_oldest_capture_time(
    make: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "IDLE_SECONDS", 0.0)
    place = make("a", "b")
    assert place.spool.figures() == (0, 0, 0.0)

    place.put("a")
    place.put("b", captured_us=NOW_US - 5_000_000)

    assert place.spool.figures() == (2, 2 * place.size, (NOW_US - 5_000_000) / 1e6)
    place.acknowledge("b")
    place.spool.commit()
    assert place.spool.figures() == (1, place.size, NOW_US / 1e6)
    place.acknowledge("a")
    assert place.spool.figures() == (0, 0, 0.0)


def test_a_full_spool_drops_the_oldest_event_of_all_live_streams(make: Callable[..., Place]) -> None:
    place = make("a", "b", events=4)

    for stream in "aabbab":
        place.put(stream)

    assert (place.held("a"), place.held("b")) == ([4], [2, 3, 5])
    assert place.counts.gone == {("a", "spool_full"): 2}
    assert place.counts.made.total() == 6


def test_what_is_lost_of_a_stream_that_is_gone_is_counted_too(tmp_path: Path) -> None:
    before = Place("gone", events=3, path=tmp_path / "spool.db")
    for _ in range(3):
        before.put("gone")
    before.close()
    metrics = Metrics(FrameLedger(), ["happy"])
    metrics.add_stream("new")
    spool = Spool(tmp_path / "spool.db", before.max_bytes, 0, metrics)
    spool.add_stream("new")

    for number in range(2):
        spool.put("new", FIELDS, NOW_US + number, 0, NOW_US + number)
        spool.commit()

    labels = {"stream": "gone", "reason": "spool_full"}
    assert metrics.registry.get_sample_value("emotiond_events_dropped_total", labels) == 2
    spool.close()


def test_a_full_spool_drops_no_event_that_may_be_in_redis_already(make: Callable[..., Place]) -> None:
    place = make("a", events=4)
    for _ in range(4):
        place.put("a")
    assert len(place.spool.pending(2)["a"]) == 2

    for _ in range(2):
        place.put("a")

    assert place.held("a") == [0, 1, 4, 5]
    assert place.counts.gone == {("a", "spool_full"): 2}


def test_what_redis_has_makes_room_before_anything_is_dropped(make: Callable[..., Place]) -> None:
    place = make("a", events=4, keep=HOURS)
    for _ in range(4):
        place.put("a")
    place.acknowledge("a", 2)

    for _ in range(2):
        place.put("a")

    assert place.held("a") == [2, 3, 4, 5]
    assert place.counts.gone == {}


def test_a_files_event_is_always_taken_and_drops_nobodys_but_a_cameras(make: Callable[..., Place]) -> None:
    place = make("camera", "file", events=4)
    for _ in range(4):
        place.put("file", live=False)

    place.put("file", live=False)
    place.put("camera")

    assert (place.held("camera"), place.held("file")) == ([], [0, 1, 2, 3, 4])
    assert place.counts.gone == {("camera", "spool_full"): 1}


def test_a_files_reader_waits_until_there_is_room(make: Callable[..., Place]) -> None:
    place = make("file", events=2, keep=HOURS)
    for _ in range(2):
        place.put("file", live=False)
    reader = spawn(place.spool.wait_for_room, never)

    reader.join(0.3)
    assert reader.is_alive()
    place.acknowledge("file")

    join([reader])


def test_a_files_reader_waits_only_in_a_full_spool_and_can_be_stopped(make: Callable[..., Place]) -> None:
    place, stopped = make("file", events=2), threading.Event()
    place.put("file", live=False)
    place.spool.wait_for_room(never)
    place.put("file", live=False)
    reader = spawn(place.spool.wait_for_room, stopped.is_set)

    stopped.set()

    join([reader])


@given(st.lists(st.tuples(
    st.sampled_from(["camera", "door", "file"]), st.integers(0, 3000), st.integers(-10**8, 10**8), st.booleans(),
    st.integers(0, 4)), max_size=60))
def test_bytes_are_bounded_ids_rise_and_no_event_is_lost_uncounted(
    events: list[tuple[str, int, int, bool, int]]
) -> None:
    place = Place("camera", "door", "file", events=8)
    highest: dict[str, tuple[int, int]] = {}
    acknowledged = 0
    for stream, size, skew, commits, done in events:
        place.put(stream, stream != "file", {"data": b"x" * size}, NOW_US + place.ticks * 40_000 + skew, commits)
        acknowledged += len(place.acknowledge("camera", done))

        for name in place.streams:
            ids = [entry.id for entry in place.entries(name)]
            assert ids == sorted(set(ids))
        assert place.spool._memory.queues[stream].ids.last > highest.get(stream, (0, 0))
        highest[stream] = place.spool._memory.queues[stream].ids.last
    place.spool.commit()

    waiting = {name: place.entries(name) for name in place.streams}
    in_files = sum(entry.size for entry in waiting["file"])
    in_flight = sum(entry.size for name in ("camera", "door") for entry in waiting[name]
                    if entry.seq <= place.spool._memory.queues[name].sent)
    count, held, _ = place.spool.figures()
    assert held == sum(entry.size for entries in waiting.values() for entry in entries)
    assert held <= max(place.max_bytes, in_files + in_flight)
    assert count == sum(map(len, waiting.values()))
    assert place.spool._disk.stored_bytes == held
    assert sum(place.counts.gone[name, "spool_full"] for name in ("camera", "door")) == place.counts.gone.total()
    assert place.counts.made.total() == len(events) == count + acknowledged + place.counts.gone.total()


def test_ids_above_another_writers_are_given_to_what_is_sent_and_to_what_comes(make: Callable[..., Place]) -> None:
    place = make("a", "b")
    for stream in "aab":
        place.put(stream)
    place.put("a", captured_us=NOW_US)
    before = [entry.id for entry in place.entries("b")]
    other = (NOW_US // 1000 + 20, 7)
    entries = place.spool.pending(2)["a"]

    place.spool.raise_ids("a", entries, other)

    place.put("a", captured_us=NOW_US)
    assert [entry.id for entry in entries] == [(other[0], 8), (NOW_US // 1000 + 40, 0)]
    assert [entry.id for entry in place.entries("a")[:2]] == [entry.id for entry in entries]
    assert [entry.id for entry in place.entries("b")] == before
    assert place.held("a") == [0, 1, 3, 4]
    assert place.entries("a")[3].id > entries[1].id


def test_ids_stay_where_they_are_above_already(make: Callable[..., Place]) -> None:
    place = make("a")
    place.put("a")
    before = place.entries("a")

    place.spool.raise_ids("a", before, (NOW_US // 1000 - 1, 0))

    assert [entry.id for entry in place.entries("a")] == [(NOW_US // 1000, 0)]


def test_an_empty_queue_rises_for_what_comes(make: Callable[..., Place]) -> None:
    place = make("a")

    place.spool.raise_ids("a", [], (NOW_US // 1000 + 1000, 3))

    place.put("a")
    assert place.entries("a")[0].id == (NOW_US // 1000 + 1000, 4)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
       st.tuples(st.integers(0, 2 * 10**12), st.integers(0, 99)), st.integers(1, 20))
def test_what_is_sent_is_above_another_writers_and_in_order_however_often_it_rises(
    steps: list[int], other: tuple[int, int], at_a_time: int
) -> None:
    place = Place("a", events=100)
    at = 0
    for step in steps:
        at += step
        place.put("a", captured_us=at, live=False)

    sent: list[tuple[int, int]] = []
    while entries := place.spool.pending(at_a_time).get("a"):
        place.spool.raise_ids("a", entries, max([other, *sent]))
        sent += [entry.id for entry in entries]
        place.spool.acknowledge("a", entries)

    assert len(sent) == len(steps)
    assert sent == sorted(set(sent))
    assert sent[0] > other


def test_a_waiting_event_is_found_by_its_entry_id(make: Callable[..., Place]) -> None:
    place = make("a", "b")
    for _ in range(3):
        place.put("a")
    first, second, _ = place.entries("a")

    ids = {first.id, second.id, (second.id[0], 9)}

    assert place.spool.find("a", ids, second.seq) == {first.id: FIELDS, second.id: FIELDS}
    assert place.spool.find("a", ids, first.seq) == {first.id: FIELDS}
    assert place.spool.find("b", ids, second.seq) == {}
    place.acknowledge("a")
    assert place.spool.find("a", ids, second.seq) == {second.id: FIELDS}


def test_acknowledged_events_are_sent_again_after_a_rewind(make: Callable[..., Place]) -> None:
    place = make("a", "b", events=100, keep=HOURS)
    for _ in range(6):
        place.put("a")
    sent = place.acknowledge("a", 5)
    place.spool.commit()

    assert place.spool.rewind("a", sent[1].id) == 3

    assert [entry.id for entry in place.entries("a")[:3]] == [entry.id for entry in sent[2:]]
    assert place.held("a") == [2, 3, 4, 5]
    assert place.spool.figures()[0] == 4
    assert place.spool.acknowledged()["a"] == sent[1].id
    place.acknowledge("a", 10)
    assert place.spool.figures() == (0, 0, 0.0)


def test_a_rewind_goes_back_as_far_as_events_are_kept(make: Callable[..., Place]) -> None:
    place = make("a", events=100, keep=0.2)
    for _ in range(3):
        place.put("a")
    place.acknowledge("a", 2)
    time.sleep(0.25)
    place.spool.commit()
    place.acknowledge("a", 1)

    assert place.spool.rewind("a", (0, 0)) == 1

    assert place.held("a") == [2]


@pytest.mark.parametrize("room", [1, 3, 100])
@given(st.lists(st.tuples(st.sampled_from(["put", "store", "send", "acknowledge", "rewind", "raise"]),
                          st.sampled_from("ab"), st.integers(1, 4)), max_size=40))
def test_what_memory_still_has_of_stored_events_is_what_the_disk_has(
    room: int, steps: list[tuple[str, str, int]]
) -> None:
    places = [Place("a", "b", events=8, keep=HOURS) for _ in range(2)]
    ids = {"a": [(0, 0)], "b": [(0, 0)]}
    for step, stream, number in steps:
        with pytest.MonkeyPatch.context() as patch:
            for place, fresh in zip(places, (room * places[0].size, 0), strict=True):
                patch.setattr(memory_module, "FRESH_BYTES", fresh)
                sends = step in ("send", "acknowledge", "raise")
                entries = place.send(stream, number) if sends else []
                number = len(entries) or number  # memory may have fewer
                if step in ("put", "store"):
                    for _ in range(number):
                        place.put(stream, commit=False)
                if step == "store":
                    place.spool.commit()
                elif step == "acknowledge":
                    place.spool.acknowledge(stream, entries)
                elif step == "rewind":
                    place.spool.rewind(stream, ids[stream][-number:][0])
                elif step == "raise":
                    place.spool.raise_ids(stream, entries, (NOW_US // 1000 + 40 * place.ticks, number))
        if step in ("acknowledge", "rewind"):
            ids[stream].append(places[0].spool.acknowledged().get(stream, (0, 0)))

        for name in "ab":
            mine, whole = ([(entry.id, entry.arrived, entry.fields) for entry in place.entries(name)]
                           for place in places)
            assert mine == whole[:len(mine)]
            assert bool(mine) == bool(whole)
        assert places[0].spool.figures() == places[1].spool.figures()
        assert places[0].counts.gone == places[1].counts.gone
        kept = [entry.size for queue in places[0].spool._memory.queues.values() for entry in queue.fresh]
        assert places[0].spool._memory.fresh_bytes == sum(kept) <= room * places[0].size


def test_draining_waits_for_the_publisher(make: Callable[..., Place]) -> None:
    place = make("a")
    for _ in range(3):
        place.put("a")
    left: list[int] = []
    drainer = spawn(lambda: left.append(place.spool.drain(time.monotonic() + LONG_S)))

    while place.acknowledge("a"):
        pass

    join([drainer])
    assert left == [0]


def test_draining_ends_at_its_deadline_or_without_hope_with_what_is_left(make: Callable[..., Place]) -> None:
    place = make("a")
    for _ in range(3):
        place.put("a")

    assert place.spool.drain(time.monotonic() + 0.05) == 3
    assert place.spool.drain(time.monotonic() - 1) == 3
    assert place.spool.drain(time.monotonic() + LONG_S, lambda: True) == 3


@pytest.mark.parametrize("wakes", ["an event", "a wake"])
def test_the_publisher_is_woken(make: Callable[..., Place], wakes: str) -> None:
    place, woken = make("a"), threading.Event()

    def publish() -> None:
        place.spool.wait(LONG_S)
        woken.set()

    publisher = spawn(publish)

    def poke() -> bool:
        if wakes == "an event":
            place.put("a")
        else:
            place.spool.wake()
        return woken.is_set()

    poll(poke, LONG_S / 2, "the publisher sleeps on")
    join([publisher])


def test_an_event_is_committed_at_once_whenever_it_comes(place: Place) -> None:
    chance, longest = random.Random(5), 0.0
    committer = spawn(place.spool.run)

    for number in range(150):
        time.sleep(chance.choice((0.0, chance.uniform(0.0, 0.002), chance.uniform(0.0, 0.07))))
        begin = time.monotonic()
        place.put("a", commit=False)
        poll(lambda number=number: place.counts.made["a"] > number, LONG_S, "an event is not committed", 0.001)
        longest = max(longest, time.monotonic() - begin)
    place.spool.stop()
    join([committer])

    assert longest < spool_module.IDLE_SECONDS / 2, "an event came unnoticed"


def test_many_threads_lose_nothing(make: Callable[..., Place]) -> None:
    place = make("camera", "file", events=50, keep=0.05)
    spool = place.spool
    sent: Counter[str] = Counter()
    done = threading.Event()
    committer = spawn(spool.run)

    def read(stream: str, live: bool) -> None:
        for number in range(2000):
            if not live:
                spool.wait_for_room(never)
            spool.put(stream, FIELDS, NOW_US + number, float(number), NOW_US if live else None)

    def publish() -> None:
        while spool.figures()[0] or not done.is_set():
            spool.wait(0.01)
            for stream, entries in spool.pending(10).items():
                spool.acknowledge(stream, entries)
                sent[stream] += len(entries)

    publisher = spawn(publish)
    join([spawn(read, "camera", True), spawn(read, "file", False)])
    done.set()
    join([publisher])
    spool.stop()
    join([committer])

    assert sent["file"] == 2000
    assert sent["camera"] + place.counts.gone["camera", "spool_full"] == 2000
    assert place.counts.made == {"camera": 2000, "file": 2000}


# On the disk


def test_the_next_run_goes_on_where_this_one_ended(place: Place) -> None:
    for stream in "aabaab":
        place.put(stream)
    done = place.acknowledge("a", 2)
    waiting = place.entries("a")
    place.close()
    place.counts.made.clear()

    place.open()

    assert place.spool.acknowledged()["a"] == done[-1].id
    again = place.entries("a")
    assert [(e.seq, e.id, e.fields, e.captured_us) for e in again] == [
        (e.seq, e.id, e.fields, e.captured_us) for e in waiting]
    assert all(math.isnan(entry.arrived) for entry in again)
    assert place.spool.figures()[:2] == (4, 4 * place.size)
    assert place.counts.made == {}
    assert place.spool.rewind("a", done[0].id) == 1


def test_ids_rise_over_runs_also_when_the_clock_goes_back_and_nothing_is_left(place: Place) -> None:
    place.keep = 0
    place.put("a")
    last = place.acknowledge("a")[-1].id
    place.close()

    place.open()
    place.spool.commit()
    place.put("a", captured_us=NOW_US - 10**7)

    assert place.entries("a")[0].id == (last[0], last[1] + 1)


def test_events_are_sent_also_where_the_machines_clock_went_back_between_two_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.close()
    place.keep = 0
    place.open()
    place.put("a")
    place.acknowledge("a")
    place.close()      # nothing is left but how far Redis is
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)      # 2001

    place.open()
    place.spool.commit()
    place.put("a")

    assert place.held("a") == [1]


def test_a_stream_that_is_configured_no_longer_still_has_its_events_published(place: Place) -> None:
    place.put("a")
    place.put("b")
    place.close()
    place.streams = ("b",)

    place.open()

    assert set(place.spool.pending(1)) == {"a", "b"}
    place.acknowledge("a")
    assert place.spool.figures()[0] == 1
    assert place.spool.gone() == {}      # it is kept for a failover yet


def test_a_stream_that_was_removed_is_forgotten_once_its_last_event_left_and_is_kept_no_more(
    make: Callable[..., Place]
) -> None:
    place = make("a", "b", keep=0.2)
    for stream in "aab":
        place.put(stream)
    place.spool.remove_stream("a")
    place.acknowledge("a", 1)
    place.spool.commit()
    assert (place.held("a"), place.spool.gone()) == ([1], {})
    last = place.acknowledge("a")[-1].id
    place.spool.commit()
    assert place.spool.gone() == {}
    time.sleep(0.25)
    place.spool.commit()

    assert place.spool.gone() == {"a": last}
    place.spool.forget("a")
    assert "a" not in place.spool.acknowledged()
    place.spool.commit()

    assert rows(place.spool, "streams", "name") == ["b"]
    assert len(rows(place.spool, "events", "seq")) == 1
    assert place.spool._disk.stored_bytes == place.size
    assert (place.spool.gone(), place.held("b")) == ({}, [2])


def rows(spool: Spool, table: str, column: str) -> list[Any]:
    assert spool._disk.file
    return [value for value, in spool._disk.file._db.execute(f"SELECT {column} FROM {table} ORDER BY {column}")]


def test_a_stream_that_nobody_configures_any_more_leaves_nothing_behind(place: Place) -> None:
    place.keep = 0
    for stream in "aab":
        place.put(stream)
    place.close()
    place.streams = ("b",)
    place.open()
    place.spool.forget("a")
    place.spool.commit()
    assert rows(place.spool, "streams", "name") == ["a", "b"]      # something waits
    place.acknowledge("a", 2)
    place.spool.commit()

    place.spool.forget("a")
    place.spool.commit()
    place.spool.add_stream("c")
    place.put("c")
    place.close()
    place.open()

    assert rows(place.spool, "streams", "name") == ["b", "c"]
    assert rows(place.spool, "streams", "number") == [2, 3]
    assert [(entry.captured_us - NOW_US) // 40_000 for stream in "bc" for entry in place.entries(stream)] == [2, 3]


def test_a_stream_that_comes_back_while_it_is_forgotten_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.keep = 0
    place.close()
    place.open()
    place.put("a")
    last = place.acknowledge("a")[-1].id
    place.spool.commit()
    for moment in ("before the commit", "during the commit"):
        place.spool.remove_stream("a")
        place.spool.forget("a")
        if moment == "before the commit":
            place.spool.add_stream("a")
        else:
            write = place.spool._disk.write
            monkeypatch.setattr(place.spool._disk, "write", lambda *arguments, write=write: (
                write(*arguments), place.spool.add_stream("a"))[0])
        place.spool.commit()
        monkeypatch.undo()

        place.put("a", captured_us=NOW_US - 10**7)
        assert place.entries("a")[0].id > last
        last = place.acknowledge("a")[-1].id
        place.spool.commit()
        assert rows(place.spool, "streams", "name") == ["a", "b"]


_KILLED = """
import sys, time
from pathlib import Path
from emotiond.spool import Spool
class Counts:
    def produced(self, stream, events):
        global made
        made += events
    def lost(self, stream, reason, events):
        raise AssertionError(reason)
made = 0
spool = Spool(Path(sys.argv[1]), 10**9, 60, Counts())
spool.add_stream("a")
number = int(sys.argv[2])
while True:
    for _ in range(7):
        spool.put("a", {"data": b"%d" % number}, number * 1000, 0.0, number * 1000)
        number += 1
    spool.commit()
    print(made, flush=True)
"""


def test_a_kill_at_any_moment_loses_no_event_that_counted_as_produced(tmp_path: Path) -> None:
    path, number = tmp_path / "spool.db", 0
    for run in range(10):
        command = [sys.executable, "-c", _KILLED, str(path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as child:
            assert child.stdout
            first = child.stdout.readline()
            time.sleep(0.01 * run)
            child.send_signal(signal.SIGKILL)
            said = number + int((child.stdout.read().splitlines() or [first])[-1])

        spool = Spool(path, 10**9, 60, Counts())
        entries = spool.pending(10**6)["a"]
        spool.close()

        numbers = [int(entry.fields["data"]) for entry in entries]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= said
        number = len(numbers)


def test_two_daemons_do_not_share_a_file(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"spool\.path: .*spool\.db is in use by another emotiond"):
        Spool(place.path, 10**6, 0, Counts())


def test_a_second_daemon_is_kept_out_also_while_a_damaged_file_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.path
    for _ in range(20):
        place.put("a")
    place.close()
    place.path.write_text("this is no database" * 1000)
    refused: list[str] = []

    def refuse(path: Path, moment: str) -> None:
        with pytest.raises(ConfigError, match="in use by another emotiond"):
            Spool(path, 10**6, 0, Counts())
        refused.append(moment)

    def rebuild(path: Path, *arguments: Any) -> tuple[Path, int]:
        refuse(path, "before")
        replaced = repair.rebuild(path, *arguments)
        refuse(path, "after")
        return replaced

    monkeypatch.setattr(disk_module, "rebuild", rebuild)
    place.open()

    assert refused == ["before", "after"]
    assert place.spool.failing is None


def test_a_start_that_was_refused_leaves_the_file_free(place: Place) -> None:
    place.close()
    with sqlite3.connect(place.path or "") as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigError):
        place.open()
    db.execute("PRAGMA user_version=1")
    db.close()

    place.open()


def test_a_path_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for path in (tmp_path / "file" / "spool.db", tmp_path):
        with pytest.raises(ConfigError, match=r"spool\.path: .* name a file in a folder that the daemon's user may"):
            Spool(path, 10**6, 0, Counts())


def test_a_file_of_a_newer_version_is_left_alone(place: Place) -> None:
    place.close()
    with sqlite3.connect(place.path or "") as db:
        db.execute("PRAGMA user_version=99")
    db.close()

    with pytest.raises(ConfigError, match="newer emotiond"):
        place.open()


def test_only_its_owner_may_read_the_files(place: Place) -> None:
    assert place.path
    place.put("a")

    files = list(place.path.parent.glob("spool.db*"))
    assert {file.name for file in files} == {"spool.db", "spool.db-wal", "spool.db.lock"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


@pytest.mark.usefixtures("read_back")
def test_a_record_that_was_changed_is_skipped_and_counted_once(place: Place) -> None:
    for _ in range(4):
        place.put("a")
    damage(place.spool, place.entries("a")[1].seq)

    assert [place.held("a"), place.held("a")] == [[0, 2, 3], [0, 2, 3]]
    place.spool.commit()

    assert place.counts.gone == {("a", "disk_error"): 1}
    assert place.spool.figures()[:2] == (3, 3 * place.size)
    assert place.spool._disk.stored_bytes == 3 * place.size
    place.acknowledge("a", 3)
    assert place.spool.figures()[0] == 0


def damage(spool: Spool, seq: int) -> None:
    assert spool._disk.file
    spool._disk.file._db.execute("UPDATE events SET record = CAST(record || 'x' AS BLOB) WHERE seq = ?", (seq,))


@pytest.mark.parametrize("bytes_left", [0, 100, 4096])
def test_a_file_that_is_no_database_or_was_cut_is_set_aside(place: Place, bytes_left: int) -> None:
    assert place.path
    for _ in range(50):
        place.put("a")
    place.close()
    os.truncate(place.path, bytes_left)
    if bytes_left == 100:
        place.path.write_text("this is no database, and never was one" * 100)

    place.open()
    place.put("a")

    assert place.entries("a")[-1].id > (0, 0)
    aside = list(place.path.parent.glob("spool.db.damaged-*"))
    assert len(aside) == (bytes_left > 0)
    assert place.spool.failing is None


def test_what_can_be_read_of_a_damaged_file_is_published(place: Place) -> None:
    assert place.path
    for _ in range(200):
        place.put("a", commit=False)
    place.spool.commit()
    waiting = [entry.id for entry in place.entries("a")]
    place.close()
    wipe_page(place.path, page=12)

    place.open()
    rest: list[tuple[int, int]] = []
    while place.spool.figures()[0]:
        rest += [entry.id for entry in place.acknowledge("a", 50)]

    assert len(rest) > 100
    assert rest == [entry_id for entry_id in waiting if entry_id in set(rest)]
    assert list(place.path.parent.glob("spool.db.damaged-*"))


def test_damage_found_while_running_is_counted_to_the_event(place: Place) -> None:
    assert place.path
    for _ in range(200):
        place.put("a", commit=False)
    place.spool.commit()
    place.close()
    place.open()
    wipe_page(place.path, page=12)

    place.put("a")
    rest = 0
    while place.spool.figures()[0]:
        rest += len(place.acknowledge("a", 50))

    assert 100 < rest < 201
    assert place.counts.gone == {("a", "disk_error"): 201 - rest}
    assert place.spool.figures()[:2] == (0, 0)


def test_a_file_whose_index_is_damaged_gives_everything_back(place: Place) -> None:
    assert place.path
    for _ in range(400):
        place.put("a", commit=False)
    place.spool.commit()
    waiting = [entry.id for entry in place.entries("a")]
    place.close()
    with contextlib.closing(sqlite3.connect(place.path)) as db:
        root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events_by_stream'").fetchone()[0]
    wipe_page(place.path, root)

    begin = time.monotonic()
    place.open()
    found: list[tuple[int, int]] = []
    while place.spool.figures()[0]:
        place.put("b")
        for entry in place.acknowledge("a", 50):
            found.append(entry.id)
        place.acknowledge("b", 10)

    assert time.monotonic() - begin < 10
    assert found == waiting


@pytest.mark.parametrize("moment", ["building", "built", "set aside"])
def test_a_kill_while_a_damaged_file_is_replaced_loses_nothing(place: Place, moment: str) -> None:
    assert place.path
    for _ in range(20):
        place.put("a")
    place.close()
    content = place.path.read_bytes()
    if moment == "building":
        Path(f"{place.path}.part").write_bytes(content[:5000])
    else:
        Path(f"{place.path}.new").write_bytes(content)
    if moment == "set aside":
        place.path.rename(f"{place.path}.damaged-1")

    place.open()

    assert len(place.entries("a")) == 20
    assert not Path(f"{place.path}.new").exists()


def test_damaged_files_do_not_pile_up(place: Place) -> None:
    assert place.path
    for _ in range(6):
        place.put("a")
        place.close()
        place.path.write_text("this is no database" * 1000)
        place.open()

    assert len(list(place.path.parent.glob("spool.db.damaged-*"))) <= 6      # three files, their logs perhaps


def wipe_page(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def test_a_full_disk_is_survived_in_memory_and_nothing_is_lost(place: Place) -> None:
    for _ in range(10):
        place.put("a")
    fill_disk(place.spool, True)
    for _ in range(30):
        place.put("a", fields={"data": b"y" * 4000})
    assert place.spool.failing
    assert place.counts.made["a"] == 10

    for ticks in (range(25), range(25, 35)):
        assert [round(entry.arrived) - 1 for entry in place.acknowledge("a", len(ticks))] == list(ticks)
    fill_disk(place.spool, False)
    place.put("a")

    assert place.spool.failing is None
    assert place.held("a") == list(range(35, 41))
    assert place.counts.made["a"] == 41
    assert place.counts.gone == {}
    assert place.spool.figures()[0] == 6


@pytest.mark.usefixtures("read_back")
@pytest.mark.parametrize("stored", [1, 50])
def test_memory_never_overtakes_what_the_disk_holds(
    place: Place, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(stored):
        place.put("a")
    assert place.spool._disk.file
    with monkeypatch.context() as patch:
        patch.setattr(type(place.spool._disk.file), "after", fail_to_read)
        patch.setattr(type(place.spool._disk.file), "insert", fail_to_read)
        place.put("a")
        assert place.spool.failing
        assert place.spool.pending(100) == {}
        assert not place.spool.wait(0.01)
    place.put("a")

    assert place.held("a") == list(range(stored + 2))
    assert place.counts.gone == {}


def fail_to_read(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def send_all(place: Place) -> list[int]:
    """Returns the ticks of what is sent and acknowledged until nothing waits; some events come meanwhile."""
    sent: list[int] = []
    for _ in range(6):
        sent += [round(entry.arrived) - 1 for entry in place.acknowledge("a", 100)]
        place.put("a")
    return sent + [round(entry.arrived) - 1 for entry in place.acknowledge("a", 100)]


def test_nothing_is_sent_while_a_commit_chooses_what_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("a", events=6)
    for _ in range(6):
        place.put("a")
    pending: list[Entry] = []
    choose = commit_module._make_room

    def choose_and_be_asked(*arguments: Any) -> None:
        choose(*arguments)
        asking.append(spawn(lambda: pending.extend(place.spool.pending(100)["a"])))
        time.sleep(0.05)

    asking: list[Any] = []
    monkeypatch.setattr(commit_module, "_make_room", choose_and_be_asked)
    place.put("a", commit=False)
    place.put("a")
    monkeypatch.undo()
    join(asking)

    assert [round(entry.arrived) - 1 for entry in pending] == [2, 3, 4, 5, 6, 7]
    assert place.counts.gone == {("a", "spool_full"): 2}
    place.spool.acknowledge("a", pending)
    assert send_all(place) == list(range(8, 14))
    assert place.spool.figures() == (0, 0, 0.0)


def test_what_was_sent_from_memory_while_it_was_stored_is_not_sent_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(place.spool, True)
    for _ in range(20):
        place.put("a", fields={"data": b"y" * 5000})
    assert place.spool.failing
    fill_disk(place.spool, False)
    store = disk_module.store

    def store_and_send(*arguments: Any) -> None:
        store(*arguments)
        for _ in range(2):
            place.put("a", commit=False)
        held.extend(place.spool.pending(100)["a"])

    held: list[Entry] = []
    with monkeypatch.context() as patch:
        patch.setattr(disk_module, "store", store_and_send)
        place.spool.commit()
    assert place.spool.failing is None
    place.spool.acknowledge("a", held)
    fill_disk(place.spool, True)
    for _ in range(3):
        place.put("a", fields={"data": b"y" * 5000})
    assert place.spool.failing

    sent = [round(entry.arrived) - 1 for entry in (*held, *place.acknowledge("a", 100))]

    assert sent == list(range(25))
    assert place.spool.figures() == (0, 0, 0.0)


def test_a_file_that_is_lost_while_its_events_are_sent_holds_up_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(*_: object) -> None:
        patch.undo()
        error = sqlite3.DatabaseError("malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    for _ in range(3):
        place.put("a")
    held = place.spool.pending(100)["a"]
    patch = pytest.MonkeyPatch()
    patch.setattr(disk_module, "store", fail_once)
    monkeypatch.setattr(repair, "_has_stream", lambda *_: False)     # nothing can be read of the old one
    place.put("a", commit=False)
    place.spool.commit()
    place.spool.commit()
    monkeypatch.undo()

    place.spool.acknowledge("a", held)

    assert send_all(place) == list(range(3, 10))
    assert place.spool.figures() == (0, 0, 0.0)


def test_what_was_just_stored_is_found_also_where_the_disk_cannot_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        place.put("a")
    entries = place.entries("a")
    ids = {entry.id for entry in entries}
    assert place.spool._disk.file
    monkeypatch.setattr(type(place.spool._disk.file), "find", fail_to_read)

    assert place.spool.find("a", ids, entries[1].seq) == {entry.id: FIELDS for entry in entries[:2]}

    monkeypatch.setattr(memory_module, "FRESH_BYTES", 0)
    place.put("a")
    assert place.spool.find("a", ids, entries[1].seq) is None     # there may be more


def test_a_stream_that_cannot_be_sent_leaves_room_for_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "FRESH_EVENTS", 200)
    for _ in range(memory_module.FRESH_EVENTS + 50):
        place.put("a")
    place.put("b")
    a, b = (place.spool._memory.queues[name] for name in "ab")

    assert (len(a.fresh), len(b.fresh)) == (memory_module.FRESH_EVENTS, 1)
    for count in (memory_module.FRESH_EVENTS, 50):      # the rest comes from the disk
        assert len(place.acknowledge("a", 1000)) == count
    place.put("a")
    assert len(a.fresh) == 1


def test_a_file_that_could_be_opened_only_later_keeps_its_streams_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_once(_: Path) -> int:
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, "no space")

    place = Place("y", "x", path=tmp_path / "spool.db", events=100)
    place.put("y")
    place.put("x")
    place.close()
    place.streams = ("x", "z")
    monkeypatch.setattr(disk_module, "claim", fail_once)
    place.open()
    assert place.spool.failing
    place.put("z", commit=False)
    place.put("x")

    assert place.spool.failing is None
    assert {name: len(entries) for name, entries in place.spool.pending(10).items()} == {"y": 1, "x": 2, "z": 1}
    place.close()
    place.open()
    assert {name: len(entries) for name, entries in place.spool.pending(10).items()} == {"y": 1, "x": 2, "z": 1}
    place.close()


def test_a_stream_that_went_while_another_looked_may_be_forgotten_again(place: Place) -> None:
    place.spool.remove_stream("a")
    place.spool.forget("a")
    place.spool.commit()

    place.spool.forget("a")

    assert "a" not in place.spool._memory.queues


@pytest.mark.usefixtures("read_back")
def test_memory_does_not_overtake_a_damaged_event_either(place: Place) -> None:
    for _ in range(30):
        place.put("a")
    damage(place.spool, place.entries("a")[3].seq)
    fill_disk(place.spool, True)
    for _ in range(10):
        place.put("a", fields={"data": b"y" * 5000})
    assert place.spool.failing

    sent: list[int] = []
    while entries := place.acknowledge("a", 4):
        sent += [round(entry.arrived) - 1 for entry in entries]

    assert sent == [tick for tick in range(40) if tick != 3]
    assert place.spool.figures()[:2] == (0, 0)


def test_what_was_sent_from_memory_is_not_dropped_when_the_disk_takes_events_again(place: Place) -> None:
    fill_disk(place.spool, True)
    for _ in range(5):
        place.put("b", live=True, fields={"data": b"y" * 5000})
    assert place.spool.failing
    in_flight = place.spool.pending(3)["b"]
    place.spool.max_bytes = 1
    fill_disk(place.spool, False)
    place.spool.commit()
    place.spool.acknowledge("b", in_flight)

    assert place.counts.gone == {("b", "spool_full"): 2}
    assert place.spool.figures()[:2] == (0, 0)


def fill_disk(spool: Spool, full: bool) -> None:
    assert spool._disk.file
    pages = spool._disk.file._db.execute("PRAGMA page_count").fetchone()[0]
    spool._disk.file._db.execute(f"PRAGMA max_page_count={pages if full else 10**6}")


def test_memory_is_bounded_while_the_disk_is_full(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    large = {"data": b"y" * 5000}      # no page has room for it
    monkeypatch.setattr(memory_module, "MEMORY_BYTES", 20 * (place.size + 4600))
    place.put("a")
    fill_disk(place.spool, True)

    for _ in range(50):
        place.put("a", fields=large)

    assert place.spool.failing
    assert place.held("a") == [0, *range(31, 51)]
    assert place.counts.gone == {("a", "disk_error"): 30}
    assert place.counts.made["a"] == 51
    fill_disk(place.spool, False)
    place.spool.commit()
    assert place.spool.failing is None
    assert place.held("a") == [0, *range(31, 51)]


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=200), max_size=8))
def test_a_record_comes_back_as_it_was(fields: dict[str, bytes]) -> None:
    assert decode_record(encode_record(fields)) == fields


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=200), max_size=8), st.data())
def test_a_changed_record_is_never_taken_for_a_good_one(fields: dict[str, bytes], data: st.DataObject) -> None:
    record = bytearray(encode_record(fields))
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(CorruptRecordError):
        decode_record(bytes(record))


@given(st.binary(max_size=100))
def test_no_bytes_make_decoding_fail_otherwise(record: bytes) -> None:
    with contextlib.suppress(CorruptRecordError):
        decode_record(record)


@pytest.mark.parametrize("value", [None, 0, 0.5, "", "text"])
def test_a_record_of_another_type_is_a_damaged_one(value: object) -> None:
    with pytest.raises(CorruptRecordError):
        decode_record(value)


def test_ids_are_written_as_redis_does() -> None:
    assert format_id((12, 3)) == "12-3"

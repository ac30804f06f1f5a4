"""The spool: bounded and in order; full, live streams lose their oldest events and readers of files wait."""

import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.events import format_id
from emotiond.spool import MemorySpool
from tests.support.threads import join, spawn
from tests.support.waiting import poll

LONG_S = 30.0
FIELDS = {"data": b"x" * 400}
NOW_US = 1_769_860_800_000_000


def never() -> bool:
    return False


class Place:
    """A spool with some streams, what it dropped, and a clock that goes on by 40 ms with each event."""

    def __init__(self, *streams: str, events: float = 10) -> None:
        self.dropped: Counter[str] = Counter()
        self.spool = MemorySpool(10**9, lambda stream: self.dropped.update([stream]))
        self.ticks = 0
        for stream in streams:
            self.spool.add_stream(stream)
        self.put(streams[0])
        size = self.spool.figures()[1]
        self.spool.acknowledge(streams[0], (10**15, 0))
        self.spool.max_bytes = round(size * events)
        self.ticks = 0

    def put(
        self, stream: str, live: bool = True, fields: dict[str, bytes] = FIELDS, captured_us: int | None = None
    ) -> None:
        at = NOW_US + 40_000 * self.ticks
        self.ticks += 1
        captured_us = at if captured_us is None else captured_us
        self.spool.put(stream, fields, captured_us, float(self.ticks), at if live else None)

    def held(self, stream: str) -> list[int]:
        """Returns which events of a stream are held, by their tick."""
        return [round(entry.arrived) - 1 for entry in self.spool.pending(10**6).get(stream, [])]


def test_events_come_out_in_order_and_stay_until_they_are_acknowledged() -> None:
    place = Place("a", "b")
    for stream in "abab":
        place.put(stream)

    pending = place.spool.pending(1)

    assert {stream: [e.captured_us for e in entries] for stream, entries in pending.items()} == {
        "a": [NOW_US], "b": [NOW_US + 40_000]}
    assert place.spool.pending(1) == pending
    assert place.spool.acknowledge("a", pending["a"][0].id) == pending["a"]
    assert (place.held("a"), place.held("b")) == ([2], [1, 3])
    assert place.spool.acknowledge("a", pending["a"][0].id) == []


def test_acknowledging_takes_everything_up_to_an_id() -> None:
    place = Place("a", "b")
    for _ in range(5):
        place.put("a")
    place.put("b")
    third = place.spool.pending(5)["a"][2].id

    assert [round(e.arrived) - 1 for e in place.spool.acknowledge("a", third)] == [0, 1, 2]
    assert (place.held("a"), place.held("b")) == ([3, 4], [5])


def test_figures_tell_events_bytes_and_the_oldest_capture_time() -> None:
    place = Place("a", "b")
    assert place.spool.figures() == (0, 0, 0.0)

    place.put("a")
    place.put("b", captured_us=NOW_US - 5_000_000)

    events, size, oldest = place.spool.figures()
    assert (events, oldest) == (2, (NOW_US - 5_000_000) / 1e6)
    assert 2 * 400 < size < 2 * 4000
    place.spool.acknowledge("a", (10**15, 0))
    place.spool.acknowledge("b", (10**15, 0))
    assert place.spool.figures() == (0, 0, 0.0)


def test_a_full_spool_drops_the_oldest_event_of_all_live_streams() -> None:
    place = Place("a", "b", events=4)

    for stream in "aabbab":
        place.put(stream)

    assert (place.held("a"), place.held("b")) == ([4], [2, 3, 5])
    assert place.dropped == {"a": 2}


def test_a_files_event_is_always_taken_and_drops_nobodys() -> None:
    place = Place("camera", "file", events=4)
    for _ in range(4):
        place.put("camera")

    place.put("file", live=False)

    assert (place.held("camera"), place.held("file")) == ([0, 1, 2, 3], [4])
    assert place.dropped == {}


def test_where_files_fill_the_spool_a_new_live_event_is_the_one_that_goes() -> None:
    place = Place("camera", "file", events=4)
    for _ in range(4):
        place.put("file", live=False)

    place.put("camera")

    assert (place.held("camera"), place.held("file")) == ([], [0, 1, 2, 3])
    assert place.dropped == {"camera": 1}


def test_an_event_larger_than_the_spool_is_taken_by_an_empty_one() -> None:
    place = Place("camera", events=4)
    place.put("camera", fields={"data": b"x" * 10**6})
    assert place.held("camera") == [0]

    place.put("camera")

    assert place.held("camera") == [1]
    assert place.dropped == {"camera": 1}


def test_a_files_reader_waits_until_there_is_room() -> None:
    place = Place("file", events=2)
    for _ in range(2):
        place.put("file", live=False)
    reader = spawn(place.spool.wait_for_room, never)

    reader.join(0.3)
    assert reader.is_alive()
    place.spool.acknowledge("file", place.spool.pending(1)["file"][0].id)

    join([reader])


def test_a_files_reader_waits_only_in_a_full_spool_and_can_be_stopped() -> None:
    place, stopped = Place("file", events=2), threading.Event()
    place.put("file", live=False)
    place.spool.wait_for_room(never)
    place.put("file", live=False)
    reader = spawn(place.spool.wait_for_room, stopped.is_set)

    stopped.set()

    join([reader])


@given(st.lists(st.tuples(
    st.sampled_from(["camera", "door", "file"]), st.integers(0, 3000), st.integers(-10**8, 10**8)), max_size=60))
def test_bytes_are_bounded_ids_rise_and_no_event_is_lost_uncounted(events: list[tuple[str, int, int]]) -> None:
    place = Place("camera", "door", "file", events=5)
    seen: dict[str, list[tuple[int, int]]] = {"camera": [], "door": [], "file": []}
    for stream, size, skew in events:
        place.put(stream, stream != "file", {"data": b"x" * size}, NOW_US + place.ticks * 40_000 + skew)

        entries = place.spool.pending(10**6)
        in_files = sum(entry.size for entry in entries.get("file", []))
        count, held, _ = place.spool.figures()
        largest = max(entry.size for queue in entries.values() for entry in queue) if entries else 0
        assert held == sum(entry.size for queue in entries.values() for entry in queue)
        assert held - in_files <= max(place.spool.max_bytes, largest)
        assert count == sum(len(queue) for queue in entries.values())
        for name, queue in entries.items():
            ids = [entry.id for entry in queue]
            assert ids == sorted(set(ids))
            assert not seen[name] or ids[-1] >= seen[name][-1]
            seen[name] = ids

    assert place.dropped["file"] == 0
    assert place.spool.figures()[0] + place.dropped.total() == len(events)


def test_ids_above_another_writers_are_given_to_what_waits_and_to_what_comes() -> None:
    place = Place("a", "b")
    for stream in "aab":
        place.put(stream)
    before = [entry.id for entry in place.spool.pending(10)["b"]]
    other = (NOW_US // 1000 + 20, 7)

    assert place.spool.rise_above("a", other)

    place.put("a", captured_us=NOW_US)
    ids = [entry.id for entry in place.spool.pending(10)["a"]]
    assert ids == [(other[0], 8), (other[0] + 20, 0), (other[0] + 20, 1)]
    assert [entry.id for entry in place.spool.pending(10)["b"]] == before


def test_ids_that_are_above_already_stay() -> None:
    place = Place("a")
    for _ in range(3):
        place.put("a")
    before = [format_id(entry.id) for entry in place.spool.pending(10)["a"]]

    assert not place.spool.rise_above("a", (NOW_US // 1000 - 1, 5))

    assert [format_id(entry.id) for entry in place.spool.pending(10)["a"]] == before


def test_an_empty_queue_rises_for_what_comes() -> None:
    place = Place("a")

    assert not place.spool.rise_above("a", (NOW_US // 1000 + 1000, 3))

    place.put("a")
    assert place.spool.pending(1)["a"][0].id == (NOW_US // 1000 + 1000, 4)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20),
       st.tuples(st.integers(0, 2 * 10**12), st.integers(0, 99)))
def test_all_ids_are_above_another_writers_and_in_order(steps: list[int], other: tuple[int, int]) -> None:
    place = Place("a", events=100)
    at = 0
    for step in steps:
        at += step
        place.put("a", captured_us=at, live=False)

    place.spool.rise_above("a", other)
    place.put("a", captured_us=at, live=False)

    ids = [entry.id for entry in place.spool.pending(100)["a"]]
    assert ids == sorted(set(ids))
    assert ids[0] > other


def test_draining_waits_for_the_publisher() -> None:
    place = Place("a")
    for _ in range(3):
        place.put("a")
    left: list[int] = []
    drainer = spawn(lambda: left.append(place.spool.drain(time.monotonic() + LONG_S)))

    while entries := place.spool.pending(1).get("a"):
        place.spool.acknowledge("a", entries[0].id)

    join([drainer])
    assert left == [0]


def test_draining_ends_at_its_deadline_with_what_is_left() -> None:
    place = Place("a")
    for _ in range(3):
        place.put("a")

    assert place.spool.drain(time.monotonic() + 0.05) == 3
    assert place.spool.drain(time.monotonic() - 1) == 3


@pytest.mark.parametrize("wakes", ["an event", "a wake"])
def test_the_publisher_is_woken(wakes: str) -> None:
    place, woken = Place("a"), threading.Event()

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


def test_many_threads_lose_nothing() -> None:
    place = Place("camera", "file", events=50)
    sent: Counter[str] = Counter()
    done = threading.Event()

    def read(stream: str, live: bool) -> None:
        for number in range(2000):
            if not live:
                place.spool.wait_for_room(never)
            place.spool.put(stream, FIELDS, NOW_US + number, float(number), NOW_US if live else None)

    def publish() -> None:
        while place.spool.figures()[0] or not done.is_set():
            place.spool.wait(0.01)
            for stream, entries in place.spool.pending(10).items():
                sent[stream] += len(place.spool.acknowledge(stream, entries[-1].id))

    publisher = spawn(publish)
    join([spawn(read, "camera", True), spawn(read, "file", False)])
    done.set()
    join([publisher])

    assert sent["file"] == 2000
    assert sent["camera"] + place.dropped["camera"] == 2000

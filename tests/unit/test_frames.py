"""Frame buffers and the ledger: bounded, fair, and every frame accounted for at every moment."""

import random
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.frames import FILE_DEPTH, LIVE_DEPTH, STALE_SECONDS, Drop, FrameBuffers, FrameCounts, FrameLedger, Ticket
from tests.support.frames import blank_picture, make_frame
from tests.support.threads import join, spawn
from tests.support.waiting import poll

LONG_S = 30.0      # for what takes no time on a quiet machine


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Floor:
    """Ledger and buffers with some streams."""

    def __init__(
        self, *, live: tuple[str, ...] = (), files: tuple[str, ...] = (), group_size: int = 1
    ) -> None:
        self.clock = Clock()
        self.ledger = FrameLedger()
        self.buffers = FrameBuffers(self.ledger, self.clock, group_size)
        for stream in live + files:
            self.ledger.add_stream(stream)
            self.buffers.add_stream(stream, stream in live)

    def put(self, stream: str, index: int, arrived: float = 0.0, width: int = 640) -> bool:
        self.ledger.read(stream)
        return self.buffers.put(replace(make_frame(stream, index, arrived=arrived), picture=blank_picture(width)))

    def counts(self, stream: str) -> FrameCounts:
        return self.ledger.snapshot()[stream]


def assert_adds_up(counts: FrameCounts) -> None:
    assert counts.read == counts.analyzed + sum(counts.dropped.values()) + counts.in_flight
    assert min(counts.analyzed, counts.in_flight, *counts.dropped.values()) >= 0


def names(tickets: list[Ticket]) -> list[str]:
    return [f"{ticket.frame.stream}{ticket.frame.index}" for ticket in tickets]


def test_a_full_live_buffer_drops_its_oldest_frame() -> None:
    floor = Floor(live=("a",))

    assert all(floor.put("a", index) for index in range(LIVE_DEPTH + 12))

    assert floor.buffers.depths() == {"a": (LIVE_DEPTH, LIVE_DEPTH)}
    assert floor.counts("a").dropped[Drop.NEWER_FRAME] == 12
    assert [t.frame.index for t in floor.buffers.take(100)] == list(range(12, 12 + LIVE_DEPTH))


def test_a_reader_of_a_file_waits_for_room_and_loses_nothing() -> None:
    floor = Floor(files=("a",))
    taken: list[int] = []
    reader = spawn(lambda: [floor.put("a", index) for index in range(20)])

    while len(taken) < 20:
        full = min(FILE_DEPTH, 20 - len(taken))
        poll(lambda full=full: floor.buffers.depths()["a"][0] == full, LONG_S, "the buffer is not filled again")
        assert floor.counts("a").read <= len(taken) + FILE_DEPTH + 1
        taken += [ticket.frame.index for ticket in floor.buffers.take(1)]

    join([reader])
    assert taken == list(range(20))
    assert sum(floor.counts("a").dropped.values()) == 0


def test_a_live_frame_that_waited_too_long_is_dropped() -> None:
    floor = Floor(live=("a",))
    for index in range(4):
        floor.put("a", index, arrived=index / 2)

    floor.clock.now = 0.5 + STALE_SECONDS

    assert names(floor.buffers.take(10)) == ["a1", "a2", "a3"]
    assert floor.counts("a").dropped[Drop.STALE] == 1


def test_a_files_frame_may_wait_as_long_as_it_takes() -> None:
    floor = Floor(files=("a",))
    floor.put("a", 0)

    floor.clock.now = 1e6

    assert names(floor.buffers.take(1)) == ["a0"]


def test_take_waits_for_a_frame() -> None:
    floor = Floor(live=("a",))
    taken: list[str] = []
    worker = spawn(lambda: taken.extend(names(floor.buffers.take(5))))

    floor.put("a", 0)

    join([worker])
    assert taken == ["a0"]


def test_streams_take_turns() -> None:
    floor = Floor(live=("a", "b", "c"))
    for index in range(4):
        floor.put("a", index)
    floor.put("b", 0)
    for index in range(2):
        floor.put("c", index)

    assert [names(floor.buffers.take(1))[0] for _ in range(7)] == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"]


@pytest.mark.parametrize(("waiting", "taken"), [(1, 1), (2, 1), (3, 2), (5, 3), (8, 4)])
def test_what_waits_is_shared_with_the_other_takers(waiting: int, taken: int) -> None:
    floor = Floor(live=("a",))
    for index in range(waiting):
        floor.put("a", index)

    assert len(floor.buffers.take(4, takers=2)) == taken


def test_each_device_takes_the_frames_of_its_own_streams() -> None:
    floor = Floor(live=("a", "b", "c", "d"))
    floor.buffers.spread(3)
    floor.ledger.add_stream("e")
    floor.buffers.add_stream("e", live=True)       # two of the devices have one stream, one has two
    for stream in "abcde":
        floor.put(stream, 0)

    assert [floor.buffers.device(stream) for stream in "abcde"] == [0, 1, 2, 0, 1]
    assert [names(floor.buffers.take(10, device=device)) for device in range(3)] == [["a0", "d0"], ["b0", "e0"], ["c0"]]


def test_devices_that_take_in_turn_leave_no_stream_out() -> None:
    streams = [f"stream{number}" for number in range(8)]
    floor = Floor(live=tuple(streams))
    floor.buffers.spread(2)
    for stream in streams:
        floor.put(stream, 0)

    taken = [ticket.frame.stream for _ in range(2) for device in range(2) for ticket in floor.buffers.take(
        2, device=device)]

    assert sorted(taken) == streams


def test_a_device_whose_streams_have_no_frames_waits_for_them() -> None:
    floor = Floor(live=("a", "b"))
    floor.buffers.spread(2)
    floor.put("a", 0)
    taken: list[str] = []
    taker = spawn(lambda: taken.extend(names(floor.buffers.take(10, device=1))))

    floor.put("b", 0)

    join([taker], LONG_S)
    assert taken == ["b0"]


@given(st.lists(st.integers(0, LIVE_DEPTH), min_size=1, max_size=6), st.integers(1, 40))
def test_a_batch_is_spread_evenly_over_streams_that_have_frames(waiting: list[int], most: int) -> None:
    streams = [f"stream{i}" for i in range(len(waiting))]
    floor = Floor(live=tuple(streams))
    for stream, count in zip(streams, waiting, strict=True):
        for index in range(count):
            floor.put(stream, index)
    floor.buffers.close(drain=True)

    tickets = floor.buffers.take(most)

    assert len(tickets) == min(most, sum(waiting))
    shares = [sum(ticket.frame.stream == stream for ticket in tickets) for stream in streams]
    for share, had in zip(shares, waiting, strict=True):
        assert share >= min(had, max(shares) - 1)


def test_tickets_are_numbered_without_gaps_whatever_is_dropped_between() -> None:
    floor = Floor(live=("a", "b"))
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    chance = random.Random(1)
    for index in range(500):
        floor.put(chance.choice("ab"), index, arrived=floor.clock.now)
        floor.clock.now += chance.random() / 2
        if chance.random() < 0.1:
            for ticket in floor.buffers.take(chance.randrange(1, 6)):
                numbers[ticket.frame.stream].append(ticket.number)

    for stream, given_out in numbers.items():
        assert given_out == list(range(len(given_out)))
        assert given_out
        assert floor.counts(stream).dropped[Drop.NEWER_FRAME] + floor.counts(stream).dropped[Drop.STALE] > 0


def test_a_group_of_frames_is_taken_by_one_worker_at_a_time_and_in_order() -> None:
    floor = Floor(files=("a",), group_size=3)
    for index in range(5):
        floor.put("a", index)

    first, second = floor.buffers.take(1), floor.buffers.take(1)
    assert (names(first), names(second)) == (["a0", "a1", "a2"], ["a3", "a4"])
    assert first[0].group is first[2].group is not second[0].group

    late: list[str] = []
    floor.put("a", 5)
    worker = spawn(lambda: late.extend(names(floor.buffers.take(1))))
    floor.buffers.give_back(first)
    assert not late
    floor.buffers.give_back(second)
    join([worker])
    assert late == ["a5"]
    assert [ticket.number for ticket in first + second] == list(range(5))


def test_another_streams_frames_are_taken_while_a_group_waits_for_its_worker() -> None:
    floor = Floor(live=("a", "b"), group_size=4)
    floor.put("a", 0)
    taken = floor.buffers.take(1)
    floor.put("a", 1)
    floor.put("b", 0)

    assert names(floor.buffers.take(1)) == ["b0"]
    floor.buffers.give_back(taken)
    assert names(floor.buffers.take(1)) == ["a1"]


def test_a_live_stream_whose_first_frames_were_dropped_goes_on_with_its_group() -> None:
    floor = Floor(live=("a",), group_size=100)
    for index in range(LIVE_DEPTH + 3):
        floor.put("a", index)

    taken = floor.buffers.take(1)

    assert names(taken) == [f"a{index}" for index in range(3, LIVE_DEPTH + 3)]
    assert taken[0].group.boxes is None      # so that it is searched whole


def test_a_group_ends_where_the_size_of_the_pictures_changes() -> None:
    floor = Floor(live=("a",), group_size=3)
    for index, width in enumerate((640, 640, 320, 320, 320, 320)):
        floor.put("a", index, width=width)

    assert [names(floor.buffers.take(1)) for _ in range(3)] == [["a0", "a1"], ["a2", "a3", "a4"], ["a5"]]


@pytest.mark.parametrize("drain", [True, False])
def test_closing_frees_a_waiting_reader_and_counts_its_frame(drain: bool) -> None:
    floor = Floor(files=("a",))
    for index in range(FILE_DEPTH):
        floor.put("a", index)
    accepted: list[bool] = []
    reader = spawn(lambda: accepted.append(floor.put("a", FILE_DEPTH)))
    poll(lambda: floor.counts("a").read == FILE_DEPTH + 1, LONG_S, "the reader did not come")

    floor.buffers.close(drain)

    join([reader])
    assert accepted == [False]
    assert floor.counts("a").dropped[Drop.SHUTDOWN] == (1 if drain else 1 + FILE_DEPTH)
    assert floor.counts("a").in_flight == (FILE_DEPTH if drain else 0)
    assert len(floor.buffers.take(100)) == (FILE_DEPTH if drain else 0)
    assert floor.buffers.take(100) == []


def test_closing_frees_waiting_workers() -> None:
    floor = Floor(live=("a",))
    taken: list[list[Ticket]] = []
    workers = [spawn(lambda: taken.append(floor.buffers.take(1))) for _ in range(3)]

    floor.buffers.close(drain=True)

    join(workers)
    assert taken == [[], [], []]


def test_after_closing_a_frame_is_counted_as_dropped() -> None:
    floor = Floor(live=("a",), files=("b",))
    floor.buffers.close(drain=True)

    assert not floor.put("a", 0)
    assert not floor.put("b", 0)
    for stream in ("a", "b"):
        assert floor.counts(stream).dropped[Drop.SHUTDOWN] == 1
        assert floor.counts(stream).in_flight == 0


def test_a_snapshot_is_a_copy() -> None:
    floor = Floor(live=("a",))
    before = floor.counts("a")

    floor.put("a", 0)

    assert before == FrameCounts()
    assert floor.counts("a") != before


@pytest.mark.parametrize("drain", [True, False])
def test_the_ledger_adds_up_at_every_moment_of_many_threads_work(drain: bool) -> None:
    live, files = ("a", "b"), ("c", "d")
    floor = Floor(live=live, files=files)
    floor.clock.now = 10.0
    stopped, watched = threading.Event(), [0]
    analyzed: dict[str, list[int]] = {stream: [] for stream in live + files}
    lock = threading.Lock()

    def read(stream: str) -> None:
        chance = random.Random(stream)
        for index in range(2000):
            if not floor.put(stream, index, arrived=10.0 - chance.random() * 1.1):
                return

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while tickets := floor.buffers.take(chance.randrange(1, 5)):
            for ticket in tickets:
                if chance.random() < 0.1:
                    floor.ledger.dropped(ticket.frame.stream, Drop.INFERENCE_ERROR)
                else:
                    floor.ledger.analyzed(ticket.frame.stream)
                with lock:
                    analyzed[ticket.frame.stream].append(ticket.frame.index)

    def watch() -> None:
        while not stopped.is_set():
            for counts in floor.ledger.snapshot().values():
                assert_adds_up(counts)
            watched[0] += 1

    watcher = spawn(watch, name="watcher")
    workers = [spawn(work, seed, name=f"worker-{seed}") for seed in range(4)]
    readers = [spawn(read, stream, name=f"reader-{stream}") for stream in live + files]
    if not drain:
        poll(lambda: floor.counts("c").read > 500, LONG_S, "nothing is read")
        floor.buffers.close(drain)
    join(readers)
    floor.buffers.close(drain)
    join(workers)
    stopped.set()
    join([watcher])

    for stream in live + files:
        counts = floor.counts(stream)
        assert_adds_up(counts)
        assert counts.in_flight == 0
        assert counts.analyzed + counts.dropped[Drop.INFERENCE_ERROR] == len(analyzed[stream])
        assert len(set(analyzed[stream])) == len(analyzed[stream])
        if drain:
            assert counts.read == 2000
    if drain:
        assert all(sorted(analyzed[stream]) == list(range(2000)) for stream in files)
        assert sum(floor.counts(stream).dropped[Drop.STALE] for stream in live) > 0
    assert watched[0] > 10

"""Timelines: analyses come back in any order, by any thread; events leave in order, once, and nobody hangs."""

import random
import threading
from itertools import count

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.events import FrameEvent
from emotiond.frames import Drop, Frame
from emotiond.timeline import MOST_WAITING
from emotionnet.weights import LABELS
from tests.support.frames import FACE, Stage
from tests.support.threads import join, spawn
from tests.support.waiting import poll

LONG_S = 30.0


@given(st.permutations(range(12)))
def test_events_leave_in_frame_order_whatever_the_order_of_delivery(order: list[int]) -> None:
    stage = Stage()

    for number in order:
        stage.deliver(number)

    assert stage.frames == list(range(12))
    assert stage.ledger.snapshot()["lobby"].analyzed == 12


@pytest.mark.parametrize("workers", [2, 8, 2 * MOST_WAITING])
def test_events_leave_in_order_from_many_threads(workers: int) -> None:
    stage, tickets, lock = Stage(), count(), threading.Lock()
    inside = threading.Lock()

    def emit(event: FrameEvent, frame: Frame) -> None:
        assert inside.acquire(blocking=False), "two threads emit at once"
        stage.events.append(event)
        inside.release()

    stage.timeline._emit = emit

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while True:
            with lock:
                number = next(tickets)
            if number >= 1000:
                return
            threading.Event().wait(chance.choice((0, 0, 0, 0.0005)))
            stage.deliver(number, failed=number % 7 == 3)

    join([spawn(work, seed) for seed in range(workers)], 60)

    assert stage.frames == [number for number in range(1000) if number % 7 != 3]
    counts = stage.ledger.snapshot()["lobby"]
    assert (counts.in_flight, counts.dropped[Drop.INFERENCE_ERROR]) == (0, 1000 - len(stage.frames))


def test_a_frame_that_failed_holds_nothing_up_and_is_counted() -> None:
    stage = Stage()
    for number in (2, 1, 3):
        stage.deliver(number, FACE)

    stage.deliver(0, failed=True)

    assert stage.frames == [1, 2, 3]
    counts = stage.ledger.snapshot()["lobby"]
    assert (counts.analyzed, counts.dropped[Drop.INFERENCE_ERROR], counts.in_flight) == (3, 1, 0)


def test_a_frame_without_a_face_is_an_event_too() -> None:
    stage = Stage()

    stage.deliver(0)
    stage.deliver(1, FACE)
    stage.deliver(2)

    assert stage.frames == [0, 1, 2]
    assert [len(event.faces) for event in stage.events] == [0, 1, 0]
    assert stage.ledger.snapshot()["lobby"].analyzed == 3


def test_the_same_analyses_make_the_same_bytes_in_any_order() -> None:
    chance = np.random.default_rng(1)
    found = [(chance.uniform([0, 0, 20, 20], [500, 200, 120, 120], (3, 4)).tolist(),
              chance.dirichlet([1.0] * len(LABELS), 3).tolist()) for _ in range(20)]
    texts = set[bytes]()
    for seed in range(5):
        stage = Stage(smoothing=0.5, abstain=0.4)
        for number in random.Random(seed).sample(range(20), 20):
            stage.deliver(number, *found[number])
        texts.add(msgspec.json.encode(stage.events))

    assert len(texts) == 1


def test_while_a_slow_emit_goes_on_a_few_may_wait_and_then_the_workers_wait_too() -> None:
    allowed, entered = threading.Semaphore(0), threading.Event()
    emitted: list[int] = []

    def emit(event: FrameEvent, frame: Frame) -> None:
        entered.set()
        assert allowed.acquire(timeout=LONG_S)
        emitted.append(frame.index)

    stage = Stage(emit=emit)
    first = spawn(stage.deliver, 0)
    assert entered.wait(LONG_S)
    for number in range(1, MOST_WAITING):      # return at once, though nobody emits them yet
        stage.deliver(number)
    late = [spawn(stage.deliver, number) for number in range(MOST_WAITING, MOST_WAITING + 20)]
    poll(lambda: stage.ledger.snapshot()["lobby"].read == MOST_WAITING + 20, LONG_S, "not all have come")
    late[0].join(0.2)
    assert all(thread.is_alive() for thread in late)

    allowed.release(MOST_WAITING)      # as many go as wait too many, and some more

    poll(lambda: not any(thread.is_alive() for thread in late), LONG_S, "the others wait though few are waiting now")
    assert first.is_alive()
    allowed.release(20)
    join([first])
    assert emitted == list(range(MOST_WAITING + 20))
    assert stage.ledger.snapshot()["lobby"].in_flight == 0


def test_an_emit_that_fails_ends_the_one_that_called_it_and_blocks_nobody() -> None:
    entered, go_on, failures = threading.Event(), threading.Event(), list[BaseException]()
    emitted: list[int] = []

    def emit(event: FrameEvent, frame: Frame) -> None:
        if frame.index == 0:
            entered.set()
            go_on.wait(LONG_S)
            raise OSError("disk full")
        emitted.append(frame.index)

    stage = Stage(emit=emit)

    def deliver_first() -> None:
        try:
            stage.deliver(0)
        except OSError as error:
            failures.append(error)

    last = MOST_WAITING + 4
    threads = [spawn(deliver_first)]
    assert entered.wait(LONG_S)
    threads += [spawn(stage.deliver, number) for number in range(1, last)]
    poll(lambda: stage.ledger.snapshot()["lobby"].read == last, LONG_S, "not all have come")

    go_on.set()

    join(threads)
    stage.deliver(last)
    assert [str(error) for error in failures] == ["disk full"]
    assert emitted == list(range(1, last + 1))

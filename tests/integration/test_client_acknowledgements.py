"""When a group's events count as processed: closed while one is in hand, tried again, acknowledged late."""

import asyncio
import threading
import time
from typing import Any

import pytest

from emotiond.client import Event, Subscription, subscribe
from emotiond.client.group import Group
from tests.support.collecting import ids, pending
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll
from tests.support.writer import Writer


def member(server: RedisServer, **options: Any) -> Subscription:
    return subscribe(server.url, group="g", start="first", **options)


@pytest.mark.parametrize("acknowledge", ["auto", "manual"])
@pytest.mark.parametrize("where", ["the same thread", "another thread"])
def test_closing_while_an_event_is_in_hand_gives_it_to_nobody_else(
    server: RedisServer, writer: Writer, where: str, acknowledge: Any
) -> None:
    written = writer.put("lobby", 3)
    writer.wait()
    found: list[Event] = []

    with member(server, acknowledge=acknowledge) as events:
        for event in events:
            found.append(event)
            if where == "the same thread":      # as a signal's handler does
                events.close()
            else:
                thread = threading.Thread(target=events.close)
                thread.start()
                thread.join()
            assert ids(member(server, follow=False)) == []
            if acknowledge == "manual":
                events.acknowledge(event)

    assert ids(found) == written[:1]
    assert ids(member(server, follow=False)) == written[1:]


def test_a_closed_subscription_that_is_iterated_no_more_leaves_at_the_end_of_with(
    server: RedisServer, writer: Writer
) -> None:
    written = writer.put("lobby", 2)
    writer.wait()

    with member(server) as events:
        next(events)
        events.close()

    assert pending(server) == {"released": 2}
    assert ids(member(server, follow=False)) == written


def test_acknowledgements_one_soon_after_another_reach_redis_though_nobody_asks_for_more(
    server: RedisServer, writer: Writer
) -> None:
    writer.put("lobby", 3)
    writer.wait()

    with member(server, consumer="c", acknowledge="manual") as events:
        for event in (next(events), next(events)):
            events.acknowledge(event)
            time.sleep(0.02)
        poll(lambda: pending(server) == {"c": 1}, 2, "the second one was not sent")


def test_two_quick_events_are_acknowledged_while_a_slow_one_is_in_hand(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 3)
    writer.wait()

    with member(server, consumer="c") as events:
        for _ in range(3):
            next(events)
        poll(lambda: pending(server) == {"c": 1}, 2, "the second one was not acknowledged")


@pytest.mark.parametrize("way", ["for", "async for"])
def test_an_event_whose_handling_failed_comes_again_when_the_subscription_is_iterated_again(
    server: RedisServer, writer: Writer, way: str
) -> None:
    written = writer.put("lobby", 4)
    writer.wait()
    tried: list[Event] = []

    def handle(event: Event) -> None:
        tried.append(event)
        if event.id == written[1] and len(tried) < 4:
            raise InterruptedError

    def work() -> None:
        with member(server, consumer="c", follow=False) as events:
            for _ in range(3):
                try:
                    for event in events:
                        handle(event)
                except InterruptedError:
                    assert pending(server)["c"] >= 3

    async def work_async() -> None:
        async with member(server, consumer="c", follow=False) as events:
            for _ in range(3):
                try:
                    async for event in events:
                        handle(event)
                except InterruptedError:
                    assert pending(server)["c"] >= 3

    if way == "for":
        work()
    else:
        asyncio.run(work_async())

    assert ids(tried) == [written[0], *[written[1]] * 3, *written[2:]]
    assert [event.redelivered for event in tried] == [False, False, True, True, False, False]
    assert pending(server) == {"c": 0}


def test_an_event_whose_handling_failed_comes_again_though_the_loop_begun_again_was_cancelled(
    server: RedisServer, writer: Writer
) -> None:
    async def first(events: Subscription) -> str:
        async for event in events:
            return event.id
        raise AssertionError

    async def work() -> list[str]:
        async with member(server) as events:
            found = [await first(events)]
            with events._lock:      # so that the worker does not begin
                task = asyncio.ensure_future(first(events))
                await asyncio.sleep(0)
                task.cancel()
                aiter(events)
            return [*found, await first(events), (await anext(events)).id]

    written = writer.put("lobby", 2)
    writer.wait()

    assert asyncio.run(asyncio.wait_for(work(), 20)) == [written[0], *written]


def test_an_event_that_was_acknowledged_and_one_without_a_group_do_not_come_again(
    server: RedisServer, writer: Writer
) -> None:
    written = writer.put("lobby", 3)
    writer.wait()

    def first(events: Subscription, *, acknowledge: bool) -> str:
        for event in events:
            if acknowledge:
                events.acknowledge(event)
            return event.id
        raise AssertionError

    with member(server) as events:
        assert [first(events, acknowledge=True) for _ in range(3)] == written
    with subscribe(server.url, start="first") as events:
        assert [first(events, acknowledge=False) for _ in range(3)] == written


def test_late_acknowledgements_leave_no_group_again_and_share_connections(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 80)
    writer.wait()
    server.client.config_resetstat()

    with member(server, acknowledge="manual") as events:
        held = [next(events) for _ in range(80)]
    assert pending(server) == {"released": 80}
    for event in held:
        events.acknowledge(event)

    poll(lambda: pending(server) == {"released": 0}, 5, "some are left")
    commands: Any = server.client.info("commandstats")
    assert commands["cmdstat_xgroup|delconsumer"]["calls"] == 1
    assert server.client.info("stats")["total_connections_received"] < 10


def test_an_acknowledgement_while_the_group_is_left_counts(
    server: RedisServer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.put("lobby", 2)
    writer.wait()
    leave = Group.leave

    def leave_while_another_thread_acknowledges(self: Group, client: Any) -> None:
        leave(self, client)
        thread = threading.Thread(target=events.acknowledge, args=[first])
        thread.start()
        thread.join()

    with member(server, acknowledge="manual") as events:
        first = next(events)
        monkeypatch.setattr(Group, "leave", leave_while_another_thread_acknowledges)
    monkeypatch.undo()

    poll(lambda: pending(server) == {"released": 1}, 2, "it was lost")

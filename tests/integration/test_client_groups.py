"""Consumer groups of `emotiond.client`: events are shared out, none is left out, and repeats are told."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emotiond.client import Event, Subscription, subscribe
from tests.support.collecting import Collector, Way, ids, pending
from tests.support.redis_server import RedisServer
from tests.support.subscriber import SubscriberProcess, read_file
from tests.support.waiting import poll
from tests.support.writer import Writer

BOTH_WAYS = pytest.mark.parametrize("way", ["for", "async for"])


def member(server: RedisServer, *, group: str = "g", **options: Any) -> Subscription:
    return subscribe(server.url, group=group, start="first", **options)


@BOTH_WAYS
def test_subscribers_of_a_group_share_the_events_each_once(server: RedisServer, writer: Writer, way: Way) -> None:
    with Collector(member(server), way) as one, Collector(member(server), way) as other:
        writer.keep_on("lobby", "door", rate=500)
        poll(lambda: len(one.events) > 200 and len(other.events) > 200, 30, "one of them gets nothing")
        writer.rest()
        poll(lambda: len(one.events) + len(other.events) >= len(writer.ids), 30, "events are missing")

    assert sorted(one.ids + other.ids) == sorted(writer.ids)
    assert not any(event.redelivered for event in one.events + other.events)
    assert pending(server) == {}


def test_another_group_gets_everything_too(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 20)
    writer.wait()

    assert ids(member(server, follow=False)) == ids(member(server, group="h", follow=False)) == writer.ids
    assert ids(member(server, follow=False)) == []


def test_an_event_is_acknowledged_when_the_next_one_is_asked_for(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 5)
    writer.wait()

    def fail_at_the_third() -> None:
        with member(server, consumer="c") as events:
            for number, _ in enumerate(events):
                if number == 2:
                    raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_at_the_third()

    assert pending(server) == {"c": 3}
    again = list(member(server, consumer="c", follow=False))
    assert ids(again) == writer.ids[2:]
    assert all(event.redelivered for event in again)


def test_a_slow_loops_acknowledgements_do_not_wait_for_the_end_of_its_batch(
    server: RedisServer, writer: Writer
) -> None:
    writer.put("lobby", 5)
    writer.wait()

    with member(server, consumer="c") as events:
        for number, _ in enumerate(events):
            time.sleep(0.11)
            assert pending(server) == {"c": 5 - number}
            if number == 4:
                break


def test_what_was_left_with_break_comes_again_unless_it_was_acknowledged(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 4)
    writer.wait()

    with member(server) as events:
        for _ in events:
            break
    with member(server) as events:
        for event in events:
            events.acknowledge(event)
            break

    assert ids(member(server, follow=False)) == writer.ids[1:]


@pytest.mark.parametrize("named", [True, False])
def test_a_clean_end_leaves_a_name_only_where_it_was_given(server: RedisServer, writer: Writer, named: bool) -> None:
    writer.put("lobby", 250)
    writer.wait()
    options = {"consumer": "c"} if named else {}

    with member(server, **options) as events:
        assert [next(events).id, next(events).id] == writer.ids[:2]

    assert pending(server) == ({"c": 99} if named else {"released": 99})
    rest = list(member(server, follow=False, **options))
    assert ids(rest) == writer.ids[1:]
    assert [event.redelivered for event in rest] == [True] * 99 + [False] * 150
    assert pending(server) == ({"c": 0} if named else {"released": 0})


def test_what_a_dead_consumer_held_goes_to_another_one(server: RedisServer, writer: Writer, tmp_path: Path) -> None:
    writer.put("lobby", 50)
    writer.put("door", 50)
    writer.wait()
    dead = SubscriberProcess(server.url, tmp_path / "dead", "--group", "g", "--consumer", "dead", "--seconds", "0.05")
    dead.wait_for(5)
    dead.kill()
    done = {line.id for line in read_file(tmp_path / "dead")}
    assert pending(server)["dead"] + pending(server, "emotions:door")["dead"] > 80

    with Collector(member(server, reclaim_after=1)) as collector:
        collector.wait_for([event_id for event_id in writer.ids if event_id not in done], 5)
        poll(lambda: pending(server)["dead"] == pending(server, "emotions:door")["dead"] == 0, 5, "some are left")

    assert all(event.redelivered for event in collector.events)


def test_what_waits_in_a_slow_subscriber_is_not_taken_from_it(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 20)
    writer.wait()

    with Collector(member(server, reclaim_after=1), work=lambda event: time.sleep(0.15)) as slow:
        poll(lambda: slow.events, 10, "the slow one gets nothing")
        with Collector(member(server, reclaim_after=1)) as other:
            slow.wait_for(writer.ids)

    assert slow.ids == writer.ids
    assert other.ids == []
    assert not any(event.redelivered for event in slow.events)


def test_an_event_that_takes_too_long_goes_to_another_one_and_so_does_what_waited_behind_it(
    server: RedisServer, writer: Writer
) -> None:
    writer.put("lobby", 3)
    writer.wait()
    go_on = threading.Event()

    with Collector(member(server, reclaim_after=0.5), work=lambda event: go_on.wait(20)) as stuck:
        poll(lambda: sum(pending(server).values()) == 3, 10, "nothing was read")
        with Collector(member(server, reclaim_after=0.5)) as other:
            other.wait_for(writer.ids)
            go_on.set()
            stuck.wait_for(writer.ids[:1])
            time.sleep(0.7)

    assert stuck.ids == writer.ids[:1]
    assert all(event.redelivered for event in other.events)


def test_manual_acknowledgements_count_in_any_order_and_from_any_thread(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 300)
    writer.wait()
    found: list[Event] = []

    with Collector(member(server, consumer="c", acknowledge="manual"), work=found.append) as collector:
        collector.wait_for(writer.ids)
        assert pending(server) == {"c": 300}
        for event in reversed(found[10:]):
            collector._subscription.acknowledge(event)
        poll(lambda: pending(server) == {"c": 10}, 5, "it was not told")
        writer.put("lobby", 10)
        collector.wait_for(writer.ids)

    assert collector.ids == writer.ids
    assert ids(member(server, consumer="c", follow=False)) == writer.ids[:10] + writer.ids[300:]


def test_an_acknowledgement_after_the_end_counts_too(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby", 2)
    writer.wait()

    with member(server, acknowledge="manual") as events:
        first = next(events)
    events.acknowledge(first)

    assert ids(member(server, follow=False)) == writer.ids[1:]


def test_without_a_group_there_is_nothing_to_acknowledge(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby")
    writer.wait()

    with subscribe(server.url, start="first") as events, pytest.raises(ValueError, match="without a group"):
        events.acknowledge(next(events))


def test_entries_that_were_trimmed_before_they_were_processed_stay_pending_with_nobody(
    server: RedisServer, writer: Writer
) -> None:
    writer.put("lobby", 150)
    writer.wait()
    with member(server, consumer="c") as events:
        next(events)
    server.client.xtrim("emotions:lobby", maxlen=20, approximate=False)

    assert ids(member(server, consumer="c", follow=False)) == writer.ids[-20:]
    assert pending(server) == {"c": 0}


@pytest.mark.parametrize("lost", ["the key", "the group"])
@BOTH_WAYS
def test_a_group_that_is_gone_is_made_anew_from_the_first_entry(
    server: RedisServer, writer: Writer, way: Way, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = writer.put("lobby", 5)
    with Collector(member(server), way) as collector:
        collector.wait_for(before)
        if lost == "the key":
            server.client.delete("emotions:lobby")
        else:
            server.client.xgroup_destroy("emotions:lobby", "g")
        after = writer.put("lobby", 5)
        collector.wait_for(after)
        poll(lambda: "is gone; made anew, from the first entry that is kept" in caplog.text, 5, "no warning")

    counts = Counter(collector.ids)
    assert all(counts[event_id] == 1 for event_id in after)
    assert all(counts[event_id] == (1 if lost == "the key" else 2) for event_id in before)


@pytest.mark.timeout(240)
def test_a_subscriber_that_is_killed_twenty_times_processes_every_event_and_repeats_are_told_by_their_ids(
    server: RedisServer, writer: Writer, tmp_path: Path
) -> None:
    file, kills = tmp_path / "processed", 20
    writer.keep_on("lobby", "door", rate=100)
    for number in range(kills):
        child = SubscriberProcess(server.url, file, "--group", "g", "--consumer", "c")
        child.wait_for(1 + 7 * number % 60)
        child.kill()
    writer.rest()
    last = SubscriberProcess(server.url, file, "--group", "g", "--consumer", "c")
    poll(lambda: {line.id for line in read_file(file)} >= set(writer.ids), 60, "events are missing")
    assert last.end() == 0

    processed = read_file(file)
    held: Any = [server.client.xrange(f"emotions:{stream}") for stream in ("lobby", "door")]
    assert {fields[b"id"].decode() for entries in held for _, fields in entries} == {line.id for line in processed}
    seen: set[str] = set()
    repeats = 0
    for line in processed:
        repeats += line.id in seen
        assert line.redelivered or line.id not in seen
        seen.add(line.id)
    assert 0 < repeats < len(seen)
    assert pending(server) == pending(server, "emotions:door") == {"c": 0}

"""`emotiond.client`: what a subscriber gets, from when on, and how it ends; against real servers."""

import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emotiond.client import ConfigError, Event, FrameEvent, RefusedError, StatusEvent, subscribe
from emotiond.events import HEARTBEAT_TYPE, UP_TYPE
from tests.support.collecting import Collector, Way, ids, pending
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll
from tests.support.writer import Writer

BOTH_WAYS = pytest.mark.parametrize("way", ["for", "async for"])
SECRET = "s3cr3t-hunter2"
AT_US = 1_769_860_800_250_001      # 2026-01-31T12:00:00.250001Z


def read_all(server: RedisServer, *arguments: Any, **options: Any) -> list[Event]:
    """Reads what is there and does not wait for more."""
    return list(subscribe(server.url, *arguments, start=options.pop("start", "first"), follow=False, **options))


def fields_of(server: RedisServer) -> Any:
    """Returns the fields of the only entry there is."""
    found: Any = server.client.xrange("emotions:lobby")
    assert len(found) == 1
    return found[0][1]


def test_a_frames_event_is_typed(server: RedisServer, writer: Writer) -> None:
    event_id, = writer.put("lobby", at_us=AT_US, emotion="sad")
    writer.wait()

    event, = read_all(server)

    assert (event.id, event.source, event.type) == (event_id, "/emotiond/test", "emotiond.frame.v1")
    assert event.time == datetime(2026, 1, 31, 12, 0, 0, 250_001, tzinfo=UTC)
    assert (event.stream, event.key, event.entry_id) == ("lobby", "emotions:lobby", "1769860800250-0")
    assert isinstance(event.data, FrameEvent)
    assert event.faces == event.data.faces
    assert (event.faces[0].emotion, event.faces[0].box.width, event.redelivered) == ("sad", 96, False)
    with pytest.raises(AttributeError):
        event.id = "another"      # pyright: ignore[reportAttributeAccessIssue]


def test_the_status_key_is_read_where_it_is_asked_for(server: RedisServer, writer: Writer) -> None:
    writer.say(UP_TYPE, StatusEvent("lobby"))
    writer.say(HEARTBEAT_TYPE, StatusEvent(None, streams={"lobby": "running"}))
    writer.put("lobby")
    writer.wait()

    with_status = {event.type: event for event in read_all(server, status=True)}

    assert len(with_status) == 3
    assert (with_status[UP_TYPE].stream, with_status[UP_TYPE].faces) == ("lobby", [])
    assert with_status[HEARTBEAT_TYPE].stream == ""
    assert with_status[HEARTBEAT_TYPE].data == StatusEvent(None, streams={"lobby": "running"})
    assert [event.type for event in read_all(server)] == ["emotiond.frame.v1"]
    assert {event.stream for event in read_all(server, [], status=True)} == {"lobby", ""}


@BOTH_WAYS
def test_new_is_what_comes_after_the_subscription_was_entered(server: RedisServer, writer: Writer, way: Way) -> None:
    writer.put("lobby", 5)
    writer.wait()

    with Collector(subscribe(server.url), way) as collector:
        later = writer.put("lobby", 5) + writer.put("door", 5)
        collector.wait_for(later)

    assert set(collector.ids) == set(later)


def test_a_start_is_the_first_entry_one_of_them_or_a_time(server: RedisServer, writer: Writer) -> None:
    written = writer.put("lobby", 250, at_us=AT_US, apart_us=100_000)
    writer.wait()
    events = read_all(server, "lobby")
    moment = datetime(2026, 1, 31, 12, 0, 10, tzinfo=UTC)

    assert ids(events) == written
    assert ids(read_all(server, "lobby", start=events[99].entry_id)) == written[100:]
    assert ids(read_all(server, "lobby", start=moment)) == ids(event for event in events if event.time >= moment)
    assert ids(read_all(server, "lobby", start=events[7].time)) == written[7:]
    assert read_all(server, "lobby", start=moment + timedelta(days=1)) == []


@pytest.mark.parametrize("start", [
    datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC), f"{1_769_860_805_000 - 1}-0"], ids=["a time", "an id"])
def test_a_start_counts_for_a_stream_whose_key_is_not_there_yet(
    server: RedisServer, writer: Writer, start: datetime | str
) -> None:
    with Collector(subscribe(server.url, "lobby", start=start)) as collector:
        written = writer.put("lobby", 10, at_us=1_769_860_800_000_000, apart_us=1_000_000)
        collector.wait_for(written[-1:])

    assert collector.ids == written[5:]


def test_looks_for_new_streams_are_twenty_times_their_own_duration_apart(
    server: RedisServer, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    del writer
    server.client.eval("for n = 1, 100000 do redis.call('SET', 'cache:' .. n, n) end", 0)
    monkeypatch.setattr("emotiond.client.reader.LOOK_SECONDS", 0)

    with subscribe(server.url) as events:
        begin = time.monotonic()
        events._reader.look()
        end = time.monotonic()

    assert events._reader._next_look - end > 15 * (end - begin)


def test_streams_are_one_or_several_or_all(server: RedisServer, writer: Writer) -> None:
    for stream in ("lobby", "door", "yard"):
        writer.put(stream, 3)
    writer.wait()
    server.client.set("emotions:text", "no stream")
    server.client.xadd("emotions:another:prefix", {"no": "stream of ours"})

    assert {event.stream for event in read_all(server, "lobby")} == {"lobby"}
    assert {event.stream for event in read_all(server, ["lobby", "door", "nobody"])} == {"lobby", "door"}
    assert {event.stream for event in read_all(server)} == {"lobby", "door", "yard"}
    assert read_all(server, key_prefix="emotions:another") == []


@pytest.mark.parametrize(("way", "group"), [("for", "g"), ("async for", None)])
def test_a_stream_that_appears_is_found_within_two_seconds_and_read_from_its_first_event(
    server: RedisServer, writer: Writer, group: str | None, way: Way
) -> None:
    with Collector(subscribe(server.url, group=group), way) as collector:
        writer.put("lobby")
        writer.wait()
        begin = time.monotonic()
        collector.wait_for(writer.ids, 5)
        assert time.monotonic() - begin < 3      # on a busy machine
        writer.put("door", 150)
        collector.wait_for(writer.ids)

    assert sorted(collector.ids) == sorted(writer.ids)


def test_nothing_but_one_batch_is_held(server: RedisServer, writer: Writer) -> None:
    written = writer.put("lobby", 2000)
    writer.wait()

    with subscribe(server.url, start="first") as events:
        for number, event in enumerate(events):
            assert len(events._entries) < 100
            assert event.id == written[number]
            if number == 1999:
                break


FOREIGN: list[dict[bytes, bytes]] = [{b"hello": b"world"}, {b"\xff\xfe": b""}]
ODD: list[dict[bytes, bytes]] = [      # beside an event's other fields
    {b"data": b"no json"}, {b"data": b'{"stream": "lobby"}'}, {b"data": b"[" * 100_000}, {b"source": b"\xff"},
    {b"type": b"emotiond.aggregate.v7"}, {b"time": b"yesterday"}, {b"time": b"2026-01-31T12:00:00"}]


@pytest.mark.parametrize("acknowledge", ["auto", "manual"])
def test_what_is_no_event_is_passed_over_and_acknowledged(
    server: RedisServer, writer: Writer, acknowledge: Any
) -> None:
    writer.put("lobby")
    writer.wait()
    fields = fields_of(server)
    entries: list[Any] = FOREIGN + [fields | odd for odd in ODD]
    for entry in entries:
        server.client.xadd("emotions:lobby", entry)
    writer.put("lobby", at_us=time.time_ns() // 1000 + 10_000_000)
    writer.wait()

    with subscribe(server.url, group="g", consumer="c", start="first", follow=False, acknowledge=acknowledge) as events:
        found = list(events)

    assert ids(found) == writer.ids
    assert pending(server) == {"c": 0 if acknowledge == "auto" else len(found)}
    assert ids(read_all(server)) == writer.ids


def test_keys_that_are_new_in_a_body_are_ignored(server: RedisServer, writer: Writer) -> None:
    writer.put("lobby")
    writer.wait()
    fields = fields_of(server)
    body = json.loads(fields[b"data"])
    body["faces"][0]["age"] = 42
    server.client.xadd("emotions:lobby", fields | {b"data": json.dumps(body | {"weather": "fine"}).encode()})

    first, second = read_all(server)

    assert first.data == second.data


@BOTH_WAYS
def test_closing_from_another_thread_ends_a_loop_that_waits(server: RedisServer, writer: Writer, way: Way) -> None:
    with Collector(subscribe(server.url, group="g"), way) as collector:
        writer.put("lobby")
        collector.wait_for(writer.ids)
        assert collector.end() < 2
    assert collector.error is None
    assert pending(server) == {}


@pytest.mark.parametrize("where", ["waiting", "working"])
def test_closing_in_a_signals_handler_ends_the_loop_with_what_it_worked_at_acknowledged(
    server: RedisServer, writer: Writer, where: str
) -> None:
    written = writer.put("lobby", 3)
    writer.wait()
    found: list[Event] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with subscribe(server.url, group="g", start="first") as events:
            signal.signal(signal.SIGUSR1, lambda *_: events.close())
            for event in events:
                found.append(event)
                if where == "working" and len(found) == 2:
                    os.kill(os.getpid(), signal.SIGUSR1)
                if where == "waiting" and len(found) == 3:
                    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert ids(found) == written[:2 if where == "working" else 3]
    assert ids(read_all(server, group="g")) == written[len(found):]
    assert server.client.xpending("emotions:lobby", "g")["pending"] == 0


def test_cancelling_loses_nothing(server: RedisServer, writer: Writer) -> None:
    async def collect(found: list[str], wanted: Callable[[], bool]) -> int:
        cancelled = 0
        async with subscribe(server.url, group="g", start="first") as events:
            while not wanted():
                try:
                    found.append((await asyncio.wait_for(anext(events), 0.001 * (cancelled % 7))).id)
                except TimeoutError:
                    cancelled += 1
                task = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                task.cancel()
                try:
                    found.append((await task).id)
                except asyncio.CancelledError:
                    cancelled += 1
            with pytest.raises(TimeoutError):       # the last one counts as processed when another is asked for
                await asyncio.wait_for(anext(events), 0.05)
        return cancelled

    found: list[str] = []
    written = writer.put("lobby", 200)
    writer.keep_on("lobby", rate=300)
    ends = time.monotonic() + 2

    def wanted() -> bool:
        if time.monotonic() < ends:
            return False
        if writer.ids != written:
            writer.rest()
            written[:] = writer.ids
        return len(found) >= len(written)

    cancelled = asyncio.run(asyncio.wait_for(collect(found, wanted), 60))

    assert found == written
    assert cancelled > 100
    assert pending(server) == {}


def test_an_event_that_was_read_and_that_nobody_got_is_handed_back(server: RedisServer, writer: Writer) -> None:
    async def leave() -> None:
        async with subscribe(server.url, group="g") as events:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.05)
            writer.put("lobby", 2)
            await asyncio.to_thread(writer.wait)
            assert events._pending is not None
            await asyncio.wait([events._pending])

    writer.put("lobby")
    writer.wait()
    asyncio.run(leave())

    assert ids(read_all(server, group="g")) == writer.ids[1:]


def test_an_asynchronous_loop_that_was_left_keeps_no_process_from_ending(server: RedisServer) -> None:
    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(subscribe(server.url)), 0.05)

    asyncio.run(leave())

    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "emotiond-client")


@pytest.mark.parametrize(("arguments", "said"), [
    ({"url": "http://localhost"}, "url: is no Redis URL; use redis://"),
    ({"url": "redis://localhost:99999"}, "url: has no valid port"),
    ({"url": "embedded"}, "url: is embedded, on a port that the daemon chose"),
    ({"streams": "emotions:lobby"}, "streams: 'emotions:lobby' is no stream's name"),
    ({"streams": ["status"]}, "streams: 'status' is no stream's name"),
    ({"streams": []}, "streams: none is named"),
    ({"start": "yesterday"}, "start: 'yesterday' is neither new, first"),
    ({"start": datetime(2026, 1, 31)}, "start: is a time without a zone"),      # noqa: DTZ001
    ({"group": ""}, "group: is empty"),
    ({"group": "g", "consumer": "released"}, "consumer: is empty or released"),
    ({"consumer": "c"}, "consumer, acknowledge: mean nothing without a group"),
    ({"acknowledge": "manual"}, "consumer, acknowledge: mean nothing without a group"),
    ({"group": "g", "acknowledge": "manully"}, "acknowledge: 'manully' is neither auto nor manual"),
    ({"group": "g", "reclaim_after": 0}, "reclaim_after: is 0; give seconds from 0.1 to 86400"),
    ({"group": "g", "reclaim_after": 0.0001}, "reclaim_after: is 0.0001; give seconds"),
    ({"group": "g", "reclaim_after": 1e9}, "reclaim_after: is 1000000000.0; give seconds"),
    ({"group": "g", "reclaim_after": float("inf")}, "reclaim_after: is inf; give seconds"),
    ({"group": "g", "reclaim_after": float("nan")}, "reclaim_after: is nan; give seconds"),
    ({"password_file": "/nowhere/secret"}, "password_file: /nowhere/secret cannot be read"),
    ({"key_prefix": "a b"}, "key_prefix: is no key prefix")])
def test_a_wrong_argument_is_a_sentence_at_once(arguments: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"url": "redis://localhost", **arguments}

    with pytest.raises(ConfigError) as raised:
        subscribe(**given)

    assert str(raised.value).startswith(said)


def test_a_wrong_password_is_refused_at_once_and_not_shown(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    with RedisServer(tmp_path / "redis", password=SECRET) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        for wrong in (url, server.url.replace(SECRET, f"{SECRET}-not")):
            with pytest.raises(RefusedError, match=r"\(auth: .*check redis.username and the password") as raised:
                next(subscribe(wrong))
            assert SECRET not in str(raised.value)
            with pytest.raises(RefusedError, match="auth"), subscribe(wrong):
                pass
        assert list(subscribe(url, password_file=tmp_path / "secret", follow=False)) == []


@pytest.mark.parametrize("group", [None, "g"])
def test_the_rights_that_the_page_names_are_enough_and_lacking_ones_are_refused(
    server: RedisServer, writer: Writer, group: str | None
) -> None:
    writer.put("lobby", 3)
    writer.wait()
    server.client.execute_command("ACL", "SETUSER", "subscriber", "reset", "on", ">pw", "~emotions:*", "+@read",
                                  "+@stream", "+@connection")
    server.client.execute_command("ACL", "SETUSER", "stranger", "reset", "on", ">pw", "~emotions:*", "+@connection")

    def url(user: str) -> str:
        return f"redis://{user}:pw@127.0.0.1:{server.port}/0"

    assert ids(subscribe(url("subscriber"), start="first", group=group, follow=False)) == writer.ids
    with pytest.raises(RefusedError, match=r"noperm.*give the user rights to the keys and to @read, @stream"):
        next(subscribe(url("stranger"), group=group))


@pytest.mark.parametrize("group", [None, "g"])
def test_a_key_that_holds_no_events_is_refused(server: RedisServer, writer: Writer, group: str | None) -> None:
    server.client.set("emotions:lobby", "text")

    with pytest.raises(RefusedError, match=r"emotions:lobby in Redis at .* is a key that holds no events"):
        next(subscribe(server.url, "lobby", group=group))


def test_a_found_key_that_holds_no_events_any_more_is_named(server: RedisServer, writer: Writer) -> None:
    with Collector(subscribe(server.url, start="first")) as collector:
        writer.put("lobby")
        writer.put("door")
        collector.wait_for(writer.ids)
        server.client.set("emotions:lobby", "text")
        poll(lambda: collector.error, 10, "it is not refused")

    assert isinstance(collector.error, RefusedError)
    assert str(collector.error).startswith("emotions:lobby in Redis at ")


def test_a_password_file_that_cannot_be_read_for_a_while_is_said_once_and_waited_for(
    tmp_path: Path, require_server: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    require_server("redis-server")
    caplog.set_level(logging.INFO, "emotiond.client")
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    with RedisServer(tmp_path / "redis", password=SECRET) as server, Writer(server.url) as writer, Collector(
            subscribe(f"redis://127.0.0.1:{server.port}/0", password_file=secret, start="first")) as collector:
        writer.put("lobby")
        collector.wait_for(writer.ids)
        secret.rename(tmp_path / "elsewhere")
        server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        poll(lambda: "cannot be read" in caplog.text, 10, lambda: f"no warning; {collector.error}")
        time.sleep(1)      # several tries
        (tmp_path / "elsewhere").rename(secret)
        writer.put("lobby")
        collector.wait_for(writer.ids)

    assert caplog.text.count("password_file: ") == 1
    assert "Redis answers at" in caplog.messages[-1]


def test_a_redis_that_is_not_there_yet_is_waited_for_and_said_once(
    tmp_path: Path, require_server: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    require_server("redis-server")
    caplog.set_level(logging.INFO, "emotiond.client")
    server = RedisServer(tmp_path / "redis")
    with Collector(subscribe(server.url)) as collector:
        poll(lambda: caplog.records, 10, "no warning")
        time.sleep(1)      # several tries
        with server, Writer(server.url) as writer:
            poll(lambda: len(caplog.records) == 2, 20, "no word of its return")
            writer.put("lobby", 3)
            collector.wait_for(writer.ids)

    assert [record.levelname for record in caplog.records[:2]] == ["WARNING", "INFO"]
    assert "; trying again" in caplog.messages[0]
    assert "Redis answers at" in caplog.messages[1]


def test_closing_while_redis_is_away_ends_soon() -> None:
    with Collector(subscribe(f"redis://127.0.0.1:{free_port()}/0", group="g")) as collector:
        assert collector.end() < 2
    assert collector.error is None

"""Redis dies, comes back empty, freezes or fails over under subscribers: they go on, and say so once."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from emotiond.client import Event, FrameEvent, Subscription, subscribe
from tests.support.collecting import Collector, Way
from tests.support.daemon import Daemon, endless
from tests.support.pictures import face_frames
from tests.support.proxy import LossyProxy
from tests.support.redis_groups import Cluster, Watched
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll
from tests.support.writer import Writer

WAYS = pytest.mark.parametrize(("way", "group"), [
    ("for", None), ("async for", None), ("for", "g"), ("async for", "g")])
TWO_WAYS = pytest.mark.parametrize(("way", "group"), [("for", "g"), ("async for", None)])
FPS = 10


def follow(url: str, group: str | None) -> Subscription:
    return subscribe(url, start="first", group=group)


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the levels of what the client said."""
    return [record.levelname for record in caplog.records if record.name == "emotiond.client"]


@WAYS
def test_a_redis_that_was_killed_and_has_its_data_is_read_on_without_a_gap(
    tmp_path: Path, way: Way, group: str | None, caplog: pytest.LogCaptureFixture,
    require_server: Callable[[str], None],
) -> None:
    require_server("redis-server")
    caplog.set_level(logging.INFO, "emotiond.client")
    with (
        RedisServer(tmp_path / "redis", persistence="aof") as server, Writer(server.url) as writer,
        Collector(follow(server.url, group), way) as collector,
    ):
        writer.keep_on("lobby", "door")
        for kills in (1, 2, 3):
            collector.wait_for_more()
            server.kill()
            poll(lambda kills=kills: len(outages(caplog)) == 2 * kills - 1, 10, "no warning")
            server.start()
        writer.rest()
        collector.wait_for(writer.ids)

    assert outages(caplog) == ["WARNING", "INFO"] * 3
    counts = Counter(collector.ids)
    assert counts.keys() == set(writer.ids)
    if group is None:
        assert max(counts.values()) == 1
        for stream in ("lobby", "door"):
            assert [event_id for event_id in collector.ids if event_id.startswith(stream)] == [
                event_id for event_id in writer.ids if event_id.startswith(stream)]


@WAYS
def test_a_redis_that_comes_back_empty_is_read_from_its_first_entry(
    tmp_path: Path, way: Way, group: str | None, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    with RedisServer(tmp_path / "redis") as server, Collector(follow(server.url, group), way) as collector:
        with Writer(server.url) as writer:
            collector.wait_for(writer.put("lobby", 50))
        server.kill()
        server.start()
        with Writer(server.url) as writer:
            collector.wait_for(writer.put("lobby", 50) + writer.put("door", 50))
            again = writer.put("lobby", 50)
            collector.wait_for(again)

    assert len(collector.ids) == len(set(collector.ids)) == 200


def test_without_a_group_a_key_that_was_deleted_and_begins_at_lower_ids_is_read(
    redis_server: RedisServer
) -> None:
    with Collector(follow(redis_server.url, None)) as collector:
        with Writer(redis_server.url) as writer:
            collector.wait_for(writer.put("lobby", 5))
        redis_server.client.flushall()
        time.sleep(2)      # which a look takes at most
        with Writer(redis_server.url) as writer:
            collector.wait_for(writer.put("lobby", 5, at_us=1_769_860_800_000_000))


@TWO_WAYS
def test_a_redis_that_froze_is_read_on(
    redis_server: RedisServer, way: Way, group: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with Writer(redis_server.url) as writer, Collector(follow(redis_server.url, group), way) as collector:
        collector.wait_for(writer.put("lobby", 5))
        redis_server.freeze()
        poll(lambda: "(timeout: " in caplog.text, 10, "no warning")
        redis_server.thaw()
        collector.wait_for(writer.put("lobby", 5))

    assert sorted(collector.ids) == sorted(writer.ids)


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_entries_whose_reply_was_lost_are_read_again_by_their_group(
    redis_server: RedisServer, how: Literal["cut", "silence"]
) -> None:
    with LossyProxy(redis_server.port) as proxy, Writer(redis_server.url) as writer:
        writer.put("lobby", 250)
        writer.wait()
        loss = threading.Thread(target=proxy.lose, args=(1, b"XREADGROUP", how))

        def lose_the_next_reply(event: Event) -> None:
            if event.id == writer.ids[99]:
                loss.start()
                poll(lambda: proxy._to_lose, 5, "it was not told")

        events = follow(f"redis://127.0.0.1:{proxy.port}/0", "g")
        with Collector(events, work=lose_the_next_reply) as collector:
            collector.wait_for(writer.ids)
            loss.join()

    assert proxy.lost == 1
    assert sorted(collector.ids) == sorted(writer.ids)


def test_what_is_being_worked_at_while_the_line_is_cut_is_not_given_out_again(redis_server: RedisServer) -> None:
    with LossyProxy(redis_server.port) as proxy, Writer(redis_server.url) as writer:
        events = subscribe(f"redis://127.0.0.1:{proxy.port}/0", group="g", start="first", acknowledge="manual")
        with Collector(events) as collector:
            collector.wait_for(writer.put("lobby", 150))
            proxy.cut()
            collector.wait_for(writer.put("lobby", 150))

    assert collector.ids == writer.ids


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


def test_a_slow_subscriber_harms_neither_the_daemon_nor_another_subscriber(
    redis_server: RedisServer, tmp_path: Path, clip: Path
) -> None:
    streams = {stream: endless(clip, FPS) for stream in ("door", "hall")}
    late: list[float] = []
    with (
        Daemon(tmp_path / "daemon", streams, redis_server.url) as daemon,
        Collector(subscribe(redis_server.url, start="first"), work=lambda event: time.sleep(0.5)) as slow,
        Collector(subscribe(redis_server.url),
                  work=lambda event: late.append(time.time() - event.time.timestamp())) as fast,
    ):
        poll(lambda: len(fast.events) > 80, 60, daemon.output)
        scrape = daemon.scrape()
        others: Any = redis_server.client.client_list()
        behind = len(fast.events) - len(slow.events)
        begun = list(slow.events)

    assert behind > 40
    for stream in {event.stream for event in begun}:
        frames = [event.data.frame for event in begun
                  if event.stream == stream and isinstance(event.data, FrameEvent)]
        assert frames == list(range(len(frames)))
    assert sorted(late)[len(late) // 2] < 2      # on a busy machine; the slow one is seconds behind
    assert scrape("frames_dropped_total") == scrape("events_dropped_total") == 0
    assert scrape("spool_events") < 2 * FPS
    assert all(int(each["omem"]) < 1 << 20 for each in others)


def test_a_subscriber_that_lags_by_much_takes_no_more_memory(redis_server: RedisServer) -> None:
    with Writer(redis_server.url) as writer:
        writer.put("lobby", 20_000)
        writer.wait()
    process, begin = psutil.Process(), 0
    with subscribe(redis_server.url, start="first") as events:
        for number, _ in enumerate(events):
            if number == 1_000:
                begin = process.memory_info().rss
            if number == 19_999:
                break

    assert process.memory_info().rss - begin < 8 << 20


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("group", [None, "g"])
def test_subscribers_follow_sentinel_to_the_new_primary(
    tmp_path: Path, group: str | None, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    with (
        Watched(tmp_path / "watched") as watched, Writer(watched.url) as writer,
        Collector(follow(watched.url, group)) as collector,
    ):
        writer.keep_on("lobby", "door", rate=50)
        collector.wait_for_more()
        old = watched.primary()
        watched.wait_for_replica()
        old.kill()
        poll(lambda: watched.primary() is not old, 30, "no failover")
        collector.wait_for_more()
        writer.rest()
        collector.wait_for(writer.ids)

    assert group or len(collector.ids) == len(set(collector.ids))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_subscribers_follow_a_cluster_over_a_failover(tmp_path: Path, require_server: Callable[[str], None]) -> None:
    require_server("redis-server")
    streams = ("lobby", "door", "yard", "hall")
    with (
        Cluster(tmp_path / "cluster") as cluster, Writer(cluster.url) as writer,
        Collector(follow(cluster.url, None)) as plain, Collector(follow(cluster.url, "g"), "async for") as grouped,
    ):
        writer.keep_on(*streams, rate=50)
        for collector in (plain, grouped):
            collector.wait_for_more()
        old = cluster.primary_of("emotions:lobby")
        old.kill()
        poll(lambda: cluster.failed_over_from(old), 30, "no failover", every_s=0.2)
        for collector in (plain, grouped):
            collector.wait_for_more()
        writer.rest()
        plain.wait_for(writer.ids)
        grouped.wait_for(writer.ids)

    assert len(plain.ids) == len(set(plain.ids))

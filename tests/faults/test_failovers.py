"""The primary dies or is cut off behind Sentinel and in a Cluster: events resume, nothing is missing, nothing twice."""

import contextlib
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import run
from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, assert_whole, parse_entry
from tests.support.pictures import face_frames
from tests.support.redis_groups import Cluster, Watched
from tests.support.videos import write_video
from tests.support.waiting import poll

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FPS = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture
def watched(tmp_path: Path, require_server: Callable[[str], None]) -> Iterator[Watched]:
    require_server("redis-server")
    with Watched(tmp_path / "watched") as watched:
        yield watched


def read(client: Any, stream: str) -> list[Entry]:
    with contextlib.suppress(redis.ConnectionError):      # a server hangs up when its role changes
        return [parse_entry(entry_id, fields) for entry_id, fields in client.xrange(f"emotions:{stream}")]
    return [parse_entry(entry_id, fields) for entry_id, fields in client.xrange(f"emotions:{stream}")]


def judge(daemon: Daemon, client: Any, streams: list[str]) -> None:
    """Ends the daemon and compares what is in Redis with the frames it read."""
    assert daemon.end() == 0
    last = daemon.log_entries("stopped")[0]
    entries = {stream: read(client, stream) for stream in streams}
    for found in entries.values():
        assert_whole(found)
        assert all(before.time < after.time for before, after in pairwise(found))
    assert sum(map(len, entries.values())) == last["frames_analyzed"]


def test_events_go_on_at_the_new_primary_after_the_old_one_died(watched: Watched, tmp_path: Path, clip: Path) -> None:
    with Daemon(tmp_path / "daemon", {"door": endless(clip, FPS)}, watched.url) as daemon:
        for _ in range(2):
            poll(lambda: len(read(watched.primary().client, "door")) > FPS, 30, daemon.output)
            old = watched.primary()
            watched.wait_for_replica()
            old.kill()
            poll(lambda old=old: watched.primary() is not old, 30, "no failover")
            new = watched.primary()
            before = len(read(new.client, "door"))
            poll(lambda new=new, before=before: len(read(new.client, "door")) > before, 10, daemon.output)
            watched.bring_back(old)
        assert daemon.scrape()("events_dropped_total") == 0
        judge(daemon, watched.primary().client, ["door"])


def test_acknowledged_events_that_a_failover_lost_are_sent_again(watched: Watched, tmp_path: Path, clip: Path) -> None:
    with Daemon(tmp_path / "daemon", {"door": endless(clip, FPS)}, watched.url) as daemon:
        old = watched.primary()
        replica = next(server for server in watched.servers if server is not old)
        poll(lambda: len(read(old.client, "door")) > FPS, 30, daemon.output)

        replica.client.replicaof("127.0.0.1", "1")      # cut off from the primary, which goes on acknowledging
        cut = len(read(replica.client, "door"))
        daemon.wait_for(lambda scrape: scrape("events_published_total") >= cut + 3 * FPS, "events acknowledged")
        old.kill()
        replica.client.replicaof("NO", "ONE")
        for sentinel in watched.sentinels:
            sentinel.client.execute_command("SENTINEL", "REMOVE", "events")
            sentinel.client.execute_command("SENTINEL", "MONITOR", "events", "127.0.0.1", str(replica.port), "2")

        rewound = daemon.wait_for(lambda scrape: scrape("events_resent_total", reason="rewind") >= 2 * FPS, "rewound")
        assert rewound("events_dropped_total") == 0
        judge(daemon, replica.client, ["door"])


def test_events_go_on_after_a_failover_in_a_cluster(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    streams = ["door", "hall", "lobby", "yard"]
    with (
        Cluster(tmp_path / "cluster") as cluster,
        Daemon(tmp_path / "daemon", dict.fromkeys(streams, endless(clip, FPS)), cluster.url) as daemon,
    ):
        for stream in streams:
            poll(lambda stream=stream: len(read(cluster.client, stream)) > FPS, 30, daemon.output)
        old = cluster.primary_of("emotions:door")
        before = len(read(cluster.client, "door"))
        old.kill()
        daemon.wait_for(lambda scrape: scrape("redis_up") == 0, "the outage is seen")
        daemon.wait_for(lambda scrape: scrape("redis_up") == 1, "Redis is up again", deadline_s=30)

        def grows() -> bool:
            try:
                return len(read(cluster.client, "door")) > before + FPS
            except Exception:      # the judge's client finds the new primary in its own time
                return False

        poll(grows, 30, daemon.output, every_s=0.2)
        assert cluster.primary_of("emotions:door") is not old
        limit = 350      # 100 of each key come at a time
        tailed = run("tail", "--redis", cluster.url, "--from-start", "--json", "--limit", str(limit))
        assert tailed.code == 0
        assert {json.loads(line)["subject"] for line in tailed.out.splitlines()} == set(streams)
        assert daemon.scrape()("events_dropped_total") == 0
        judge(daemon, cluster.client, streams)



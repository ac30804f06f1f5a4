"""Redis answers, but not as it should: told apart in the metrics, survived, and nothing lost once it is mended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, assert_whole, read_entries
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll

FPS = 5
STREAMS = ("door", "shared", "deleted", "taken")
SLOTS = 16_384      # of a cluster
FOREIGN_TYPE = "someone.elses.v1"
FOREIGN_MS = 4_000_000_000_000      # a century ahead
PASSWORD, WRONG_PASSWORD = "hunter2-is-right", "hunter2-is-not"


@dataclass(frozen=True)
class Refusal:
    """How to make Redis refuse, and how to mend it."""

    cause: Callable[[redis.Redis], object]
    mend: Callable[[redis.Redis], object]


def hang_up_on_others(client: redis.Redis) -> None:
    client.client_kill_filter(_type="normal", skipme=True)


REFUSALS = {
    "oom": Refusal(lambda c: c.config_set("maxmemory", 1), lambda c: c.config_set("maxmemory", 0)),
    "readonly": Refusal(lambda c: c.replicaof("127.0.0.1", 1), lambda c: c.replicaof("NO", "ONE")),
    "noreplicas": Refusal(
        lambda c: c.config_set("min-replicas-to-write", 1), lambda c: c.config_set("min-replicas-to-write", 0)),
    "noperm": Refusal(lambda c: c.execute_command("ACL SETUSER", "default", "-evalsha"),
                      lambda c: c.execute_command("ACL SETUSER", "default", "+evalsha")),
    "auth": Refusal(lambda c: (c.config_set("requirepass", PASSWORD), hang_up_on_others(c)),
                    lambda c: c.config_set("requirepass", "")),
    "max_clients": Refusal(lambda c: (c.config_set("maxclients", 1), hang_up_on_others(c)),
                           lambda c: c.config_set("maxclients", 1000)),
}


@dataclass(frozen=True)
class Scene:
    """A daemon with some cameras that show a face in every frame, and its Redis."""

    daemon: Daemon
    redis: RedisServer

    def ours(self, stream: str) -> list[Entry]:
        """The events of the daemon."""
        return [e for e in read_entries(self.redis.client, stream) if e.fields["type"] != FOREIGN_TYPE]

    def wait_for_more(self, stream: str, deadline_s: float = 30) -> None:
        """Returns when a stream has more events in Redis."""
        before = self.ours(stream)[-1:]
        poll(lambda: self.ours(stream)[-1:] != before, deadline_s, self.daemon.output, every_s=0.1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory, clip: Path, require_server: Callable[[str], None]
) -> Iterator[Scene]:
    """One daemon for all faults; each test leaves Redis mended."""
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("refusals")
    with RedisServer(folder / "redis") as server:
        write_foreign(server.client, FOREIGN_MS)
        with Daemon(folder, dict.fromkeys(STREAMS, endless(clip, FPS)), server.url) as daemon:
            scene = Scene(daemon, server)
            for stream in STREAMS:
                scene.wait_for_more(stream)
            yield scene


def write_foreign(client: redis.Redis, ms: int) -> None:
    client.xadd("emotions:shared", {"type": FOREIGN_TYPE}, id=f"{ms}-7")


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refusal_is_told_apart_and_nothing_is_missing_once_it_is_mended(scene: Scene, kind: str) -> None:
    client, daemon = scene.redis.client, scene.daemon
    before = daemon.scrape()("redis_errors_total", kind=kind)

    REFUSALS[kind].cause(client)
    try:
        refused = daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind=kind) > before
                                  and scrape("spool_events") > 0, f"refused with {kind}")
    finally:
        REFUSALS[kind].mend(client)
    for stream in STREAMS:
        scene.wait_for_more(stream)
    mended = daemon.wait_for(lambda scrape: scrape("redis_up") == 1, "Redis is up again")

    assert refused("redis_up") == (kind == "noperm")      # that may be one key's alone, so the others are tried
    assert mended("frames_dropped_total") == 0
    assert mended("events_dropped_total") == 0
    for stream in STREAMS:
        assert_whole(scene.ours(stream))


def test_of_a_batch_that_is_refused_in_part_nothing_is_missing_or_twice(scene: Scene) -> None:
    client, daemon = scene.redis.client, scene.daemon
    before = daemon.scrape()

    client.execute_command("ACL SETUSER", "default", "resetkeys", "~emotions:door", "~emotions:status", "%R~*")
    try:
        daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind="noperm") >= before(
            "redis_errors_total", kind="noperm") + 3, "the keys of three streams are refused")
        for _ in range(3):
            scene.wait_for_more("door")
        refused = daemon.scrape()
    finally:
        client.execute_command("ACL SETUSER", "default", "~*")
    for stream in STREAMS:
        scene.wait_for_more(stream)

    assert refused("redis_up") == refused("ready") == 1
    assert refused("spool_events") > 0
    mended = daemon.scrape()
    assert mended("events_dropped_total") == 0
    assert mended("events_resent_total") == before("events_resent_total")
    for stream in STREAMS:
        assert_whole(scene.ours(stream))


def test_a_foreign_writer_ahead_is_said_and_written_above(scene: Scene) -> None:
    assert scene.ours("shared")[0].id > (FOREIGN_MS, 7)

    write_foreign(scene.redis.client, FOREIGN_MS + 1)
    scene.wait_for_more("shared")

    entries = scene.ours("shared")
    assert_whole(entries)
    assert entries[-1].id > (FOREIGN_MS + 1, 7)
    assert abs(entries[-1].captured_ms - scene.ours("door")[-1].captured_ms) < 60_000
    said = [entry for entry in scene.daemon.log_entries("another writer") if entry["stream"] == "shared"]
    assert said
    assert {entry["level"] for entry in said} == {"warning"}


def test_a_deleted_key_is_said_and_not_refilled(scene: Scene) -> None:
    last = scene.ours("deleted")[-1].frame

    scene.redis.client.delete("emotions:deleted")
    scene.wait_for_more("deleted")

    entries = scene.ours("deleted")
    assert_whole(entries, first=None)
    assert last < entries[0].frame <= last + 5 * FPS
    assert [entry["stream"] for entry in scene.daemon.log_entries("key was deleted")] == ["deleted"]


def test_a_key_of_another_type_holds_up_its_own_stream_alone(scene: Scene) -> None:
    client = scene.redis.client
    before = scene.daemon.scrape()("redis_errors_total", kind="other")

    client.set("emotions:other", "a string")      # an innocent neighbour
    client.delete("emotions:taken")
    client.set("emotions:taken", "a string")
    scene.daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind="other") > before, "refused")
    scene.wait_for_more("door")
    assert scene.daemon.get("/readyz").status == 200
    said = scene.daemon.log_entries("cannot be published")
    assert said[-1]["key"] == "emotions:taken"
    client.delete("emotions:taken")
    scene.wait_for_more("taken")

    assert_whole(scene.ours("taken"), first=None)
    assert_whole(scene.ours("door"))
    assert client.get("emotions:other") == b"a string"


def join(low: RedisServer, high: RedisServer) -> None:
    """Makes a cluster of two servers, each with half of the slots."""
    low.client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS // 2 - 1)
    high.client.execute_command("CLUSTER ADDSLOTSRANGE", SLOTS // 2, SLOTS - 1)
    low.client.execute_command("CLUSTER MEET", "127.0.0.1", high.port)
    for server in (low, high):
        client: Any = server.client
        poll(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 30, "no cluster")


def test_a_node_of_a_cluster_named_as_if_alone_is_said_and_nothing_is_missing_once_the_cluster_is_named(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
    with (
        RedisServer(tmp_path / "low", options=options) as low, RedisServer(tmp_path / "high", options=options) as high,
    ):
        join(low, high)
        here, there = (next(stream for stream in STREAMS if key_slot(f"emotions:{stream}".encode()) // (SLOTS // 2)
                            == half) for half in range(2))
        streams = {here: endless(clip, FPS), there: endless(clip, FPS)}
        with Daemon(tmp_path, streams, low.url) as daemon:
            moved = daemon.wait_for(
                lambda scrape: scrape("redis_errors_total", kind="moved") >= 2
                and all(scrape("events_total", stream=stream) >= FPS for stream in streams), "moved")
            assert daemon.end() == 0
        said = daemon.log_entries("moved")
        first = daemon.log_entries("stopped")[0]["frames_analyzed"]
        with Daemon(tmp_path, streams, f"redis+cluster://127.0.0.1:{low.port}") as daemon:
            daemon.wait_until_ready()
            daemon.wait_for(lambda scrape: scrape("spool_events") < FPS, "the spool drains")
            assert daemon.end() == 0
        entries = read_entries(low.client, here) + read_entries(high.client, there)

    assert moved("events_published_total", stream=there) == moved("events_dropped_total") == moved("redis_up") == 0
    assert "redis+cluster://" in said[0]["message"]
    second = daemon.log_entries("stopped")[-1]["frames_analyzed"]
    assert len(entries) == len({entry.fields["id"] for entry in entries}) == first + second


def test_a_redis_that_loads_its_data_is_waited_for(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    slow = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}      # microseconds a key
    with RedisServer(tmp_path / "redis", persistence="default", options=slow) as server:
        server.client.mset({f"key{n}": "x" * 100 for n in range(2000)})
        server.client.save()
        server.kill()
        with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url) as daemon:
            starting = Thread(target=server.start)      # returns when the data are loaded
            starting.start()
            daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind="loading") >= 1, "loading")
            starting.join()
            daemon.wait_until_ready()
            poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
            assert daemon.end() == 0
        assert_whole(read_entries(server.client, "door"))


def test_a_wrong_password_is_said_without_it_and_mended_without_a_restart(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    with RedisServer(tmp_path / "redis", password=PASSWORD) as server:
        url = server.url.replace(PASSWORD, WRONG_PASSWORD)
        with Daemon(tmp_path, {"door": endless(clip, FPS)}, url) as daemon:
            refused = daemon.wait_for(
                lambda scrape: scrape("redis_errors_total", kind="auth") >= 1 and scrape("spool_events") > 0, "refused")
            not_ready = daemon.get("/readyz")
            assert refused("ready") == 0
            assert not_ready.status == 503
            assert "password" in not_ready.text
            outputs = [daemon.get(page).text for page in ("/metrics", "/streams", "/readyz")]
            server.client.config_set("requirepass", WRONG_PASSWORD)
            daemon.wait_until_ready()
            poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
            assert daemon.end() == 0

        assert_whole(read_entries(server.client, "door"))
        for output in (*outputs, daemon.log.read_text()):
            assert WRONG_PASSWORD not in output
            assert PASSWORD not in output

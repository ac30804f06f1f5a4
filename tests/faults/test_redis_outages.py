"""Redis dies, freezes or its replies get lost while a camera runs: nothing missing, nothing twice, in order."""

import contextlib
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from emotiond.frames import FILE_DEPTH
from emotiond.pipeline import CPU_BATCH
from emotiond.spool.database import decode_record
from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, assert_whole, read_entries
from tests.support.pictures import face_frames
from tests.support.proxy import Loss, LossyProxy
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll

FPS = 10
HEARTBEATS = """
import emotiond.service
emotiond.service.HEARTBEAT_SECONDS = 0.5
"""


@dataclass(frozen=True)
class Scene:
    """A daemon with one camera that shows a face in every frame, its Redis, and a proxy between the two."""

    daemon: Daemon
    redis: RedisServer
    proxy: LossyProxy

    def entries(self) -> list[Entry]:
        return read_entries(self.redis.client, "door")

    def wait_for_more(self, events: int = 5) -> None:
        """Returns when there are so many more events in Redis."""
        before = len(self.entries())
        poll(lambda: len(self.entries()) >= before + events, 30, self.daemon.output, every_s=0.1)

    def read_while(self, frames: int) -> None:
        """Returns when the daemon has read so many more frames, wherever their events are."""
        before = self.daemon.scrape()("stream_frames_read_total")
        self.daemon.wait_for(lambda scrape: scrape("stream_frames_read_total") >= before + frames, "frames read")

    def judge(self) -> None:
        """Ends the daemon and compares what is in Redis with the frames it read."""
        assert self.daemon.end() == 0
        last = self.daemon.log_entries("stopped")[0]
        entries = self.entries()
        assert_whole(entries)
        assert len(entries) == last["frames_analyzed"]
        assert all(len(entry.body["faces"]) == 1 for entry in entries)
        assert all(before.time < after.time for before, after in pairwise(entries))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture
def scene(tmp_path: Path, clip: Path, require_server: Callable[[str], None]) -> Iterator[Scene]:
    require_server("redis-server")
    with (
        RedisServer(tmp_path / "redis", persistence="aof") as server,
        LossyProxy(server.port) as proxy,
        Daemon(tmp_path, {"door": endless(clip, FPS)},
               f"redis://127.0.0.1:{proxy.port}/0", before=HEARTBEATS) as daemon,
    ):
        scene = Scene(daemon, server, proxy)
        scene.wait_for_more()
        yield scene


def test_nothing_is_missing_or_twice_after_redis_was_killed_again_and_again(scene: Scene) -> None:
    for _ in range(3):
        scene.redis.kill()
        scene.read_while(frames=FPS)
        waiting = scene.daemon.scrape()
        assert waiting("redis_up") == 0
        assert waiting("spool_events") > 0
        assert waiting("redis_errors_total", kind="connection") >= 1
        scene.redis.start()
        scene.wait_for_more()

    mended = scene.daemon.wait_for(lambda scrape: scrape("redis_up") == 1, "Redis is up")
    assert mended("frames_dropped_total") == 0
    assert mended("events_dropped_total") == 0
    assert scene.daemon.get("/healthz").status == 200
    scene.judge()


def test_nothing_is_missing_or_twice_after_redis_froze(scene: Scene) -> None:
    scene.redis.freeze()
    frozen = scene.daemon.wait_for(
        lambda scrape: scrape("redis_errors_total", kind="timeout") >= 1 and scrape("spool_events") >= 2 * FPS,
        "a timeout, and frames read all the same")
    scene.redis.thaw()
    scene.wait_for_more(3 * FPS)

    assert frozen("redis_up") == 0
    assert frozen("frames_dropped_total") == 0
    scene.judge()


def test_a_slow_redis_holds_up_no_frame_and_nothing_is_missing_or_twice(scene: Scene) -> None:
    before = scene.daemon.scrape()
    for seconds in (1, 1, 3):      # below the daemon's patience, and beyond it
        scene.redis.client.execute_command("DEBUG", "SLEEP", seconds)
    slow = scene.daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind="timeout") >= 1, "a timeout")
    scene.wait_for_more(FPS)

    assert slow("stream_frames_read_total") >= before("stream_frames_read_total") + 2 * FPS
    assert slow("frames_in_flight") <= FILE_DEPTH + 2 * CPU_BATCH
    assert slow("frames_dropped_total") == 0
    assert scene.daemon.get("/healthz").status == 200
    scene.judge()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "silence"])
def test_nothing_is_twice_after_replies_were_lost(scene: Scene, how: Loss) -> None:
    for _ in range(3):
        scene.proxy.lose(1, b"EVALSHA", how)
        scene.wait_for_more()

    scrape = scene.daemon.scrape()
    assert scene.proxy.lost == 3
    assert scrape("events_resent_total", reason="lost_reply") >= 3
    assert scrape("redis_errors_total", kind="timeout" if how == "silence" else "connection") == 3
    scene.judge()


@pytest.mark.slow
def test_a_daemon_stopped_while_redis_is_away_leaves_its_events_to_the_next_start(scene: Scene) -> None:
    scene.redis.kill()
    scene.read_while(frames=FPS)

    begin = time.monotonic()
    assert scene.daemon.end() == 0
    assert time.monotonic() - begin < 15
    left = scene.daemon.log_entries("events stay in the spool")[0]["events"]
    assert left >= FPS
    analyzed = scene.daemon.log_entries("stopped")[0]["frames_analyzed"]
    scene.redis.start()
    scene.daemon.start()
    scene.wait_for_more(analyzed)

    entries = scene.entries()
    assert_whole(entries[:analyzed])
    assert_whole(entries[analyzed:])


@pytest.mark.slow
def test_a_daemon_that_holds_events_in_memory_says_how_many_are_lost_with_it(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    with (
        RedisServer(tmp_path / "redis") as server,
        Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url, spool={"path": "memory"}) as daemon,
    ):
        poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
        server.kill()
        daemon.wait_for(lambda scrape: scrape("spool_events") >= FPS, "events wait")

        assert daemon.end() == 1
        assert daemon.log_entries("events were not delivered")[0]["events"] >= FPS
        assert not daemon.log_entries("did not end in time")


@pytest.mark.slow
def test_nothing_that_was_spooled_is_missing_or_twice_after_the_daemon_was_killed_again_and_again(
    scene: Scene, tmp_path: Path
) -> None:
    spooled: list[str] = []
    for number in range(6):
        if number % 2:
            scene.redis.kill()
        scene.read_while(frames=FPS)
        scene.daemon.kill()
        spooled += [each for each in spooled_ids(tmp_path) if each not in spooled]
        if number % 2:
            scene.redis.start()
        scene.daemon.start()
    scene.wait_for_more()
    assert scene.daemon.end() == 0

    entries = scene.entries()
    ids = [entry.fields["id"] for entry in entries]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if each in set(spooled)] == spooled
    assert len(spooled) > 6 * FPS
    assert all(before.time < after.time for before, after in pairwise(entries))


def spooled_ids(folder: Path) -> list[str]:
    """Returns the ids of the events in a spool's file, acknowledged ones included, without touching it."""
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    for file in folder.glob("spool.db*"):
        shutil.copy(file, copy)
    with contextlib.closing(sqlite3.connect(copy / "spool.db")) as db:
        rows = db.execute("SELECT record FROM events ORDER BY seq").fetchall()
    return [decode_record(record)["id"].decode() for record, in rows]


def test_a_stop_while_redis_is_frozen_for_a_moment_still_delivers_everything(scene: Scene) -> None:
    scene.redis.freeze()
    scene.read_while(frames=FPS)
    scene.daemon.child.terminate()
    poll(lambda: scene.daemon.log_entries("stopping"), 10, scene.daemon.output)
    scene.redis.thaw()

    assert scene.daemon.wait() == 0
    last = scene.daemon.log_entries("stopped")[0]
    entries = scene.entries()
    assert_whole(entries)
    assert len(entries) == last["frames_analyzed"]


def test_a_second_signal_forces_the_end(scene: Scene) -> None:
    scene.redis.freeze()
    scene.read_while(frames=FPS)
    scene.daemon.child.terminate()
    poll(lambda: scene.daemon.log_entries("stopping"), 10, scene.daemon.output)

    begin = time.monotonic()
    assert scene.daemon.end() == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 10

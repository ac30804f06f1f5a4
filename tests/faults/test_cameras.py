"""Cameras that die, freeze, never answer and come back, and what their neighbours notice of it: nothing."""

import socket
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from emotiond.stream import Backoff
from tests.conftest import ServeRtsp
from tests.support.daemon import DROPS, Daemon, Scrape
from tests.support.events import assert_whole, read_entries, read_status
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.rtsp import Mount
from tests.support.videos import write_video
from tests.support.waiting import free_port, poll

FPS = 5      # two busy cores hold that for all streams


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(4 * FPS, 320, 240), fps=FPS)


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_wait_for_the_next_try_grows_from_a_second_to_a_minute_and_begins_anew_once_it_worked() -> None:
    backoff = Backoff()
    waits = [backoff.next() for _ in range(20)]
    backoff.reset()

    for number, wait in enumerate(waits):
        assert wait == pytest.approx(min(1.5**number, 60), rel=0.2)
    assert len({round(wait / min(1.5**number, 60), 3) for number, wait in enumerate(waits)}) > 10      # not all at once
    assert 0.8 <= backoff.next() <= 1.2


def is_running(stream: str) -> Callable[[Scrape], bool]:
    return lambda scrape: scrape("stream_up", stream=stream) == 1


@pytest.mark.slow
def test_two_cameras_lose_nothing_while_one_is_dead_one_is_mute_and_one_freezes(
    tmp_path: Path, clip: Path, redis_server: RedisServer, serve_rtsp: ServeRtsp, mute_port: int
) -> None:
    healthy = serve_rtsp({"/left": clip, "/right": clip})
    freezing = serve_rtsp({"/door": clip})
    with Daemon(tmp_path, {
        "left": {"source": healthy.url("/left")},
        "right": {"source": healthy.url("/right"), "transport": "udp"},
        "frozen": {"source": freezing.url("/door"), "stall_seconds": 2},
        "dead": {"source": f"rtsp://127.0.0.1:{free_port()}/door"},
        "mute": {"source": f"rtsp://127.0.0.1:{mute_port}/door"},
    }, redis_server.url) as daemon:
        daemon.wait_until_ready()
        for stream in ("left", "right", "frozen"):
            daemon.wait_for(is_running(stream), f"{stream} runs")

        freezing.freeze()
        stalled = daemon.wait_for(
            lambda scrape: scrape("stream_connects_total", stream="frozen", outcome="timeout") >= 1,
            "the frozen camera does not answer")
        freezing.thaw()
        daemon.wait_for(is_running("frozen"), "the frozen camera is back")
        scrape = daemon.wait_for(
            lambda scrape: scrape("stream_connects_total", stream="mute", outcome="timeout") >= 1, "timed out")

        assert stalled("stream_reconnects_total", stream="frozen", reason="stall") == stalled(
            "stream_reconnects_total", stream="frozen") == 1
        assert stalled("stream_up", stream="frozen") == 0
        assert scrape("stream_connects_total", stream="dead", outcome="refused") >= 2
        assert scrape("stream_connects_total", stream="dead", outcome="ok") == 0
        assert daemon.streams()["dead"]["error"]
        assert daemon.get("/readyz").status == 200
        for stream in ("left", "right"):
            dropped = {reason: scrape("frames_dropped_total", stream=stream, reason=reason) for reason in DROPS}
            assert dropped == dict.fromkeys(DROPS, 0)
            assert scrape("stream_connects_total", stream=stream) == 1
            assert scrape("stream_reconnects_total", stream=stream) == 0
        assert daemon.end() == 0

    kinds = [(kind, body["reason"]) for kind, body in read_status(redis_server.client, "frozen")]
    assert kinds[:2] == [("up", None), ("down", "stall")]
    assert kinds[-1] == ("up", None)
    assert [kind for kind, _ in read_status(redis_server.client, "dead")] == ["down"]
    for stream in ("left", "right"):
        entries = read_entries(redis_server.client, stream)
        assert_whole(entries)
        times = [pts for entry in entries if (pts := entry.body["pts"]) is not None]
        assert len(times) > 5 * FPS
        for before, after in pairwise(times):      # not even a frame that the camera sent and nobody read
            assert after - before == pytest.approx(1 / FPS, abs=0.01)


@pytest.mark.slow
def test_events_are_back_within_five_seconds_of_a_killed_servers_return(
    tmp_path: Path, clip: Path, redis_server: RedisServer, serve_rtsp: ServeRtsp
) -> None:
    server = serve_rtsp({"/door": Mount(clip, fps=15)})
    client = redis_server.client
    large = write_video(tmp_path / "large.mp4", face_frames(60), fps=15)
    with Daemon(tmp_path, {"door": {"source": server.url("/door")}}, redis_server.url) as daemon:
        poll(lambda: len(read_entries(client, "door")) > 10, 30, daemon.output)

        server.kill()
        down = daemon.wait_for(
            lambda scrape: scrape("stream_connects_total", stream="door", outcome="refused") >= 1, "refused")
        before = len(read_entries(client, "door"))
        server.set_mounts({"/door": large})
        server.start()
        returned = time.monotonic()
        poll(lambda: len(read_entries(client, "door")) > before, 30, daemon.output)
        waited = time.monotonic() - returned
        up = daemon.wait_for(is_running("door"), "door runs")
        assert daemon.end() == 0

    assert waited < 5
    assert down("stream_up", stream="door") == 0
    assert down("stream_state", stream="door", state="running") == 0
    life = [(kind, body["reason"]) for kind, body in read_status(client, "door")]
    reason = life[1][1]
    assert reason in ("eof", "error")
    assert life == [("up", None), ("down", reason), ("down", "refused"), ("up", None)]
    assert up("stream_reconnects_total", stream="door", reason=reason) == up(
        "stream_reconnects_total", stream="door") == 1
    assert up("stream_connects_total", stream="door", outcome="ok") == 2
    assert up("stream_state", stream="door", state="running") == up("stream_state", stream="door") == 1
    assert up("stream_up", stream="door") == 1
    entries = read_entries(client, "door")
    assert all(one.frame < next_.frame and one.id < next_.id for one, next_ in pairwise(entries))
    assert [entry.body["width"] for entry in entries] == [320] * before + [640] * (len(entries) - before)

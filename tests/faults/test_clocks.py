"""Times that are missing, go back or jump, the camera's and the host's: pace and order stay, and `time` says what was.

The host's clock is set for one process alone, where Python reads it: libfaketime makes time.sleep fail.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

import pytest

from tests.support.daemon import Daemon, Scrape, endless
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.rtsp import Mount, RtspServer
from tests.support.videos import write_video
from tests.support.waiting import poll

pytestmark = pytest.mark.slow

FPS = 5
FRAMES = 2 * FPS
HOUR, DAY = 3600, 86400
JUMPS = (0, HOUR, -DAY)      # seconds that the host's clock is off, in turn
LIVE = ("raw", "backwards", "jumping", "no-reports", "centuries-off")      # whose own times are of no use
SET_CLOCK = """
import pathlib, time, emotiond.service
emotiond.service.HEARTBEAT_SECONDS = 0.5
file, wall = pathlib.Path({file!r}), time.time_ns
time.time_ns = lambda: wall() + int(file.read_text() or 0) * 1_000_000_000
time.time = lambda: time.time_ns() / 1_000_000_000
"""


@dataclass(frozen=True)
class Run:
    """What a daemon made of strange times."""

    last: Scrape
    entries: dict[str, list[Entry]]
    status: dict[str, list[str]]
    beats: list[Entry]
    began: float      # seconds since the epoch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Run]:
    require_server("rtsp-server")
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("clocks")
    clip = write_video(folder / "clip.mp4", face_frames(FRAMES, 320, 240), fps=FPS)
    raw = write_video(folder / "raw.h264", face_frames(FRAMES, 320, 240), fps=FPS)      # no times, no index
    paced = f"lavfi:movie={clip}:loop=0,setpts=N/({FPS}*TB),realtime,setpts="
    clock = folder / "clock"
    clock.write_text("0")
    with (
        RedisServer(folder / "redis") as redis,
        RtspServer(folder / "rtsp", {
            "/wrong": Mount(clip, clock="wrong"), "/none": Mount(clip, report_s=None)}) as server,
        Daemon(folder, {
            "near": endless(clip, FPS),
            "recording": {"source": str(raw)},
            "raw": {"source": str(raw), "live": True},
            "backwards": {
                "source": f"{paced}'if(lt(mod(N,20),10),N,N+20-2*mod(N,20))/({FPS}*TB)'", "max_fps": FPS},
            "jumping": {"source": f"{paced}'(N+1000000*floor(N/10))/({FPS}*TB)'"},
            "centuries-off": {"source": server.url("/wrong")},
            "no-reports": {"source": server.url("/none")},
        }, redis.url, before=SET_CLOCK.format(file=str(clock))) as daemon,
    ):
        began = time.time()
        for jump in JUMPS:
            (folder / "next").write_text(str(jump))
            (folder / "next").replace(clock)      # whole: an empty file is no jump
            wanted = {stream: len(read_entries(redis.client, stream)) + FPS for stream in ("near", *LIVE)}
            poll(lambda wanted=wanted: all(
                len(read_entries(redis.client, stream)) >= count for stream, count in wanted.items()),
                60, daemon.output, every_s=0.2)
        last = daemon.scrape()
        assert daemon.end() == 0
        yield Run(
            last, {stream: read_entries(redis.client, stream) for stream in daemon.names},
            {stream: [kind for kind, _ in read_status(redis.client, stream)] for stream in daemon.names},
            [entry for entry in read_entries(redis.client, "status") if "heartbeat" in entry.fields["type"]], began)


def jumps(run: Run, entries: list[Entry]) -> list[int]:
    """Returns by how much the host's clock was off, as the times of some entries show it, each as often as it came."""
    return [jump for jump, _ in groupby(
        min(JUMPS, key=lambda jump: abs(entry.time.timestamp() - run.began - jump)) for entry in entries)]


@pytest.mark.parametrize("stream", LIVE)
def test_ids_rise_and_events_go_on_whatever_the_times(run: Run, stream: str) -> None:
    for before, after in pairwise(run.entries[stream]):
        assert before.id < after.id
        assert before.frame < after.frame
    assert run.status[stream] == ["up"]
    assert run.last("stream_reconnects_total", stream=stream) == run.last(
        "stream_reconnects_total", stream=stream, reason="eof")      # of a file that plays a camera


@pytest.mark.parametrize("stream", LIVE)
def test_the_time_of_a_live_picture_is_that_of_its_arrival_by_the_hosts_clock(run: Run, stream: str) -> None:
    assert {entry.body["clock"] for entry in run.entries[stream]} == {"arrival"}
    assert jumps(run, run.entries[stream]) == list(JUMPS)


@pytest.mark.parametrize("stream", LIVE)
def test_pace_and_latency_know_nothing_of_the_clock(run: Run, stream: str) -> None:
    paces = [(after.time - before.time).total_seconds() / (after.frame - before.frame)
             for before, after in pairwise(run.entries[stream])]

    assert median(paces) == pytest.approx(1 / FPS, rel=0.5)
    assert run.last("event_latency_seconds_sum", stream=stream) < 10 * run.last(
        "event_latency_seconds_count", stream=stream)


def test_a_recording_without_times_gets_those_of_its_rate(run: Run) -> None:
    entries = run.entries["recording"]

    assert_whole(entries)
    assert len(entries) == FRAMES
    assert {entry.body["clock"] for entry in entries} == {"file"}
    for before, after in pairwise(entries):
        assert (after.time - before.time).total_seconds() == pytest.approx(1 / FPS, abs=0.001)


def test_the_heartbeat_goes_on_while_the_clock_is_set(run: Run) -> None:
    assert jumps(run, run.beats) == list(JUMPS)


def test_the_neighbour_of_strange_times_loses_nothing(run: Run) -> None:
    assert run.status["near"] == ["up"]
    assert run.last("frames_dropped_total", stream="near") == 0
    assert run.last("events_dropped_total") == 0
    assert_whole(run.entries["near"])

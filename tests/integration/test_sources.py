"""Sources besides RTSP, in one real daemon: files that play a camera, HTTP, test patterns; live or not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import pytest

from tests.support.daemon import Daemon, Scrape
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.http_video import HttpVideo
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_repeated, write_video

FPS = 10
LENGTH = 20      # frames of the clip
LIVE = ("camera-file", "skipping", "mjpeg", "pattern")
ENDING = {"progressive": LENGTH, "finite": 3 * FPS}      # frames


@dataclass(frozen=True)
class Run:
    """What a daemon made of its sources until it was stopped."""

    entries: dict[str, list[Entry]]
    status: dict[str, list[str]]
    last: Scrape
    states: dict[str, str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Run]:
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("sources")
    clip = write_video(folder / "clip.mp4", face_frames(LENGTH, 320, 240), fps=FPS)
    long_clip = write_repeated(clip, folder / "long.mp4", 120)
    with (
        RedisServer(folder / "redis") as redis,
        HttpVideo({"/clip.mp4": clip}, {"/camera": list(face_frames(3, 320, 240))}, fps=FPS) as web,
        Daemon(folder, {
            "camera-file": {"source": str(clip), "live": True},
            "skipping": {"source": str(long_clip), "live": True, "max_fps": 4},
            "mjpeg": {"source": web.url("/camera")},
            "pattern": {"source": f"lavfi:testsrc2=size=320x240:rate={FPS},realtime"},
            "progressive": {"source": web.url("/clip.mp4")},
            "finite": {"source": f"lavfi:testsrc2=size=320x240:rate={FPS}:duration=3", "live": False},
        }, redis.url, publish_empty=True) as daemon,
    ):
        daemon.wait_for(lambda scrape: all(
            scrape("stream_frames_read_total", stream=stream) > 2.5 * LENGTH for stream in LIVE) and all(
            scrape("events_published_total", stream=stream) == frames for stream, frames in ENDING.items()),
            "enough", deadline_s=60)
        states = {stream: state["state"] for stream, state in daemon.streams().items()}
        last = daemon.scrape()
        last.assert_frames_add_up()
        assert daemon.end() == 0
        yield Run({stream: read_entries(redis.client, stream) for stream in daemon.names},
                  {stream: [kind for kind, _ in read_status(redis.client, stream)] for stream in daemon.names},
                  last, states)


def test_a_file_may_play_a_camera_at_its_own_pace_again_and_again(run: Run) -> None:
    entries = run.entries["camera-file"]
    paces = [(after.time - before.time).total_seconds() / (after.frame - before.frame)
             for before, after in pairwise(entries)]

    assert entries[-1].frame > 2 * LENGTH      # the third round
    assert median(paces) == pytest.approx(1 / FPS, rel=0.2)
    assert {entry.body["clock"] for entry in entries} == {"arrival"}
    assert run.last("stream_reconnects_total", stream="camera-file", reason="eof") >= 2
    assert run.status["camera-file"] == ["up"]
    assert run.states["camera-file"] == "running"
    assert run.last("stream_up", stream="camera-file") == 1


def test_frames_over_max_fps_are_skipped_and_counted(run: Run) -> None:
    read = run.last("stream_frames_read_total", stream="skipping")
    skipped = run.last("frames_dropped_total", stream="skipping", reason="max_fps")

    assert skipped / read == pytest.approx(1 - 4 / FPS, abs=0.1)
    assert len(run.entries["skipping"]) <= read - skipped + FPS      # those since the reading of the metrics


@pytest.mark.parametrize("stream", ["mjpeg", "pattern"])
def test_http_cameras_and_test_patterns_are_live(run: Run, stream: str) -> None:
    assert run.states[stream] == "running"
    assert run.status[stream] == ["up"]
    assert {entry.body["clock"] for entry in run.entries[stream]} == {"arrival"}
    assert run.last("stream_reconnects_total", stream=stream) == 0


def test_faces_come_through_http(run: Run) -> None:
    for stream in ("mjpeg", "progressive"):
        assert {len(entry.body["faces"]) for entry in run.entries[stream]} == {1}
        assert {entry.body["faces"][0]["emotion"] for entry in run.entries[stream]} == {"happy"}


@pytest.mark.parametrize(("stream", "frames"), ENDING.items())
def test_what_is_not_live_loses_no_frame_and_ends(run: Run, stream: str, frames: int) -> None:
    entries = run.entries[stream]

    assert_whole(entries)
    assert len(entries) == frames
    assert {entry.body["clock"] for entry in entries} == {"file"}
    assert all((after.time - before.time).total_seconds() == pytest.approx(1 / FPS, abs=0.001)
               for before, after in pairwise(entries))
    assert run.status[stream] == ["up", "ended"]
    assert run.states[stream] == "ended"
    assert run.last("stream_connects_total", stream=stream) == 1


def test_counters_of_a_stream_that_ended_agree_with_each_other_and_with_redis(run: Run) -> None:
    for counter in ("stream_frames_read_total", "frames_analyzed_total", "faces_detected_total",
                    "faces_classified_total", "events_total", "events_published_total", "event_latency_seconds_count"):
        assert run.last(counter, stream="progressive") == LENGTH == len(run.entries["progressive"]), counter
    assert run.last("faces_classified_total", stream="progressive", emotion="happy") == LENGTH
    assert run.last("faces_detected_total", stream="finite") == sum(
        len(entry.body["faces"]) for entry in run.entries["finite"])
    assert run.last("events_total", stream="finite") == 3 * FPS      # publish_empty

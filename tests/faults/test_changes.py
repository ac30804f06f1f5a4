"""Cameras whose size, shape, codec or numbering changes: the next picture is analysed, its boxes are in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import cv2
import numpy as np
import pytest

from emotiond.source import MAX_ERRORS_IN_A_ROW
from tests.support.daemon import Daemon, Scrape, endless
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.http_video import HttpVideo
from tests.support.pictures import Picture, face_frames
from tests.support.redis_server import RedisServer
from tests.support.rtsp import Mount, RtspServer
from tests.support.videos import write_video
from tests.support.waiting import poll

pytestmark = pytest.mark.slow

FPS = 5
SMALL, WIDE, LARGE = (320, 240), (480, 270), (640, 360)
QUICK = 25      # frames a second where a hundred have to be refused


@dataclass(frozen=True)
class Run:
    """What a daemon made of cameras that changed."""

    last: Scrape
    entries: dict[str, list[Entry]]
    status: dict[str, list[tuple[str, str | None]]]
    codecs: dict[str, list[str]]

    def sizes(self, stream: str) -> list[tuple[int, int]]:
        """The sizes of a stream's pictures, each as often as it came to be."""
        return [size for size, _ in groupby(
            (entry.body["width"], entry.body["height"]) for entry in self.entries[stream])]


def squeezed(count: int) -> Iterator[Picture]:
    """Yields pictures of half their width, to be shown with pixels twice as wide as high."""
    for picture in face_frames(count, *LARGE):
        yield np.asarray(cv2.resize(picture, (LARGE[0] // 2, LARGE[1])), np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Run]:
    require_server("rtsp-server")
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("changes")
    small = write_video(folder / "small.mp4", face_frames(FPS, *SMALL), fps=FPS)
    large = write_video(folder / "large.mp4", face_frames(FPS, *LARGE), fps=FPS)
    hevc = write_video(folder / "hevc.mp4", face_frames(FPS, *LARGE), fps=FPS, codec="libx265")
    stretched = write_video(folder / "stretched.ts", squeezed(FPS), fps=FPS, sar=Fraction(2))
    square = write_video(folder / "square.ts", face_frames(FPS, *WIDE), fps=FPS)
    recoded = write_video(folder / "recoded.ts", face_frames(QUICK, *SMALL), fps=QUICK, codec="libx265")
    renumbered = write_video(folder / "renumbered.ts", face_frames(FPS, *SMALL), fps=FPS,
                             container={"mpegts_start_pid": "512"})
    with (
        RedisServer(folder / "redis") as redis,
        RtspServer(folder / "resized", {"/door": Mount([small, large])}) as server,
        RtspServer(folder / "restarted", {"/door": small}) as restarted,
        HttpVideo(channels={"/changing": stretched, "/renumbered": square}) as web,
        Daemon(folder, {
            "near": endless(small, FPS),
            "resized": {"source": server.url("/door")},
            "restarted": {"source": restarted.url("/door")},
            "changing": {"source": web.url("/changing"), "max_fps": FPS},
            "renumbered": {"source": web.url("/renumbered")},
        }, redis.url) as daemon,
    ):
        def wait_for(stream: str, size: tuple[int, int]) -> None:
            poll(lambda: [entry for entry in read_entries(redis.client, stream)
                          if (entry.body["width"], entry.body["height"]) == size][1:], 60, daemon.output, every_s=0.1)

        wait_for("changing", LARGE)
        wait_for("renumbered", WIDE)
        wait_for("restarted", SMALL)
        web.channels.update({"/changing": square, "/renumbered": renumbered})
        restarted.kill()
        restarted.set_mounts({"/door": hevc})
        restarted.start()
        wait_for("changing", WIDE)
        web.channels["/changing"] = recoded
        wait_for("renumbered", SMALL)
        wait_for("restarted", LARGE)
        wait_for("resized", LARGE)
        wait_for("changing", SMALL)
        last = daemon.scrape()
        assert daemon.end() == 0
        yield Run(
            last, {stream: read_entries(redis.client, stream) for stream in daemon.names},
            {stream: [(kind, body["reason"]) for kind, body in read_status(redis.client, stream)]
             for stream in daemon.names},
            {stream: [entry["codec"] for entry in daemon.log_entries("stream is up") if entry["stream"] == stream]
             for stream in daemon.names})


@pytest.mark.parametrize(("stream", "sizes"), [
    ("resized", [SMALL, LARGE]), ("renumbered", [WIDE, SMALL]), ("changing", [LARGE, WIDE, SMALL]),
    ("restarted", [SMALL, LARGE])])
def test_after_a_change_boxes_are_in_the_new_picture(run: Run, stream: str, sizes: list[tuple[int, int]]) -> None:
    assert run.sizes(stream)[:len(sizes)] == sizes
    for entry in run.entries[stream]:
        face, = entry.body["faces"]
        width, height, box = entry.body["width"], entry.body["height"], face["box"]
        assert box["x"] + box["width"] / 2 == pytest.approx(width / 2, abs=0.03 * width)
        assert box["height"] == pytest.approx(0.63 * height, rel=0.1)      # the head fills the height
        assert box["width"] == pytest.approx(0.8 * box["height"], rel=0.1)


@pytest.mark.parametrize("stream", ["resized", "renumbered"])
def test_another_size_or_number_is_followed_without_a_break(run: Run, stream: str) -> None:
    assert run.status[stream] == [("up", None)]
    assert run.last("stream_connects_total", stream=stream) == 1
    assert run.last("stream_reconnects_total", stream=stream) == 0
    assert run.last("stream_decode_errors_total", stream=stream) == 0
    frames = [entry.frame for entry in run.entries[stream]]
    assert frames == sorted(set(frames))


def test_another_codec_is_opened_anew_after_too_many_errors(run: Run) -> None:
    assert run.status["changing"] == [("up", None), ("down", "error"), ("up", None)]
    assert run.codecs["changing"] == ["h264", "hevc"]
    assert run.last("stream_reconnects_total", stream="changing", reason="error") == 1
    assert run.last("stream_reconnects_total", stream="changing") == 1
    assert run.last("stream_decode_errors_total", stream="changing") >= MAX_ERRORS_IN_A_ROW


def test_a_server_that_comes_back_with_another_codec_and_size_is_opened_anew(run: Run) -> None:
    assert run.status["restarted"][0] == run.status["restarted"][-1] == ("up", None)
    assert {kind for kind, _ in run.status["restarted"][1:-1]} == {"down"}
    assert run.codecs["restarted"] == ["h264", "hevc"]
    assert run.last("stream_connects_total", stream="restarted", outcome="ok") == 2


def test_the_neighbour_of_changing_cameras_loses_nothing(run: Run) -> None:
    assert run.status["near"] == [("up", None)]
    assert run.last("frames_dropped_total", stream="near") == 0
    assert_whole(run.entries["near"])

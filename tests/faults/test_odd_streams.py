"""Streams of a running daemon that are no video, are half broken, show too much or nothing: none harms another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.daemon import Daemon, Scrape, endless
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.pictures import face_frames, write_huge_png, write_photo
from tests.support.redis_server import RedisServer
from tests.support.videos import write_audio, write_flipped, write_video
from tests.support.waiting import poll

pytestmark = pytest.mark.slow

FPS = 5
FRAMES = 30                    # of the damaged recording
TILE, COLUMNS, ROWS = 40, 32, 31
MOST_FACES = 200
HEARTBEAT_SECONDS = 0.5
WEBCAM = f"""
import errno, itertools, av, emotiond.service
emotiond.service.HEARTBEAT_SECONDS = {HEARTBEAT_SECONDS}
open_container, tries = av.open, itertools.count()

class Unplugged:
    def __init__(self, container):
        self.container = container
    def __getattr__(self, name):
        return getattr(self.container, name)
    def demux(self, *streams):
        yield from itertools.islice(self.container.demux(*streams), 10)
        raise OSError(errno.ENODEV, "No such device")

def open_webcam(name, *arguments, **named):
    if name != "/dev/video78":
        return open_container(name, *arguments, **named)
    turn = next(tries)
    if turn == 1:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    container = open_container("testsrc2=size=160x120:rate={FPS},realtime", format="lavfi")
    return Unplugged(container) if turn == 0 else container

av.open = open_webcam
"""


@dataclass(frozen=True)
class Run:
    """What a daemon made of its streams."""

    last: Scrape
    streams: dict[str, dict[str, Any]]
    entries: dict[str, list[Entry]]
    status: dict[str, list[tuple[str, str | None]]]
    beats: list[Entry]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Run]:
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("streams")
    clip = write_video(folder / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)
    whole = write_video(folder / "whole.mkv", face_frames(FRAMES, 320, 240), codec="mjpeg", pix_fmt="yuvj420p")
    files: dict[str, Path] = {
        "empty": folder / "empty.mp4", "text": folder / "diary.mp4", "sound": write_audio(folder / "sound.mp4"),
        "huge": write_huge_png(folder / "huge.png"),
        "damaged": write_flipped(whole, folder / "damaged.mkv", share=3e-4),
        "stretched": write_video(folder / "stretched.mkv", [np.zeros((1000, 8000), np.uint8)] * 2, codec="mjpeg",
                                 pix_fmt="yuvj420p", sar=Fraction(9)),
        "crowd": write_photo(folder / "crowd.jpg", next(face_frames(1, COLUMNS * TILE, ROWS * TILE, where=lambda n: [
            (column * TILE, row * TILE, TILE) for row in range(ROWS) for column in range(COLUMNS)]))),
    }
    files["empty"].touch()
    files["text"].write_text("Dear diary, today there was no picture.\n" * 100)
    with (
        RedisServer(folder / "redis") as redis,
        Daemon(folder, {
            "near": endless(clip, FPS),
            "missing": {"source": "/dev/video77"},
            "unplugged": {"source": "/dev/video78"},
            "blank": {"source": f"lavfi:color=c=gray:size=320x240:rate={FPS},realtime"},
            **{name: {"source": str(file)} for name, file in files.items()},
        }, redis.url, before=WEBCAM, detector={"width": COLUMNS * TILE, "min_face": 10, "max_faces": MOST_FACES}
        ) as daemon,
    ):
        daemon.wait_until_ready()
        daemon.wait_for(lambda scrape: all(
            scrape("stream_state", stream=stream, state="ended") == 1 and scrape("frames_in_flight", stream=stream) == 0
            for stream in files), "the files end", deadline_s=60)
        daemon.wait_for(
            lambda scrape: scrape("stream_connects_total", stream="unplugged", outcome="ok") == 2
            and scrape("stream_connects_total", stream="missing") >= 2
            and scrape("stream_up", stream="unplugged") == 1
            and scrape("frames_analyzed_total", stream="blank") > 2 * FPS, "the webcam is back")
        poll(lambda: redis.client.xlen("emotions:status") > 20, 30, daemon.output)
        last, streams = daemon.scrape(), daemon.streams()
        last.assert_frames_add_up()
        assert daemon.end() == 0
        yield Run(
            last, streams, {stream: read_entries(redis.client, stream) for stream in daemon.names},
            {stream: [(kind, body["reason"]) for kind, body in read_status(redis.client, stream)]
             for stream in daemon.names},
            [entry for entry in read_entries(redis.client, "status") if "heartbeat" in entry.fields["type"]])


def test_a_webcam_that_is_missing_is_looked_for_again_and_again(run: Run) -> None:
    assert run.status["missing"] == [("down", "not_found")]
    assert run.last("stream_connects_total", stream="missing", outcome="not_found") >= 2
    assert run.streams["missing"]["state"] in ("not_found", "connecting")
    assert "/dev/video77" in run.streams["missing"]["error"]


def test_a_webcam_that_is_unplugged_goes_on_once_it_is_back(run: Run) -> None:
    assert run.status["unplugged"] == [("up", None), ("down", "error"), ("down", "not_found"), ("up", None)]
    assert run.last("stream_reconnects_total", stream="unplugged", reason="error") == 1
    assert run.last("stream_connects_total", stream="unplugged", outcome="ok") == 2


@pytest.mark.parametrize("stream", ["empty", "text", "sound"])
def test_a_file_that_is_no_video_ends_its_own_stream_alone(run: Run, stream: str) -> None:
    assert run.status[stream] == [("ended", "error")]
    assert run.last("stream_connects_total", stream=stream) == run.last(
        "stream_connects_total", stream=stream, outcome="protocol") == 1
    assert run.last("stream_frames_read_total", stream=stream) == 0
    assert run.streams[stream]["error"]


def test_of_a_damaged_file_what_decodes_is_analysed_and_the_rest_counted(run: Run) -> None:
    analyzed = run.last("frames_analyzed_total", stream="damaged")

    assert 0 < analyzed <= FRAMES
    assert run.last("stream_decode_errors_total", stream="damaged") >= 1
    assert run.last("frames_dropped_total", stream="damaged") == 0
    assert run.status["damaged"][0] == ("up", None)
    assert run.status["damaged"][-1][0] == "ended"


def test_a_picture_that_claims_to_be_huge_is_counted_as_damaged(run: Run) -> None:
    assert run.last("stream_decode_errors_total", stream="huge") == 1
    assert run.last("stream_frames_read_total", stream="huge") == 0
    assert [kind for kind, _ in run.status["huge"]] == ["ended"]


def test_pictures_too_large_to_be_analysed_are_counted(run: Run) -> None:
    assert run.last("frames_dropped_total", stream="stretched", reason="too_large") == run.last(
        "stream_frames_read_total", stream="stretched") == 2
    assert run.status["stretched"] == [("up", None), ("ended", "eof")]


def test_of_a_thousand_faces_the_best_are_taken_and_the_others_counted(run: Run) -> None:
    entry, = run.entries["crowd"]
    scores = [face["score"] for face in entry.body["faces"]]

    assert len(scores) == MOST_FACES == run.last("faces_detected_total", stream="crowd")
    assert scores == sorted(scores, reverse=True)
    assert run.last("faces_truncated_total", stream="crowd") == pytest.approx(COLUMNS * ROWS - MOST_FACES, abs=30)
    assert run.last("faces_truncated_total") == run.last("faces_truncated_total", stream="crowd")


def test_of_a_camera_that_sees_nobody_the_heartbeat_goes_on(run: Run) -> None:
    assert run.last("frames_analyzed_total", stream="blank") > 2 * FPS
    assert run.last("events_total", stream="blank") == 0
    assert run.entries["blank"] == []
    assert run.status["blank"] == [("up", None)]
    assert len(run.beats) >= 3
    assert run.beats[-1].body["streams"]["blank"] == "running"
    assert run.beats[-1].body["streams"]["empty"] == "ended"
    assert all((after.time - before.time).total_seconds() < 20 * HEARTBEAT_SECONDS
               for before, after in pairwise(run.beats))


def test_the_neighbour_of_odd_streams_loses_nothing(run: Run) -> None:
    assert run.status["near"] == [("up", None)]
    assert run.last("frames_dropped_total", stream="near") == 0
    assert run.last("events_dropped_total", stream="near") == 0
    assert_whole(run.entries["near"])
    assert {len(entry.body["faces"]) for entry in run.entries["near"]} == {1}

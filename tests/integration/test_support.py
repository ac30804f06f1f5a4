"""The servers and videos that other tests trust: they do what their users take for granted."""

import time
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
import redis
from av.video.frame import VideoFrame
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from tests.conftest import ServeRtsp
from tests.support.pictures import face_frames, numbered_frames, read_number
from tests.support.prometheus_server import PrometheusServer, check_metrics
from tests.support.redis_server import Persistence, RedisServer
from tests.support.rtsp import TEST_PATTERN, Mount
from tests.support.videos import write_repeated, write_video
from tests.support.waiting import free_port


def watch(url: str, count: int, transport: str = "tcp", patience_s: float = 5) -> list[VideoFrame]:
    """Reads at most `count` frames of an RTSP stream."""
    options = {"rtsp_transport": transport, "analyzeduration": "500000"}
    with av.open(url, options=options, timeout=patience_s) as container:
        return list(islice(container.decode(video=0), count))


def numbers(frames: list[VideoFrame]) -> list[int | None]:
    return [read_number(np.asarray(frame.to_ndarray(format="gray"), np.uint8)) for frame in frames]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two seconds, 15 frames each, numbered."""
    return write_video(tmp_path / "clip.mp4", numbered_frames(30))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_an_rtsp_mount_plays_its_file_again_and_again_at_its_pace(
    transport: str, clip: Path, serve_rtsp: ServeRtsp
) -> None:
    server = serve_rtsp({"/lobby": clip})

    begin = time.monotonic()
    frames = watch(server.url("/lobby"), 45, transport)
    duration = time.monotonic() - begin

    first = numbers(frames)[0]
    assert first is not None
    assert numbers(frames) == [(first + n) % 30 for n in range(45)]
    times = [frame.time for frame in frames if frame.pts is not None]
    assert all(0.06 < after - before < 0.074 for before, after in pairwise(times))
    assert duration > 45 / 15 - 0.7


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("mjpeg", "yuvj420p")])
def test_rtsp_mounts_of_every_codec_play_and_end(
    codec: str, pix_fmt: str, tmp_path: Path, serve_rtsp: ServeRtsp
) -> None:
    video = write_video(tmp_path / "video.mkv", numbered_frames(20), codec=codec, pix_fmt=pix_fmt)
    server = serve_rtsp({"/once": Mount(video, loop=False)})

    frames = watch(server.url("/once"), 1000)

    assert numbers(frames)[-15:] == list(range(5, 20))


def test_rtsp_asks_for_the_password_and_knows_its_paths(clip: Path, serve_rtsp: ServeRtsp) -> None:
    server = serve_rtsp({"/lobby": clip}, user="ada", password="p@ss/w:hunter2")

    assert watch(server.url("/lobby"), 1)
    with pytest.raises(av.error.HTTPUnauthorizedError):
        watch(server.url("/lobby", password="guess"), 1)
    with pytest.raises(av.error.HTTPNotFoundError):
        watch(server.url("/cellar"), 1)


def test_a_killed_rtsp_server_comes_back_on_its_port_with_another_picture(
    tmp_path: Path, clip: Path, serve_rtsp: ServeRtsp
) -> None:
    server = serve_rtsp({"/lobby": clip})
    assert watch(server.url("/lobby"), 1)[0].width == 320

    server.kill()
    with pytest.raises(av.error.ConnectionRefusedError):
        watch(server.url("/lobby"), 1)
    server.set_mounts({"/lobby": write_video(tmp_path / "small.mp4", numbered_frames(30, 160, 120))})
    server.start()

    assert watch(server.url("/lobby"), 1)[0].width == 160


def test_a_frozen_rtsp_server_says_nothing_until_it_is_thawed(serve_rtsp: ServeRtsp) -> None:
    server = serve_rtsp({"/pattern": TEST_PATTERN})

    server.freeze()
    with pytest.raises(av.error.FFmpegError):
        watch(server.url("/pattern"), 1, patience_s=1)
    server.thaw()

    assert watch(server.url("/pattern"), 1)


@pytest.mark.parametrize(("persistence", "kept"), [("none", False), ("aof", True)])
def test_a_killed_redis_keeps_what_its_persistence_promises(
    persistence: Persistence, kept: bool, tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    with RedisServer(tmp_path / "redis", persistence=persistence, password="p@ss-hunter2") as server:
        server.client.set("key", "value")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            server.client.get("key")
        server.start()

        assert (server.client.get("key") == b"value") is kept


def test_a_prometheus_scrapes_its_target(start_prometheus: Callable[[str], PrometheusServer]) -> None:
    registry = CollectorRegistry()
    Gauge("answer", "Of everything.", registry=registry).set(42)
    port = free_port()
    page, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        server = start_prometheus(f"127.0.0.1:{port}")
        server.wait_for_scrape()

        assert [value for _, value in server.query("answer * 2")] == [84]
        assert server.query("question") == []
    finally:
        page.shutdown()
        page.server_close()
        thread.join()


def test_promtool_accepts_a_metrics_page_and_refuses_bad_style(require_server: Callable[[str], None]) -> None:
    require_server("prometheus")
    check_metrics("# HELP frames_total Frames.\n# TYPE frames_total counter\nframes_total 1\n")
    with pytest.raises(AssertionError, match="counter metrics should have"):
        check_metrics("# HELP frames Frames.\n# TYPE frames counter\nframes 1\n")


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "size"), [
    ("a.mp4", "libx264", "yuv420p", (320, 240)),
    ("a.mp4", "libx264", "yuv444p", (321, 241)),
    ("a.mp4", "libx265", "yuv420p10le", (320, 240)),
    ("a.mkv", "mjpeg", "yuvj420p", (321, 241)),
    ("a.mkv", "ffv1", "gray", (161, 121)),
])
def test_numbers_survive_every_codec(
    name: str, codec: str, pix_fmt: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = write_video(tmp_path / name, numbered_frames(5, *size, first=40_000), codec=codec, pix_fmt=pix_fmt)

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))

    assert frames[0].format.name == pix_fmt
    assert (frames[0].width, frames[0].height) == size
    assert numbers(frames) == [40_000, 40_001, 40_002, 40_003, 40_004]


def test_videos_are_rotated_stretched_and_repeated_as_asked(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(15), rotation=90, sar=Fraction(4, 3))
    long = write_repeated(path, tmp_path / "long.mp4", seconds=3)

    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert next(container.decode(video=0)).rotation == 90
    with av.open(str(long)) as container:
        assert numbers(list(container.decode(video=0))) == [*range(15)] * 3


def test_a_picture_without_a_bar_code_has_no_number() -> None:
    assert read_number(next(face_frames(1))) is None

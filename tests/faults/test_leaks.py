"""Nothing grows while cameras reconnect; a thousand times of it is `python -m tests.chaos.reconnects`."""

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.chaos.reconnects import cut_again_and_again
from tests.support.daemon import Daemon, endless
from tests.support.pictures import face_frames
from tests.support.videos import write_video
from tests.support.waiting import free_port

CAMERAS = 10
MEMORY_GROWTH = 8 << 20      # over so few, caches fill yet
ARENA = 64 << 20             # one of glibc's but the first lies at a multiple of it, on 64 bits


@pytest.mark.slow
def test_reconnecting_costs_neither_descriptors_nor_threads_nor_memory(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    require_server("rtsp-server")

    first, last = cut_again_and_again(tmp_path, times=6 * CAMERAS, warm=2 * CAMERAS, cameras=CAMERAS)

    assert last.reconnects >= first.reconnects + 4 * CAMERAS
    assert last.descriptors == first.descriptors
    assert last.threads == first.threads
    assert last.memory < first.memory + MEMORY_GROWTH


@pytest.mark.skipif(sys.platform != "linux" or sys.maxsize < 2**32, reason="glibc on 64 bits missing")
def test_threads_share_the_memory_that_was_freed(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", face_frames(5, 320, 240), fps=5)
    streams = {f"camera-{number}": endless(clip, 5) for number in range(6)}

    with Daemon(tmp_path, streams, f"redis://127.0.0.1:{free_port()}") as daemon:
        daemon.wait_for(lambda scrape: scrape("frames_analyzed_total") > 50, "all run")
        maps = Path(f"/proc/{daemon.child.pid}/maps").read_text().splitlines()

    spans = [tuple(int(number, 16) for number in line.split()[0].split("-")) for line in maps]
    arenas = [begin for (begin, middle), (rest, end) in pairwise(spans)      # what is used of one, and what is reserved
              if begin % ARENA == 0 and middle == rest and end == begin + ARENA]
    assert len(arenas) == 1      # beside the heap


@pytest.mark.skipif(sys.platform != "linux", reason="Linux missing")
def test_what_large_pictures_took_is_given_back(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", face_frames(30, 320, 240), fps=30)
    tall = write_video(tmp_path / "tall.mp4", face_frames(8, 640, 2560), fps=30)      # 90 MB in the detector
    streams = {f"camera-{number}": endless(clip, 30) for number in range(4)} | {"tall": {"source": str(tall)}}

    with Daemon(tmp_path, streams, f"redis://127.0.0.1:{free_port()}") as daemon:
        daemon.wait_for(lambda scrape: scrape("stream_up", stream="tall") == 0
                        and scrape("frames_analyzed_total", stream="tall") == 8, "the tall pictures are through")
        daemon.wait_for(lambda scrape: _held(daemon) < 0.7 * _peak(daemon), "memory is given back", deadline_s=60)


def _peak(daemon: Daemon) -> int:
    """Returns the most kilobytes that were resident."""
    return _status(daemon, "VmHWM")


def _held(daemon: Daemon) -> int:
    """Returns the kilobytes that are resident."""
    return _status(daemon, "VmRSS")


def _status(daemon: Daemon, name: str) -> int:
    lines = Path(f"/proc/{daemon.child.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

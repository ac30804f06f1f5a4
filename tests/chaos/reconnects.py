"""`python -m tests.chaos.reconnects --times 1000`: cameras whose line is cut again and again, and what that costs.

Ends with 1 where memory at the end is more than 2 % above that after the first hundred, or descriptors or threads are
not the same. A short run is a test (tests/faults/test_leaks.py).
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.daemon import Daemon, Scrape
from tests.support.pictures import face_frames
from tests.support.proxy import BadLine
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.videos import write_video

CAMERAS = 4
FPS = 5
WARM = 100              # reconnects before the first figures count
MEMORY_GROWTH = 0.02    # the most
READINGS = 5            # of which the least counts: a page that is being served has a thread and a socket of its own
HASTE = "import emotiond.stream\nemotiond.stream.BACKOFF_FIRST = emotiond.stream.BACKOFF_MOST = 0.05"


@dataclass(frozen=True)
class Cost:
    """What a process holds after some reconnects: bytes that are resident, descriptors, threads."""

    reconnects: int
    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (f"{self.reconnects:6d} reconnects: {self.memory / 1e6:7.1f} MB, {self.descriptors} descriptors, "
                f"{self.threads} threads")


def measure(process: psutil.Process, reconnects: int) -> Cost:
    """Reads what a process holds when nothing is under way."""
    readings: list[tuple[int, int, int]] = []
    for _ in range(READINGS):
        time.sleep(0.1)
        readings.append((process.memory_info().rss, process.num_fds(), process.num_threads()))
    memory, descriptors, threads = zip(*readings, strict=True)
    return Cost(reconnects, min(memory), min(descriptors), min(threads))


def cut_again_and_again(folder: Path, times: int, warm: int, cameras: int = CAMERAS) -> tuple[Cost, Cost]:
    """Cuts all cameras off until they have reconnected so often; returns the cost after `warm` and at the end.

    Prints it each time that they have reconnected `warm` times more.
    """
    clip = write_video(folder / "clip.mp4", face_frames(2 * FPS, 160, 120), fps=FPS)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder / "redis"))
        server = stack.enter_context(RtspServer(folder / "rtsp", {"/clip": clip}))
        line = stack.enter_context(BadLine(server.port))
        daemon = stack.enter_context(Daemon(
            folder, {f"camera{number}": {"source": f"rtsp://127.0.0.1:{line.port}/clip"} for number in range(cameras)},
            redis.url, before=HASTE))
        process = psutil.Process(daemon.child.pid)

        def all_run(scrape: Scrape) -> bool:
            return scrape("stream_up") == cameras

        costs: list[Cost] = []
        while True:
            done = int(daemon.wait_for(all_run, "all cameras run", deadline_s=60)("stream_reconnects_total"))
            if done >= min(warm * (len(costs) + 1), times):
                costs.append(measure(process, done))
                print(costs[-1], flush=True)
            if done >= times:
                assert daemon.end() == 0
                return costs[0], costs[-1]
            line.cut()
            daemon.wait_for(lambda scrape, done=done: scrape("stream_reconnects_total") >= done + cameras,
                            "all cameras reconnect", deadline_s=60)


def main() -> int:
    """Runs it and says whether anything grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.reconnects", description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emotiond-reconnects-") as folder:
        first, last = cut_again_and_again(Path(folder), arguments.times, min(WARM, arguments.times))
    growth = last.memory / first.memory - 1
    print(f"memory grew by {growth:.1%}")
    return int(growth > MEMORY_GROWTH or (last.descriptors, last.threads) != (first.descriptors, first.threads))


if __name__ == "__main__":
    sys.exit(main())

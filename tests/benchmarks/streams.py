"""What live streams cost: `python -m tests.benchmarks.streams --streams 1 2 4 8 CLIP`.

Each number of cameras is played by files at their own pace, for ever, into one daemon and a real Redis. Printed are,
after a while to get warm: the daemon's memory, one core's time for an analysed frame, the 95th percentile of the
latency from a frame's arrival to Redis, and the share of frames that were dropped for being too many.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil

from tests.chaos.figures import quantile, table
from tests.conftest import DATA
from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer

WARM_SECONDS = 10.0
TOO_MANY = ("newer_frame", "stale")

Row = tuple[int, float, float, float, float]


def measure(folder: Path, clip: Path, count: int, seconds: float, sections: dict[str, object]) -> Row:
    """Returns streams, megabytes, milliseconds of a core for a frame, milliseconds of latency, per cent dropped."""
    camera = {"source": str(clip), "live": True, **({"max_fps": sections["max_fps"]} if sections["max_fps"] else {})}
    streams = {f"camera-{number}": camera for number in range(count)}
    with RedisServer(folder / "redis") as redis, Daemon(
            folder / "daemon", streams, redis.url, publish_empty=True, detector={"interval": sections["interval"]}
    ) as daemon:
        process = psutil.Process(daemon.child.pid)
        time.sleep(WARM_SECONDS)
        before, cpu = daemon.scrape(), process.cpu_times()
        time.sleep(seconds)
        after, spent = daemon.scrape(), process.cpu_times()
        frames = after("frames_analyzed_total") - before("frames_analyzed_total")
        dropped = sum(scrape("frames_dropped_total", reason=reason) * sign for reason in TOO_MANY
                      for scrape, sign in ((after, 1), (before, -1)))
        return (count, process.memory_info().rss / 1e6,
                1000 * (spent.user + spent.system - cpu.user - cpu.system) / max(frames, 1),
                1000 * quantile(.95, "event_latency_seconds", before, after), 100 * dropped / max(frames + dropped, 1))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path, default=DATA / "clips" / "one_woman_20s_360p.mp4")
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--max-fps", type=float, help="analyse at most so many frames a second of each")
    parser.add_argument("--interval", type=int, default=1, help="detector.interval (%(default)s)")
    arguments = parser.parse_args()
    sections: dict[str, object] = {"max_fps": arguments.max_fps, "interval": arguments.interval}
    rows: list[Row] = []
    for count in arguments.streams:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), arguments.clip, count, arguments.seconds, sections))
    print(f"{arguments.clip.stem}, {json.dumps(sections)}")
    print(table(("streams", "MB", "ms a frame", "p95 ms", "% dropped"), rows))


if __name__ == "__main__":
    main()

"""What live streams cost: `python -m tests.benchmarks.streams --streams 1 2 4 8 CLIP`.

Each number of cameras is played by files at their own pace, for ever, into one daemon and a real Redis. Printed are,
after a while to get warm: the daemon's memory, one core's time for an analysed frame, the 95th percentile of the
latency from a frame's arrival to Redis, and the share of frames that were dropped for being too many.
"""

import argparse
import contextlib
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.benchmarks.cameras import streams_of, write_cameras
from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES, Mode
from tests.benchmarks.setting import Setting, take_turns
from tests.chaos.figures import quantile, table
from tests.conftest import DATA, PARTS
from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer

TITLE = "From 1 stream to 64"
ABOUT = """\
Live cameras of 640x360 with one face that send one frame a second, so that 64 of them fit this machine, in full
mode. The daemon runs as it always does, with HTTP, metrics and a real Redis; its idle work, which one stream bears
alone, is the line's height at 0. *Against single ones* is the time of a frame over that of a frame with one stream."""
TABLE = "Time and memory against the number of streams"
LINES = "The lines through them"
TIME = "processor time a frame"
COUNTS = (1, 2, 4, 8, 16, 32, 64)
FRAMES_A_SECOND = 1.0
WARM_SECONDS = 10.0
TOO_MANY = ("newer_frame", "stale")


@dataclass(frozen=True)
class Live:
    """What a number of live streams took.

    Attributes:
        streams: how many.
        megabytes: resident memory of the daemon, or of all.
        cores: how many they kept busy.
        frames: analysed in the time that was measured.
        ms_a_frame: the processor's, for each of them.
        p95_ms: from a frame's arrival to Redis' reply; of several daemons the latest one's.
        dropped: % of the frames that were dropped for being too many.
    """

    streams: int
    megabytes: float
    cores: float
    frames: float
    ms_a_frame: float
    p95_ms: float
    dropped: float


def measure_live(
    folder: Path, streams: dict[str, dict[str, object]], seconds: float, mode: Mode, warm: float = WARM_SECONDS,
    shards: int = 1,
) -> Live:
    """Runs a daemon with these streams for a while, or several with their shares of them; returns what they took."""
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(folder / "redis"))
        daemons = [stack.enter_context(Daemon(
            folder / f"daemon-{time.monotonic_ns()}", streams, redis.url, publish_empty=True,
            shard={"count": shards, "index": index}, detector=mode.get("detector", {}),
            classifier=mode.get("classifier", {}), compute=mode.get("compute", {}))) for index in range(shards)]
        processes = [psutil.Process(daemon.child.pid) for daemon in daemons]
        time.sleep(warm)
        before, used, begin = [daemon.scrape() for daemon in daemons], -seconds_of(processes), time.monotonic()
        time.sleep(seconds)
        after = [daemon.scrape() for daemon in daemons]
        used, seconds = used + seconds_of(processes), time.monotonic() - begin
        periods = list(zip(before, after, strict=True))
        frames = sum(end("frames_analyzed_total") - start("frames_analyzed_total") for start, end in periods)
        dropped = sum(end("frames_dropped_total", reason=reason) - start("frames_dropped_total", reason=reason)
                      for reason in TOO_MANY for start, end in periods)
        late = max(quantile(.95, "event_latency_seconds", start, end) for start, end in periods)
        return Live(len(streams), sum(process.memory_info().rss for process in processes) / 1e6, used / seconds,
                    frames, 1000 * used / max(frames, 1), 1000 * late, 100 * dropped / max(frames + dropped, 1))


def seconds_of(processes: list[psutil.Process]) -> float:
    """Returns the processor time that processes have taken so far."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures one daemon with more and more cameras."""
    setting.note_clips(sheet)
    if not PARTS["redis-server"].found():
        sheet.lacks(f"Live streams: {PARTS['redis-server'].mend}.")
        return
    files = write_cameras(next(iter(setting.clips.values())), setting.folder / "slow", FRAMES_A_SECOND)
    counts = (1, 4, 16) if setting.quick else COUNTS
    for row in take_turns(1 if setting.quick else 2, map(str, counts)):
        live = measure_live(setting.folder, dict(streams_of(files, int(row))), 6 if setting.quick else 20, {},
                            3 if setting.quick else WARM_SECONDS)
        sheet.add(TABLE, row, TIME, live.ms_a_frame, "ms")
        sheet.add(TABLE, row, "of one core", 100 * live.cores, "%")
        sheet.add(TABLE, row, "memory", live.megabytes, "MB")
        sheet.add(TABLE, row, "95th percentile to Redis", live.p95_ms, "ms")
        sheet.add(TABLE, row, "against single ones", live.ms_a_frame / sheet.value(TABLE, "1", TIME))
    for kind in ("of one core", "memory"):
        slope, height = np.polyfit(counts, [sheet.value(TABLE, str(count), kind) for count in counts], 1)
        unit = "%" if kind == "of one core" else "MB"
        sheet.add(LINES, kind, "a stream", float(slope), unit)
        sheet.add(LINES, kind, "at 0", float(height), unit)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path, default=DATA / "clips" / "one_woman_20s_360p.mp4")
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--max-fps", type=float, help="analyse at most so many frames a second of each")
    parser.add_argument("--mode", choices=MODES, default="full", help="as in tests/benchmarks/modes.py (%(default)s)")
    parser.add_argument("--shards", type=int, default=1, help="as many daemons share the streams (%(default)s)")
    arguments = parser.parse_args()
    limit: dict[str, object] = {"max_fps": arguments.max_fps} if arguments.max_fps else {}
    rows: list[tuple[int, float, float, float, float]] = []
    for count in arguments.streams:
        streams = {name: stream | limit for name, stream in streams_of([arguments.clip], count)}
        with tempfile.TemporaryDirectory() as folder:
            live = measure_live(Path(folder), streams, arguments.seconds, MODES[arguments.mode],
                                shards=arguments.shards)
            rows.append((count, live.megabytes, live.ms_a_frame, live.p95_ms, live.dropped))
    print(f"{arguments.clip.stem}, {json.dumps(limit | {'mode': arguments.mode})}")
    print(table(("streams", "MB", "ms a frame", "p95 ms", "% dropped"), rows))


if __name__ == "__main__":
    main()

"""`python -m tests.chaos.outage --minutes 10 --rate 200`: Redis is away for long while events come at a rate.

Ends with 1 where analysis got slower meanwhile, the spool was not empty again within a minute, or an event is missing,
stands twice or is out of order. A short run is a test (tests/faults/test_outage.py).
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

from tests.chaos.figures import quantile, table
from tests.support.daemon import Daemon, Scrape, endless
from tests.support.events import Entry, read_entries
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video

STREAMS = tuple(f"camera{number}" for number in range(8))
BASE_SECONDS = 30.0         # of figures before and after, at most
DRAIN_SECONDS = 60.0        # until the spool is empty again, at most
SLOWER = 1.25               # the 95th percentile of analysis against that before, at most


@dataclass(frozen=True)
class Phase:
    """Some time of a run, between two readings."""

    name: str
    seconds: float
    before: Scrape
    after: Scrape
    memory: int      # bytes at its end

    @property
    def rate(self) -> float:
        """Events a second."""
        return (self.after("events_total") - self.before("events_total")) / self.seconds

    @property
    def analysis(self) -> float:
        """95th percentile of finding the faces of a frame, in seconds."""
        return quantile(0.95, "stage_duration_seconds", self.before, self.after, stage="detect")

    def row(self) -> list[object]:
        """Its line in the table."""
        return [self.name, self.seconds, self.rate, 1000 * self.analysis, int(self.after("spool_events")),
                self.memory / 1e6]


@dataclass(frozen=True)
class Outcome:
    """What came of an outage."""

    base: Phase
    away: Phase
    drain_seconds: float
    dropped: float
    analyzed: int
    stored: int
    wrong: list[str]      # streams of which something is missing, twice or out of order


def run(folder: Path, seconds: float, rate: float) -> Outcome:
    """Runs the daemon with Redis, without it for so many seconds, and with it again; prints a table."""
    fps = max(round(rate / len(STREAMS)), 1)
    base_seconds = min(seconds / 2, BASE_SECONDS)
    clip = write_video(folder / "clip.mp4", face_frames(fps, 128, 96), fps=fps)
    with (
        RedisServer(folder / "redis", persistence="aof") as redis,
        Daemon(folder, dict.fromkeys(STREAMS, endless(clip, fps)), {"url": redis.url, "maxlen": None}) as daemon,
    ):
        process = psutil.Process(daemon.child.pid)

        def phase(name: str, seconds: float) -> Phase:
            before, begin = daemon.scrape(), time.monotonic()
            time.sleep(seconds)
            return Phase(name, time.monotonic() - begin, before, daemon.scrape(), process.memory_info().rss)

        daemon.wait_for(lambda scrape: scrape("events_published_total") > rate, "events", deadline_s=60)
        phases = [phase("with Redis", base_seconds)]
        redis.kill()
        phases.append(phase("without", seconds))
        redis.start()
        began = time.monotonic()
        daemon.wait_for(lambda scrape: scrape("spool_events") < max(rate, 50), "the spool drains", deadline_s=600)
        drain_seconds = time.monotonic() - began
        phases.append(phase("with it again", base_seconds))
        last = daemon.scrape()
        assert daemon.end() == 0
        print(table(["", "seconds", "events/s", "p95 detect ms", "spool", "MB"], [each.row() for each in phases]))
        print(f"empty again after {drain_seconds:.1f} s", flush=True)
        entries = {stream: read_entries(redis.client, stream) for stream in STREAMS}
    return Outcome(
        phases[0], phases[1], drain_seconds, last("frames_dropped_total") + last("events_dropped_total"),
        daemon.log_entries("stopped")[0]["frames_analyzed"], sum(map(len, entries.values())),
        [stream for stream, found in entries.items() if not in_order(found)])


def in_order(entries: list[Entry]) -> bool:
    """Tells whether there is one event of each frame, in order."""
    return ([entry.frame for entry in entries] == list(range(len(entries)))
            and all(before.id < after.id for before, after in pairwise(entries)))


def main() -> int:
    """Runs it and says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=200, help="events a second over all streams")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emotiond-outage-") as folder:
        outcome = run(Path(folder), 60 * arguments.minutes, arguments.rate)
    faults = {
        f"analysis took {1000 * outcome.away.analysis:.1f} ms instead of {1000 * outcome.base.analysis:.1f} ms":
            outcome.away.analysis > SLOWER * outcome.base.analysis,
        f"the spool took {outcome.drain_seconds:.0f} s to drain": outcome.drain_seconds > DRAIN_SECONDS,
        f"{outcome.dropped:.0f} were dropped": outcome.dropped > 0,
        f"{outcome.stored} of {outcome.analyzed} events are in Redis": outcome.stored != outcome.analyzed,
        f"not whole or not in order: {', '.join(outcome.wrong)}": bool(outcome.wrong),
    }
    for fault in (text for text, is_so in faults.items() if is_so):
        print(fault)
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())

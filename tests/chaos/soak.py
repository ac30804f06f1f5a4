"""`python -m tests.chaos.soak --hours 24`: four cameras and a Redis, a fault each minute, and what the daemon costs.

Prints a line each minute. Ends with 1 where memory at the end is more than 3 % above that after the first ten minutes,
descriptors, threads or latency are not what they were, or an event is missing, stands twice or is out of order.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import median

import psutil

from tests.chaos.figures import quantile
from tests.chaos.reconnects import Cost, measure
from tests.support.daemon import Daemon, Scrape
from tests.support.events import read_entries
from tests.support.pictures import face_frames
from tests.support.proxy import BadLine, LossyProxy
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.videos import write_video

CAMERAS = ("north-1", "north-2", "south-1", "south-2")
FPS = 10
PERIOD_SECONDS = 60.0
FAULT_SECONDS = 15.0        # longer than the patience with a camera, and with Redis
QUIET_SECONDS = 20.0        # at a period's end, of which the latency counts
WARM_SECONDS = 600.0        # or a fifth of a shorter run
MEMORY_GROWTH = 0.03
SLOWER = 1.25               # the 95th percentile of latency against that of the first periods, at most

Action = Callable[[], object]


@dataclass(frozen=True)
class Period:
    """What a period with its fault left behind."""

    fault: str
    cost: Cost
    latency: float      # 95th percentile in seconds, without the time of the fault
    scrape: Scrape

    def __str__(self) -> str:
        scrape, cost = self.scrape, self.cost
        return (f"{self.fault:22} {cost.memory / 1e6:7.1f} MB {cost.descriptors:4d} fds {cost.threads:3d} threads "
                f"{1000 * self.latency:7.1f} ms  {scrape('frames_analyzed_total'):9.0f} frames "
                f"{scrape('frames_dropped_total'):6.0f} dropped {scrape('stream_reconnects_total'):5.0f} reconnects "
                f"{scrape('events_published_total'):9.0f} events")


class Site:
    """Cameras behind two servers and lines, a Redis behind a proxy, the daemon between them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Starts everything."""
        clip = write_video(folder / "clip.mp4", face_frames(3 * FPS, 320, 240), fps=FPS)
        self.bytes_per_second = clip.stat().st_size / 3
        self.redis = stack.enter_context(RedisServer(folder / "redis", persistence="aof"))
        self.proxy = stack.enter_context(LossyProxy(self.redis.port))
        self.servers = [stack.enter_context(RtspServer(folder / side, {"/1": clip, "/2": clip}))
                        for side in ("north", "south")]
        self.lines = [stack.enter_context(BadLine(server.port)) for server in self.servers]
        self.daemon = stack.enter_context(Daemon(folder, {
            name: {"source": f"rtsp://127.0.0.1:{line.port}/{number}"}
            for name, (line, number) in zip(CAMERAS, ((line, n) for line in self.lines for n in (1, 2)), strict=True)
        }, f"redis://127.0.0.1:{self.proxy.port}/0", publish_empty=True))      # an event for each frame
        self.process = psutil.Process(self.daemon.child.pid)

    def faults(self) -> Iterator[tuple[str, Action, Action]]:
        """Yields for ever what goes wrong next: its name, how it begins, how it is mended; north and south in turn."""
        sides = [self._faults_of(server, line) for server, line in zip(self.servers, self.lines, strict=True)]
        for number in count():      # an odd number of kinds: each comes to the other side the next time
            faults = sides[number % len(sides)]
            yield faults[number % len(faults)]

    def _faults_of(self, server: RtspServer, line: BadLine) -> tuple[tuple[str, Action, Action], ...]:
        redis = self.redis
        return (
            ("camera server killed", server.kill, server.start),
            ("camera server frozen", server.freeze, server.thaw),
            ("line held", lambda: setattr(line, "held", True),
             lambda: setattr(line, "held", False)),
            ("line cut", line.cut, _nothing),
            ("line slow", lambda: setattr(line, "bytes_per_second", self.bytes_per_second / 4),
             lambda: setattr(line, "bytes_per_second", None)),
            ("pictures damaged", lambda: setattr(line, "damage", 0.2),
             lambda: setattr(line, "damage", 0.0)),
            ("packets lost", lambda: setattr(line, "loss", 0.2),
             lambda: setattr(line, "loss", 0.0)),
            ("Redis killed", redis.kill, redis.start), ("Redis frozen", redis.freeze, redis.thaw),
            ("replies lost", lambda: self.proxy.lose(3, b"EVALSHA", "cut"), _nothing),
            ("replies held back", lambda: self.proxy.lose(1, b"EVALSHA", "silence"), _nothing),
            ("Redis full", lambda: redis.client.config_set("maxmemory", 1),
             lambda: redis.client.config_set("maxmemory", 0)),
            ("scripts flushed", redis.client.script_flush, _nothing),
        )

    def pass_period(self, number: int, fault: tuple[str, Action, Action]) -> Period:
        """Lets a fault happen and be mended, waits until all goes on as before, and measures the rest of the period."""
        end = time.monotonic() + PERIOD_SECONDS
        name, begin, mend = fault
        begin()
        time.sleep(FAULT_SECONDS)
        mend()
        self.daemon.wait_for(
            lambda scrape: scrape("stream_up") == len(CAMERAS) and scrape("redis_up") == 1
            and scrape("spool_events") < 5 * FPS, f"{name}: all goes on", deadline_s=120)
        time.sleep(max(end - QUIET_SECONDS - time.monotonic(), 0))
        quiet = self.daemon.scrape()
        time.sleep(max(end - time.monotonic(), QUIET_SECONDS / 2))
        scrape = self.daemon.scrape()
        latency = quantile(0.95, "event_latency_seconds", quiet, scrape)
        return Period(name, measure(self.process, number), latency, scrape)


def _nothing() -> None:
    """Mends what mends itself."""


def run(folder: Path, hours: float) -> list[str]:
    """Runs for so long, prints a line each minute, and returns what is wrong."""
    seconds = 3600 * hours
    with ExitStack() as stack:
        site = Site(folder, stack)
        site.daemon.wait_for(lambda scrape: scrape("stream_up") == len(CAMERAS), "all cameras run", deadline_s=60)
        began, periods = time.monotonic(), list[Period]()
        warm: int | None = None      # how many periods there were when it was warm
        faults = site.faults()
        while time.monotonic() - began < seconds:
            periods.append(site.pass_period(len(periods) + 1, next(faults)))
            passed = time.monotonic() - began
            print(f"{passed / 60:6.1f} min  {periods[-1]}", flush=True)
            if warm is None and passed >= min(WARM_SECONDS, seconds / 5):
                warm = len(periods)
        assert warm
        faults_found = judge(periods, warm)
        code = site.daemon.end()
        last = site.daemon.log_entries("stopped")[0]
        for name in CAMERAS:
            frames = [(entry.frame, entry.id) for entry in read_entries(site.redis.client, name)]
            if not all(before[0] < after[0] and before[1] < after[1] for before, after in pairwise(frames)):
                faults_found.append(f"{name}: something is twice or out of order")
        added = sum(site.redis.client.xinfo_stream(f"emotions:{name}")["entries-added"] for name in CAMERAS)
    if code or added != last["frames_analyzed"]:
        faults_found.append(f"{added} of {last['frames_analyzed']} events are in Redis; the daemon ended with {code}")
    return faults_found


def judge(periods: list[Period], warm: int) -> list[str]:
    """Compares the last periods with the first that were warm."""
    first, last = periods[warm - 1].cost, periods[-1].cost
    some = max(len(periods) // 10, 1)
    early = median(period.latency for period in periods[warm - 1:warm - 1 + some])
    late = median(period.latency for period in periods[-some:])
    growth = last.memory / first.memory - 1
    print(f"memory {growth:+.1%}, descriptors {first.descriptors} -> {last.descriptors}, threads {first.threads} -> "
          f"{last.threads}, 95th percentile of latency {1000 * early:.1f} -> {1000 * late:.1f} ms")
    faults = {
        f"memory grew by {growth:.1%}": growth > MEMORY_GROWTH,
        "descriptors or threads grew": last.descriptors > first.descriptors or last.threads > first.threads,
        f"latency grew from {1000 * early:.0f} to {1000 * late:.0f} ms": late > SLOWER * early,
        "events were dropped": periods[-1].scrape("events_dropped_total") > 0,
    }
    return [text for text, is_so in faults.items() if is_so]


def main() -> int:
    """Runs it and says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=24)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emotiond-soak-") as folder:
        faults = run(Path(folder), arguments.hours)
    print("\n".join(faults) or "nothing is wrong")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

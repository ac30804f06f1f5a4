"""The whole daemon, with cameras, is killed again and again while Redis has faults too; then a judge reads Redis.

The judge believes no counter of the daemon. After each kill, before the next start, it reads the spool's file: what is
in there counted as produced. And it reads what has come to Redis so far. In the end each of these events must be in
Redis once, unchanged and in the spool's order, and nothing that never was in the spool.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import redis

from tests.chaos.servers import Servers
from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, parse_entry
from tests.support.pictures import face_frames
from tests.support.rtsp import RtspServer
from tests.support.spool_file import Spooled, read_spool
from tests.support.videos import write_video

FPS = 10
STREAMS = tuple(f"stream{number}" for number in range(4))     # two patterns at their pace, two cameras
PAUSE_SECONDS = (0.3, 2.5)       # of a run that goes on, until something happens
LEAD_SECONDS = (0.0, 1.5)        # from a fault of Redis to the kill
START_SECONDS = (0.0, 3.0)       # from a start to the kill, where it is killed while it starts
EARLY = 0.2                      # share of those
QUIET = 0.3                      # share of kills while Redis is well
KEEP_SECONDS = 900               # so long acknowledged events stay in the spool, for the judge and for failovers

KILL, EARLY_KILL = "daemon killed", "daemon killed while it started"


class Victim(Daemon):
    """The daemon; in a hurry, its start returns at once."""

    hurried = False

    def ready(self) -> bool:
        """Tells whether it is ready, or need not be."""
        return self.hurried or super().ready()


@dataclass
class Judge:
    """What was seen at each kill.

    Attributes:
        spooled: seq -> event that was in the spool's file.
        arrived: stream -> ids of events that were in Redis.
        waited: how many were in the file alone when the daemon was killed.
    """

    spooled: dict[int, Spooled] = field(default_factory=dict[int, Spooled])
    arrived: dict[str, set[str]] = field(default_factory=lambda: {stream: set() for stream in STREAMS})
    waited: int = 0
    _read: dict[str, str] = field(default_factory=dict[str, str])

    def look_at_spool(self, events: Iterable[Spooled]) -> None:
        """Notes what is in the spool."""
        for event in events:
            self.waited += event.waits
            self.spooled[event.seq] = event

    def look_at_redis(self, client: Any) -> None:
        """Notes what has come to Redis since the last look, where it answers."""
        with suppress(redis.RedisError, OSError):
            for stream in STREAMS:
                for entry_id, fields in client.xrange(f"emotions:{stream}", self._read.get(stream, "-"), "+"):
                    self.arrived[stream].add(fields[b"id"].decode())
                    self._read[stream] = f"({entry_id.decode()}"

    def compare(self, stored: dict[str, list[Entry]]) -> dict[str, int]:
        """Returns how many events are missing, gone, twice, changed, unknown or out of order, of all that are there."""
        verdict = Counter({"stored": 0, "missing": 0, "gone": 0, "twice": 0, "changed": 0, "unknown": 0,
                           "out of order": 0})
        for stream, entries in stored.items():
            produced = {event.fields["id"]: event for event in self.spooled.values() if event.stream == stream}
            there = {entry.fields["id"]: entry for entry in entries}
            known = [produced[entry.fields["id"]] for entry in entries if entry.fields["id"] in produced]
            verdict["stored"] += len(entries)
            verdict["missing"] += len(produced.keys() - there.keys())
            verdict["gone"] += len(self.arrived.get(stream, set()) - there.keys())
            verdict["twice"] += len(entries) - len(there)
            verdict["changed"] += sum(there[name].fields != produced[name].fields for name in produced.keys() & there)
            verdict["unknown"] += len(there.keys() - produced.keys())
            verdict["out of order"] += sum(after.seq < before.seq for before, after in pairwise(known))
            verdict["out of order"] += sum(after.id <= before.id for before, after in pairwise(entries))
        return dict(verdict)


def run(kind: str, seed: int, kills: int, folder: Path) -> bool:
    """Kills the daemon so often, with one kind of Redis, and prints what came of it.

    Returns:
        Whether nothing is wrong.
    """
    clip = write_video(folder / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)
    with ExitStack() as stack:
        servers = Servers(kind, folder, seed, stack)
        cameras = stack.enter_context(RtspServer(folder / "cameras", {f"/{stream}": clip for stream in STREAMS[2:]}))
        sources = {stream: {"source": endless(clip, FPS)["source"]} for stream in STREAMS[:2]}
        sources |= {stream: {"source": cameras.url(f"/{stream}")} for stream in STREAMS[2:]}
        victim = stack.enter_context(Victim(
            folder, sources, {"url": servers.url, "maxlen": None, "max_age": None},
            spool={"path": str(folder / "spool.db"), "keep_acknowledged": f"{KEEP_SECONDS}s"}))
        judge, done = Judge(), Counter[str]()
        chance = random.Random(f"{seed} {kind} daemon")     # apart from that of the faults, which run beside

        def kill(how: str, look: bool) -> None:
            """Kills the daemon and looks at what it left; at Redis too where that has no fault."""
            victim.kill()
            done[how] += 1
            judge.look_at_spool(read_spool(folder / "spool.db"))
            if look:
                judge.look_at_redis(servers.client())

        with ThreadPoolExecutor(1) as beside:
            while done[KILL] + done[EARLY_KILL] < kills:
                victim.wait_for(lambda scrape: scrape("events_total") >= len(STREAMS), "events of this run", 90)
                time.sleep(chance.uniform(*PAUSE_SECONDS))
                fault = None
                if chance.random() >= QUIET:
                    name = chance.choice(list(servers.faults))
                    fault = beside.submit(servers.faults[name])
                    done[name] += 1
                    time.sleep(chance.uniform(*LEAD_SECONDS))
                kill(KILL, look=fault is None)
                if chance.random() < EARLY and done[KILL] + done[EARLY_KILL] < kills:
                    victim.hurried = True
                    victim.start()
                    time.sleep(chance.uniform(*START_SECONDS))
                    kill(EARLY_KILL, look=fault is None)
                victim.hurried = False
                victim.start()
                if fault:
                    fault.result()
        code = victim.end(deadline_s=120)
        judge.look_at_spool(read_spool(folder / "spool.db"))
        reader = servers.client()
        stored = {stream: [parse_entry(*entry) for entry in reader.xrange(f"emotions:{stream}")] for stream in STREAMS}
    verdict = judge.compare(stored)
    damaged = list(folder.glob("spool.db.damaged*"))
    well = code == 0 and not damaged and verdict["stored"] and not sum(verdict.values()) - verdict["stored"]
    hit = ", ".join(f"{name} x {count}" for name, count in sorted(done.items()))
    figures = ", ".join(f"{value} {name}" for name, value in verdict.items())
    print(f"{kind}, seed {seed}: {hit}; {len(judge.spooled)} events produced, {judge.waited} waited in the spool at a "
          f"kill; {figures}" + ("" if code == 0 else f"; the daemon ended with {code}")
          + ("; the spool was damaged" if damaged else ""), flush=True)
    return bool(well)


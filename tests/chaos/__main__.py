"""`make chaos`: Redis and the daemon's delivery are hit by random faults; then a judge reads Redis.

ARGS="--minutes 10 --seed 7 --servers sentinel" feeds the daemon's spool and publisher with numbered events, many a
second; ARGS="--daemon --kills 50" kills the whole daemon with cameras (see daemon_kills.py). Prints what was done, and
ends with 1 where an event that counted as produced is missing, stands twice or is out of order. The same seed gives the
same faults, at nearly the same times.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import redis
from redis.cluster import RedisCluster

from tests.chaos import daemon_kills
from tests.chaos.feeder import Body
from tests.chaos.servers import KINDS, Servers
from tests.support.daemon import with_path
from tests.support.process import ServerProcess
from tests.support.waiting import poll

PAUSE_SECONDS = (0.3, 2.0)     # between faults

KILL = "feeder killed"


class Feeder(ServerProcess):
    """The process under test; each start is a run of its own."""

    def __init__(self, folder: Path, url: str, rate: float) -> None:
        self.folder, self.url, self.rate = folder, url, rate
        self.run = 0
        super().__init__("feeder", [], folder / "feeder.log")

    def start(self) -> None:
        """Begins the next run."""
        self.run += 1
        self.command = [*with_path(), sys.executable, "-m", "tests.chaos.feeder", self.url, str(self.folder),
                        str(self.run), "--rate", str(self.rate)]
        super().start()


def read_produced(file: Path) -> tuple[dict[tuple[int, str], int], list[str]]:
    """Returns (run, stream) -> how many events counted as produced, and what was told of losses."""
    produced: dict[tuple[int, str], int] = {}
    losses: list[str] = []
    for line in file.read_text().splitlines():
        run, stream, *rest = line.split()
        if rest[0] == "lost":
            losses.append(line)
        else:
            produced[int(run), stream] = int(rest[0])
    return produced, losses


def read_stored(client: redis.Redis | RedisCluster, stream: str) -> Iterator[Body]:
    """Yields what a key holds, in order."""
    reader: Any = client
    after = "-"
    while page := reader.xrange(f"emotions:{stream}", after, "+", 5000):
        for _, fields in page:
            yield msgspec.json.decode(fields[b"data"], type=Body)
        after = f"({page[-1][0].decode()}"


def judge(produced: dict[tuple[int, str], int], stored: dict[str, list[Body]]) -> dict[str, int]:
    """Compares what counted as produced with what is there; returns events stored, missing, twice and out of order."""
    verdict = Counter({"stored": 0, "missing": 0, "twice": 0, "out of order": 0})
    for stream, bodies in stored.items():
        places = [(body.run, body.number) for body in bodies]
        there = set(places)
        verdict["stored"] += len(places)
        verdict["twice"] += len(places) - len(there)
        verdict["out of order"] += sum(after < before for before, after in pairwise(places))
        for (run, name), count in produced.items():
            if name == stream:
                verdict["missing"] += sum((run, number) not in there for number in range(count))
    return dict(verdict)


def run(kind: str, seed: int, minutes: float, faults: int, rate: float, folder: Path) -> bool:
    """Runs one kind of Redis, for some minutes or until so many faults, and prints what came of it.

    Every other fault kills the feeder. Returns whether nothing is wrong.
    """
    with ExitStack() as stack:
        servers = Servers(kind, folder, seed, stack)
        feeder = Feeder(folder, servers.url, rate)
        feeder.start()
        stack.callback(feeder.kill)
        done: Counter[str] = Counter()
        end = time.monotonic() + 60 * minutes
        while done.total() < faults if faults else time.monotonic() < end:
            time.sleep(servers.seconds(PAUSE_SECONDS))
            if done.total() % 2:
                name = servers.random.choice(list(servers.faults))
                servers.faults[name]()
            else:
                name = KILL
                feeder.kill()
                feeder.start()
            done[name] += 1
        poll(lambda: any(run == feeder.run for run, _ in read_produced(folder / "produced")[0]), 60, "nothing is fed")
        feeder.child.terminate()
        code = feeder.child.wait(180)
        produced, losses = read_produced(folder / "produced")
        client = servers.client()
        stored = {stream: list(read_stored(client, stream)) for stream in sorted({name for _, name in produced})}
    verdict = judge(produced, stored)
    well = code == 0 and not losses and verdict["stored"] and not sum(verdict.values()) - verdict["stored"]
    hit = ", ".join(f"{name} x {count}" for name, count in sorted(done.items()))
    figures = ", ".join(f"{value} {name}" for name, value in verdict.items())
    print(f"{kind}, seed {seed}: {done.total()} faults ({hit}), {sum(produced.values())} events produced; {figures}"
          + (f"; lost: {losses}" if losses else "") + ("" if code == 0 else f"; the feeder ended with {code}"),
          flush=True)
    return bool(well)


def main() -> int:
    """Runs the kinds in turn."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="for each kind of Redis")
    parser.add_argument("--faults", type=int, default=0, help="so many for each kind instead")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10_000))
    parser.add_argument("--servers", choices=KINDS, action="append", help="only these")
    parser.add_argument("--rate", type=float, default=500, help="events a second")
    parser.add_argument("--daemon", action="store_true", help="kill the whole daemon, with cameras")
    parser.add_argument("--kills", type=int, default=10, help="with --daemon: how often, for each kind of Redis")
    arguments = parser.parse_args()
    well = True
    for kind in arguments.servers or KINDS:
        with tempfile.TemporaryDirectory(prefix="emotiond-chaos-") as folder:
            try:
                if arguments.daemon:
                    well &= daemon_kills.run(kind, arguments.seed, arguments.kills, Path(folder))
                else:
                    well &= run(kind, arguments.seed, arguments.minutes, arguments.faults, arguments.rate, Path(folder))
            except BaseException:
                for log in (Path(folder) / name for name in ("feeder.log", "emotiond.log")):
                    print("\n".join(log.read_text().splitlines()[-30:]) if log.exists() else "", file=sys.stderr)
                raise
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

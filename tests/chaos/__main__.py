"""`make chaos`: Redis and the daemon's delivery are hit by random faults; then a judge reads Redis.

ARGS="--minutes 10 --seed 7 --servers sentinel". Prints what was done, and ends with 1 where an event that counted as
produced is missing, stands twice or is out of order. The same seed gives the same faults, at nearly the same times.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import redis
from redis.cluster import RedisCluster

from tests.chaos.feeder import Body
from tests.support.daemon import with_path
from tests.support.process import ServerProcess
from tests.support.proxy import LossyProxy
from tests.support.redis_groups import Cluster, Watched, role
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

KINDS = ("single", "sentinel", "cluster")
PAUSE_SECONDS = (0.3, 2.0)     # between faults
OUTAGE_SECONDS = (0.2, 3.0)

KILL = "feeder killed"

Fault = Callable[[], None]


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


class Chaos:
    """One kind of Redis, its faults, and the feeder's."""

    def __init__(self, kind: str, folder: Path, seed: int, rate: float, stack: ExitStack) -> None:
        """Starts everything."""
        self.random = random.Random(f"{seed} {kind}")
        self.faults: dict[str, Fault] = {KILL: self.kill_feeder}
        if kind == "single":
            self.server = stack.enter_context(RedisServer(folder / "redis", persistence="aof"))
            self.proxy = stack.enter_context(LossyProxy(self.server.port))
            url = f"redis://127.0.0.1:{self.proxy.port}/0"
            self.faults |= {
                "redis killed": lambda: self.kill(self.server), "redis frozen": lambda: self.freeze(self.server),
                "replies lost": self.lose_replies, "redis full": self.fill, "scripts flushed": self.flush}
        elif kind == "sentinel":
            self.watched = stack.enter_context(Watched(folder / "watched"))
            url = self.watched.url
            self.faults |= {"primary killed, failover": self.fail_over, "primary frozen": self.freeze_primary,
                            "replica behind, failover": lambda: self.fail_over(behind=True)}
        else:
            self.cluster = stack.enter_context(Cluster(folder / "cluster"))
            url = self.cluster.url
            self.faults |= {"a primary killed, failover": self.fail_over_in_cluster,
                            "a primary frozen": lambda: self.freeze(self.serving())}
        self.kind = kind
        self.feeder = Feeder(folder, url, rate)
        self.feeder.start()
        stack.callback(self.feeder.kill)

    def seconds(self, between: tuple[float, float] = OUTAGE_SECONDS) -> float:
        """Returns a random time."""
        return self.random.uniform(*between)

    def kill_feeder(self) -> None:
        """SIGKILL, at any moment, and the next run."""
        self.feeder.kill()
        self.feeder.start()

    def kill(self, server: RedisServer) -> None:
        """SIGKILL and a restart with its data."""
        server.kill()
        time.sleep(self.seconds())
        server.start()

    def freeze(self, server: RedisServer) -> None:
        """SIGSTOP for a while."""
        server.freeze()
        time.sleep(self.seconds())
        server.thaw()

    def lose_replies(self) -> None:
        """Redis does what it is asked, and its answer never comes."""
        self.proxy.lose(self.random.randint(1, 3), b"EVALSHA", self.random.choice(("cut", "silence")))

    def fill(self) -> None:
        """Redis refuses every write for want of memory."""
        self.server.client.config_set("maxmemory", 1)
        time.sleep(self.seconds())
        self.server.client.config_set("maxmemory", 0)

    def flush(self) -> None:
        """Redis forgets the script."""
        self.server.client.script_flush()

    def fail_over(self, behind: bool = False) -> None:
        """Kills the primary; behind: while its replica had missed what was acknowledged last."""
        self.watched.wait_for_replica()
        old = self.watched.primary()
        replica = next(server for server in self.watched.servers if server is not old)
        if behind:
            replica.freeze()
            time.sleep(0.5)
        old.kill()
        if behind:
            replica.thaw()
        poll(lambda: self.watched.primary() is replica, 60, "no failover")
        self.watched.bring_back(old)

    def freeze_primary(self) -> None:
        """Shorter or longer than Sentinel's patience."""
        self.freeze(self.watched.primary())
        poll(lambda: sorted(map(role, self.watched.servers)) == ["master", "slave"], 60, "two primaries")
        self.watched.wait_for_replica()

    def serving(self) -> RedisServer:
        """Returns one of the Cluster's primaries that holds a stream."""
        return self.cluster.primary_of(f"emotions:stream{self.random.randrange(4)}")

    def fail_over_in_cluster(self) -> None:
        """Kills a primary, waits for another in its place, and starts it again."""
        old = self.serving()
        old.kill()
        poll(lambda: self.cluster.failed_over_from(old), 60, "no failover")
        old.start()
        self.cluster.wait_until_whole()

    def judge_client(self) -> Any:
        """Returns a client that reads where the truth is now."""
        if self.kind == "single":
            return self.server.client
        return self.watched.primary().client if self.kind == "sentinel" else self.cluster.client


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
        chaos = Chaos(kind, folder, seed, rate, stack)
        done: Counter[str] = Counter()
        end = time.monotonic() + 60 * minutes
        servers = [name for name in chaos.faults if name != KILL]
        while done.total() < faults if faults else time.monotonic() < end:
            time.sleep(chaos.seconds(PAUSE_SECONDS))
            name = chaos.random.choice(servers) if done.total() % 2 else KILL
            chaos.faults[name]()
            done[name] += 1
        chaos.feeder.child.terminate()
        code = chaos.feeder.child.wait(180)
        produced, losses = read_produced(folder / "produced")
        client = chaos.judge_client()
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
    arguments = parser.parse_args()
    well = True
    for kind in arguments.servers or KINDS:
        with tempfile.TemporaryDirectory(prefix="emotiond-chaos-") as folder:
            try:
                well &= run(kind, arguments.seed, arguments.minutes, arguments.faults, arguments.rate, Path(folder))
            except BaseException:
                log = Path(folder) / "feeder.log"
                print("\n".join(log.read_text().splitlines()[-30:]) if log.exists() else "", file=sys.stderr)
                raise
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

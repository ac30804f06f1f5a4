"""Redis alone, behind Sentinels or as a Cluster, and what goes wrong with it."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.proxy import LossyProxy
from tests.support.redis_groups import Cluster, Watched, role
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

KINDS = ("single", "sentinel", "cluster")
OUTAGE_SECONDS = (0.2, 3.0)

Fault = Callable[[], None]


class Servers:
    """One kind of Redis and its faults; each returns when it is over.

    Attributes:
        url: for the daemon.
        faults: by name.
        random: the run's own.
    """

    def __init__(self, kind: str, folder: Path, seed: int, stack: ExitStack) -> None:
        """Starts everything; the stack ends it."""
        self.kind, self.random = kind, random.Random(f"{seed} {kind}")
        self.faults: dict[str, Fault]
        if kind == "single":
            self.server = stack.enter_context(RedisServer(folder / "redis", persistence="aof"))
            self.proxy = stack.enter_context(LossyProxy(self.server.port))
            self.url = f"redis://127.0.0.1:{self.proxy.port}/0"
            self.faults = {
                "redis killed": lambda: self.kill(self.server), "redis frozen": lambda: self.freeze(self.server),
                "replies lost": self.lose_replies, "redis full": self.fill, "scripts flushed": self.flush}
        elif kind == "sentinel":
            self.watched = stack.enter_context(Watched(folder / "watched"))
            self.url = self.watched.url
            self.faults = {"primary killed, failover": self.fail_over, "primary frozen": self.freeze_primary,
                            "replica behind, failover": lambda: self.fail_over(behind=True)}
        else:
            self.cluster = stack.enter_context(Cluster(folder / "cluster"))
            self.url = self.cluster.url
            self.faults = {"a primary killed, failover": self.fail_over_in_cluster,
                            "a primary frozen": lambda: self.freeze(self.serving())}

    def seconds(self, between: tuple[float, float] = OUTAGE_SECONDS) -> float:
        """Returns a random time."""
        return self.random.uniform(*between)

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

    def client(self) -> Any:
        """Returns a client that reads where the truth is now."""
        if self.kind == "single":
            return self.server.client
        return self.watched.primary().client if self.kind == "sentinel" else self.cluster.client

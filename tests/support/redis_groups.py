"""Several real redis-servers on loopback: a primary with replicas watched by Sentinels, and a Cluster."""

import contextlib
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.support.certificates import Tls
from tests.support.process import ServerProcess
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll

SERVICE = "events"
_QUICK = {"repl-diskless-sync-delay": "0", "repl-timeout": "5", "repl-ping-replica-period": "1"}


def role(server: RedisServer) -> str:
    """Returns master or slave, or what kept it from telling: it hangs up when its role changes."""
    try:
        info: Any = server.client.info("replication")
    except redis.RedisError as error:
        return type(error).__name__
    return info["role"]


class SentinelProcess(ServerProcess):
    """One Sentinel that watches a primary; over TLS, where that speaks nothing else."""

    def __init__(self, folder: Path, primary_port: int, tls: Tls | None = None) -> None:
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "sentinel.conf"
        settings = {"port": "0", "tls-port": str(self.port), **tls.settings} if tls else {"port": str(self.port)}
        configuration.write_text(
            "".join(f"{key} {value}\n" for key, value in settings.items()) + f"bind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary_port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 3000\n")
        super().__init__("redis-sentinel", ["redis-server", str(configuration), "--sentinel"], folder / "sentinel.log")
        url = f"rediss://127.0.0.1:{self.port}/0?{tls.query}" if tls else f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(url, socket_timeout=5)

    def ready(self) -> bool:
        """Tells whether it knows the primary and its replica."""
        try:
            found: Any = self.client.execute_command("SENTINEL", "REPLICAS", SERVICE)
        except redis.RedisError:
            return False
        return len(found) >= 1


class Watched:
    """A primary with one replica, watched by three Sentinels; runs between entering and leaving.

    Attributes:
        servers: the two of them; which one is the primary may change.
        url: for the daemon.
    """

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        self.servers = [
            RedisServer(folder / f"redis{n}", persistence="aof", options=_QUICK, tls=tls) for n in range(2)]
        self.sentinels = [SentinelProcess(folder / f"sentinel{n}", self.servers[0].port, tls) for n in range(3)]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        self.url = f"{'rediss' if tls else 'redis'}+sentinel://{hosts}/{SERVICE}/0{f'?{tls.query}' if tls else ''}"
        self._stack = contextlib.ExitStack()

    def primary(self) -> RedisServer:
        """Returns the server that Sentinel calls the primary."""
        found: Any = self.sentinels[0].client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(found[1]))

    def wait_for_replica(self) -> None:
        """Returns when the replica has what the primary has."""
        def is_whole() -> bool:
            with contextlib.suppress(redis.RedisError, KeyError):
                info: Any = self.primary().client.info("replication")
                return info["connected_slaves"] == 1 and info["slave0"]["offset"] == info["master_repl_offset"]
            return False

        poll(is_whole, 30, "the replica is not in step")

    def bring_back(self, old: RedisServer) -> None:
        """Starts a primary that was replaced as the new one's replica; Sentinel alone may take a minute over it."""
        old.start()
        old.client.replicaof("127.0.0.1", str(self.primary().port))
        poll(lambda: role(old) == "slave", 30, "the old primary came back alone")
        self.wait_for_replica()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self.servers[1].client.replicaof("127.0.0.1", str(self.servers[0].port))
            for sentinel in self.sentinels:
                stack.enter_context(sentinel)
            self.wait_for_replica()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sentinel in self.sentinels:
            sentinel.client.close()
        self._stack.__exit__(kind, error, trace)


class Cluster:
    """A Cluster of three primaries with a replica each; runs between entering and leaving.

    Attributes:
        servers: all six.
        url: for the daemon.
        client: for the judge.
    """

    def __init__(self, folder: Path, tls: Tls | None = None) -> None:
        options = {**_QUICK, "cluster-enabled": "yes", "cluster-config-file": "nodes.conf",
                   "cluster-node-timeout": "2000", "cluster-replica-validity-factor": "0",
                   **({"tls-cluster": "yes"} if tls else {})}
        self.servers = [RedisServer(folder / f"node{n}", persistence="aof", options=options, tls=tls)
                        for n in range(6)]
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])
        self.url = f"rediss+cluster://{hosts}?{tls.query}" if tls else f"redis+cluster://{hosts}"
        self._tls = tls
        self._stack = contextlib.ExitStack()
        self.client: RedisCluster | None = None

    def primary_of(self, key: str) -> RedisServer:
        """Returns the server that serves a key."""
        assert self.client
        self.client.nodes_manager.initialize()
        node = self.client.get_node_from_key(key)
        assert node
        return next(server for server in self.servers if server.port == node.port)

    def failed_over_from(self, old: RedisServer) -> bool:
        """Tells whether every slot is served again without a server that died."""
        alive = [server for server in self.servers if server is not old]
        masters = [line for line in _nodes(alive[0]) if "master" in line and "fail" not in line]
        return len(masters) == 3 and all("cluster_state:ok" in _cluster_info(server) for server in alive)

    def wait_until_whole(self) -> None:
        """Returns when all six agree that there are three primaries with a replica in step each."""
        poll(lambda: all(self._knows_all(server) for server in self.servers), 60, "the cluster is not whole")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            nodes = [f"127.0.0.1:{server.port}" for server in self.servers]
            _ask("--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes",
                 *(self._tls.words if self._tls else ()))
            self.wait_until_whole()
            self.client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", self.servers[0].port)],
                                       **(self._tls.options if self._tls else {}))
            stack.callback(self.client.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @staticmethod
    def _knows_all(server: RedisServer) -> bool:
        try:
            nodes = _nodes(server)
            info: Any = server.client.info("replication")
            in_step = info["role"] == "master" or info["master_link_status"] == "up"
            return (in_step and "cluster_state:ok" in _cluster_info(server)
                    and sum("slave" in node for node in nodes) == 3
                    and not any("fail" in node or "disconnected" in node for node in nodes))
        except redis.RedisError:
            return False


def _cluster_info(server: RedisServer) -> str:
    return _ask("-p", str(server.port), *server.words, "CLUSTER", "INFO")


def _nodes(server: RedisServer) -> list[str]:
    return _ask("-p", str(server.port), *server.words, "CLUSTER", "NODES").splitlines()


def _ask(*words: str) -> str:
    return subprocess.run(["redis-cli", *words], capture_output=True, text=True, check=True, timeout=60).stdout

"""A real redis-server on loopback."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.certificates import Tls
from tests.support.leaks import look, plant
from tests.support.process import ServerProcess
from tests.support.waiting import free_port

Persistence = Literal["none", "aof", "default"]
"""What a restart finds again: nothing; every write (synced each second); what an untouched configuration keeps."""

_SETTINGS: dict[Persistence, dict[str, str]] = {
    "none": {"save": '""', "appendonly": "no"},
    "aof": {"save": '""', "appendonly": "yes"},
    "default": {},
}


class RedisServer(ServerProcess):
    """Runs between entering and leaving; may be stopped, killed, frozen and started again on its port.

    Args:
        folder: gets its data, its configuration and its log.
        persistence: what survives its end.
        password: what the default user must give.
        options: further settings, as in redis.conf.
        tls: it speaks nothing else.
    """

    def __init__(
        self,
        folder: Path,
        *,
        persistence: Persistence = "none",
        password: str | None = None,
        options: Mapping[str, str] | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.port = free_port(beside=10_000 if "cluster-enabled" in (options or {}) else 0)  # a Cluster's bus
        credentials = f":{quote(password, safe='')}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self.port}/0"
        settings = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(folder), "enable-debug-command": "local",
            **_SETTINGS[persistence], **({"requirepass": plant(password)} if password else {}), **(options or {})}
        self.words = tls.words if tls else ()
        """What redis-cli needs to speak with it, besides the port."""
        if tls:
            self.url = f"rediss{self.url.removeprefix('redis')}?{tls.query}"
            settings |= {"port": "0", "tls-port": str(self.port), **tls.settings}
        folder.mkdir(parents=True, exist_ok=True)
        configuration = folder / "redis.conf"
        configuration.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        super().__init__("redis-server", ["redis-server", str(configuration)], folder / "redis.log")
        # A retry would hide a lost reply, and write twice.
        self.client = redis.Redis.from_url(
            self.url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0))
        """Replies are bytes; errors come at once, a frozen server after 5 s."""

    def ready(self) -> bool:
        """Tells whether it answers, with its data loaded."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.runs and error is None:
                with contextlib.suppress(redis.RedisError):      # frozen, or its password is another now
                    self._look()
        finally:
            self.client.close()
            super().__exit__(kind, error, trace)

    def _look(self) -> None:
        """Looks for planted secrets in every key."""
        self.client.config_set("rdbcompression", "no")      # which a DUMP follows too
        for key in self.client.scan_iter(count=1000):
            look("Redis keys", key + b" " + (self.client.dump(key) or b""))

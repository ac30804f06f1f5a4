"""Connections to Redis or Valkey, alone, behind Sentinels or as a Cluster; and what their errors mean."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import hiredis
import redis
import redis.connection
import redis.exceptions as errors
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from emotiond.config import RedisConfig, read_secret
from emotiond.config_values import split_redis_url
from emotiond.redact import redact

TIMEOUT_SECONDS = 2.0
IDLE_SECONDS = 1.0      # after which a connection is looked at before it is used: a server may have closed it
SEND_BYTES = 1 << 16    # that are packed before they are sent
_BY_PREFIX = {
    "OOM": "oom", "READONLY": "readonly", "NOREPLICAS": "noreplicas", "LOADING": "loading", "MOVED": "moved",
    "NOPERM": "noperm", "NOAUTH": "auth", "WRONGPASS": "auth", "MASTERDOWN": "readonly",
    "MAX NUMBER OF CLIENTS": "max_clients", "ERR MAX NUMBER OF CLIENTS": "max_clients",
}
_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (errors.AuthenticationError, "auth"), (errors.AuthorizationError, "auth"), (errors.NoPermissionError, "noperm"),
    (errors.BusyLoadingError, "loading"), (errors.ReadOnlyError, "readonly"), (errors.OutOfMemoryError, "oom"),
    (errors.MasterDownError, "readonly"), (errors.AskError, "moved"),
    (errors.ClusterCrossSlotError, "moved"), (errors.TimeoutError, "timeout"),
    (errors.ConnectionError, "connection"), (errors.ClusterError, "connection"),
    (errors.RedisClusterException, "connection"), (OSError, "connection"),
)

_TLS_MENDS = (      # by what OpenSSL says
    (("mismatch, certificate is not valid",), "name the server in redis.url as its certificate does"),
    (("certificate verify failed",), "name the file of the authority that signed the server's certificate with "
                                     "?ssl_ca_certs= in redis.url"),
    (("eof occurred in violation of protocol", "certificate required", "alert"),
     "check that it runs, and name a certificate that it accepts with ssl_certfile= and ssl_keyfile= in redis.url"),
    (("no such file", "permission denied", "certificate or crl", "key values mismatch", "pem", "asn1"),
     "check the files that ssl_ca_certs=, ssl_certfile= and ssl_keyfile= name in redis.url"),
    (("",), "check redis.url, that it runs, and that it speaks TLS at that port"),
)

Client = redis.Redis | RedisCluster


class Store:
    """One Redis, Sentinel's primary or Cluster as the publisher needs it; nothing is ever retried by itself.

    Attributes:
        connections: counts those that were opened; a pool replaces a lost one without a word.
    """

    def __init__(self, config: RedisConfig, url: str) -> None:
        """Makes a client; a Cluster is asked for its nodes by the first exchange.

        Args:
            config: user name and password file, where given.
            url: of Redis, as `connect` takes it.
        """
        self.connections = 0
        self._config, self._url = config, url
        self._client: Client | None = None
        self._connection: Any = None      # the one in use, where there is one server
        self._used = 0.0                  # when it was in use last

    def ping(self) -> None:
        """Raises redis.exceptions.RedisError or OSError where Redis does not answer."""
        client = self._connected()
        if isinstance(client, RedisCluster):
            client.ping(target_nodes=RedisCluster.RANDOM)
        else:
            self._ask("PING")

    def load(self, script: str) -> str:
        """Loads a script into every primary and returns its digest."""
        client = self._connected()
        if isinstance(client, RedisCluster):
            return str(client.script_load(script))
        return self._ask("SCRIPT", "LOAD", script).decode()

    def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Sends commands, all at once where there is one server, and returns a reply or an exception for each.

        Past redis-py's pipeline, which takes four times as long; a server begins while later commands are packed.

        Raises:
            redis.exceptions.RedisError, OSError: nobody knows which of them were executed.
        """
        client = self._connected()
        if isinstance(client, RedisCluster):
            return _execute_in_cluster(client, commands)
        connection = self._open_connection(client.connection_pool)
        try:
            for part in _pack(commands):
                connection.send_packed_command([part], check_health=False)
            replies = [_read_reply(client, connection, command[0]) for command in commands]
            self._used = time.monotonic()
            return replies
        except BaseException:
            self._drop_connection(client.connection_pool)     # replies may be on their way
            raise

    def follow_sentinel(self) -> None:
        """Leaves a server that Sentinel no longer calls the primary; it may be cut off and not know."""
        client = self._connected()
        if isinstance(client, redis.Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
            with contextlib.suppress(errors.ConnectionError):  # no Sentinel answers: what is connected goes on
                client.connection_pool.get_master_address()
            if self._connection is not None and not client.connection_pool.owns_connection(self._connection):
                self._drop_connection(client.connection_pool)

    def disconnect(self) -> None:
        """Closes every connection; the next exchange opens new ones."""
        if self._client is None:
            return
        if isinstance(self._client, RedisCluster):
            self._client.disconnect_connection_pools()
        else:
            self._drop_connection(self._client.connection_pool)
            self._client.connection_pool.disconnect()

    def close(self) -> None:
        """Closes every connection for good."""
        if self._client is not None:
            self._client.close()

    def _ask(self, *command: Any) -> Any:
        reply, = self.execute([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _open_connection(self, pool: redis.ConnectionPool) -> Any:
        """Returns a connection that is open and silent, the same one for as long as it is."""
        if self._connection is not None and time.monotonic() >= self._used + IDLE_SECONDS:
            silent = False
            with contextlib.suppress(errors.ConnectionError):
                silent = not self._connection.can_read()
            if not silent:
                self._drop_connection(pool)
        if self._connection is None:
            self._connection = pool.get_connection()
        return self._connection

    def _drop_connection(self, pool: redis.ConnectionPool) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            pool.release(self._connection)      # a Sentinel's pool takes none back that leads to a former primary
            self._connection = None

    def _connected(self) -> Client:
        if self._client is None:
            self._client = connect(self._config, self._url, self._note_connection)
        return self._client

    def _note_connection(self) -> None:
        self.connections += 1


def connect(config: RedisConfig, url: str, opened: Callable[[], None] = lambda: None) -> Client:
    """Returns a client that never retries by itself: a retried append whose reply was lost would stand twice.

    Args:
        config: user name and password file, where given.
        url: redis://, rediss:// or unix://; redis+sentinel://host:port,host:port/service/db;
            redis+cluster://host:port,host:port. rediss+... for TLS.
        opened: called after each connection that is opened.

    Raises:
        redis.exceptions.RedisError: no node of a Cluster answers.
    """
    scheme, _, kind = url.partition("://")[0].partition("+")
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS,
        "health_check_interval": 0, "protocol": 2, "client_name": "emotiond"}
    credentials = {"username": config.username} if config.username else {}
    if config.password_file:
        credentials["password"] = read_secret(config.password_file)

    def greet(connection: Any) -> None:
        connection.on_connect()
        opened()

    def note(connection: Any) -> None:  # a Cluster's client greets by itself
        del connection
        opened()

    if kind != "cluster":
        options["redis_connect_func"] = greet
    if not kind:
        client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
        client.connection_pool.connection_kwargs.update(credentials)  # the URL's go before arguments of from_url
        return client
    hosts, service, plain = split_redis_url(url)
    options |= cast(dict[str, Any], redis.connection.parse_url(plain)) | credentials
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    tls |= {"ssl": True} if scheme == "rediss" else {}
    options |= tls
    if kind == "sentinel":
        sentinel_options = options | {"db": 0}
        for name in ("username", "password", "redis_connect_func"):  # are those of the primary
            sentinel_options.pop(name, None)
        sentinels = Sentinel(hosts, sentinel_kwargs=sentinel_options | {"retry": Retry(NoBackoff(), 0)}, **options)
        return sentinels.master_for(service, redis.Redis, retry=Retry(NoBackoff(), 0))
    options.pop("db", None)
    options["redis_connect_func"] = note
    return RedisCluster(startup_nodes=[ClusterNode(*host) for host in hosts], retry=Retry(NoBackoff(), 0), **options)


def _pack(commands: Sequence[Sequence[Any]]) -> Iterator[bytes]:
    """Yields commands as they are sent, in few parts."""
    parts: list[bytes] = []
    size = 0
    for command in commands:
        part = cast(bytes, hiredis.pack_command(tuple(command)))
        parts.append(part)
        size += len(part)
        if size >= SEND_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _read_reply(client: Any, connection: Any, name: str) -> Any:
    """Returns the reply to a command of a name, or the error that it is."""
    try:
        return client.parse_response(connection, name)
    except errors.ResponseError as error:
        return error


def _execute_in_cluster(client: RedisCluster, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Sends commands one by one; a node that did not answer one is not asked again in this round."""
    replies: list[Any] = []
    silent: dict[str, Exception] = {}
    for command in commands:
        key = command[3] if command[0] == "EVALSHA" else command[1]
        node = None
        try:
            node = client.get_node_from_key(key)
            if node and node.name in silent:
                replies.append(silent[node.name])
                continue
            replies.append(cast(Any, client).execute_command(*command))
        except (errors.RedisError, OSError) as error:
            replies.append(error)
            if isinstance(error, errors.ConnectionError | errors.TimeoutError | OSError) and node:
                silent[node.name] = error
    return replies


def error_kind(error: Exception) -> str:
    """Tells an outage from a wrong configuration and from a full server: one of metrics.REDIS_ERRORS."""
    text = str(error).upper()
    for prefix, kind in _BY_PREFIX.items():
        if text.startswith(prefix):
            return kind
    return next((kind for cls, kind in _BY_TYPE if isinstance(error, cls)), "other")


def describe(error: Exception, url: str, rights: str = "EVALSHA") -> str:
    """Returns one sentence about a failed exchange, without secrets; `rights`: what the user needs beside the keys."""
    mends = {
        "auth": "check redis.username and the password", "noperm": f"give the user rights to the keys and to {rights}",
        "oom": "raise maxmemory or lower redis.maxlen", "readonly": "name the primary in redis.url",
        "loading": "wait until it has loaded its data", "max_clients": "raise maxclients",
        "moved": "name the nodes of the Cluster in redis.url, as in redis+cluster://host:6379,host:6379",
    }
    kind, said = error_kind(error), str(error).lower()
    mend = mends.get(kind, "check redis.url and that it runs")
    if kind in ("connection", "timeout") and url.startswith("rediss"):
        mend = next(mend for parts, mend in _TLS_MENDS if any(part in said for part in parts))
    return redact(f"Redis at {url} failed ({kind}: {error}); {mend}")

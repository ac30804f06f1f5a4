"""Entries of streams as they come: streams that appear are found, and outages of Redis are waited out."""

import contextlib
import logging
import random
import time
from collections.abc import Iterable

import redis
import redis.exceptions as errors
from redis.sentinel import SentinelConnectionPool

from emotiond.client.entries import StoredEntry, event_keys, last_id, read_entries
from emotiond.client.group import Group
from emotiond.config import RedisConfig
from emotiond.errors import UnavailableError
from emotiond.redact import redact
from emotiond.store import Client, connect, describe, error_kind

BLOCK_MS = 500                  # how long closing may take
LOOK_SECONDS = 1.5              # with what a read may take, a new stream is found within two
LOOK_SHARE = 20                 # times what a look through the server's keys takes, at least, until the next one
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_PAUSE_SECONDS = 0.05
_RIGHTS = "@read, @stream and @connection"
_FINAL = ("unknown command", "invalid DB index", "DB index is out of range")

log = logging.getLogger("emotiond.client")


class _SecretError(errors.ConnectionError):
    """The password's file cannot be read, as while it is being replaced."""


class RefusedError(UnavailableError):
    """Redis answers and will not give out events: a password, rights or a key are wrong. Trying again is no use."""


class Reader:
    """Reads the keys of streams, those that there are and those that come, from a position on.

    Attributes:
        closing: once it is set, `read` ends soon; any thread and any signal's handler may set it.
    """

    def __init__(
        self, config: RedisConfig, url: str, streams: Iterable[str] | None, start: str, *, status: bool = False,
        group: Group | None = None, follow: bool = True,
    ) -> None:
        """Connects when it is used.

        Args:
            config: the keys' prefix; user name and password file, where given.
            url: as `connect` takes it.
            streams: names; None for all that there are and will be.
            start: `new`, `first`, or the entry id after which to begin.
            status: whether to read the status key too.
            group: reads as its member.
            follow: whether to wait for new entries, or to end where there are none.
        """
        self.closing = False
        self._config, self._url, self._start, self._follow, self._group = config, url, start, follow, group
        self._finds = streams is None
        self._named = {f"{config.key_prefix}:{name}" for name in [*(streams or ()), *(["status"] if status else [])]}
        self._positions: dict[str, str] = {}       # without a group: key -> last id read
        self._keys: set[str] = set()
        self._found: set[str] = set()
        self._left = False
        self._looked = False
        self._next_look = 0.0
        self._client: Client | None = None
        self._failures = 0
        self._lacks_secret = False

    def look(self) -> None:
        """Connects, and finds the streams that are there; what is new is new from now on.

        Raises:
            redis.exceptions.RedisError, OSError: Redis does not answer.
        """
        client = self._connected()
        _follow_sentinel(client)
        begin = time.monotonic()
        there = event_keys(client, self._config.key_prefix) if self._finds else set[str]()
        end = time.monotonic()
        self._next_look = end + max(LOOK_SECONDS, LOOK_SHARE * (end - begin))
        for key in sorted((there | self._named) - self._keys):
            self._add(client, key)
        self._looked = True
        if self._group is None:
            there |= {key for key in self._named if client.exists(key)}
            self._positions |= dict.fromkeys(self._found - there, "0")      # may begin anew at lower ids
            self._found |= there

    def read(self) -> list[StoredEntry]:
        """Waits until there are entries and returns them, at most 100 of each key; none once it is to close.

        Raises:
            RefusedError: Redis answers, and trying again is no use.
        """
        while not self.closing:
            try:
                entries = self._read()
            except (errors.RedisError, OSError) as error:
                self.note_outage(error)
                self._pause(min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** self._failures) * random.uniform(0.5, 1))
                continue
            if self._failures:
                self._failures = 0
                log.info("Redis answers at %s", redact(self._url))
            if entries:
                return entries
            self.closing = self.closing or not self._follow
        return []

    def note_outage(self, error: Exception) -> None:
        """Drops the connection after an error, and says so once.

        Raises:
            RefusedError: trying again is no use.
        """
        client, self._client = self._client, None
        said, kind = str(error), error_kind(error)
        wrong = self._wrong_keys(client) if client is not None and "WRONGTYPE" in said else []
        if client is not None:
            client.close()
        self._next_look = 0.0
        if "WRONGTYPE" in said:
            raise RefusedError(redact(f"{' and '.join(wrong) or 'one'} in Redis at {self._url} is a key that holds no "
                                      "events; name other streams, or delete it")) from None
        sentence = self._describe(error)
        if kind in ("auth", "noperm") or any(text in said for text in _FINAL) or (
                kind == "moved" and isinstance(client, redis.Redis)):
            raise RefusedError(sentence) from None
        lacks_secret = isinstance(error, _SecretError)
        if not self._failures or (lacks_secret and not self._lacks_secret):     # the mend is another one
            log.warning("%s; trying again", sentence)
        self._lacks_secret = lacks_secret
        self._failures = min(self._failures + 1, 10)

    def flush(self) -> None:
        """Sends what was acknowledged; where that fails, it is sent with the next read."""
        if self._group and self._group.unsent and (self._client is not None or self._left):
            with contextlib.suppress(errors.RedisError, OSError):
                self._group.flush(self._connected())
        if self._left:
            self._disconnect()

    def close(self) -> None:
        """Leaves the group, once, and closes the connection."""
        self.closing = True
        try:
            if self._group and not self._left and (self._client is not None or self._group.unsent):
                self._group.leave(self._connected())
        except (errors.RedisError, OSError) as error:
            log.warning("%s; the events that were processed last may come again", self._describe(error))
        finally:
            self._left = True
            self._disconnect()

    def _read(self) -> list[StoredEntry]:
        if time.monotonic() >= self._next_look:     # not before every read: it goes through all keys of the server
            self.look()
        client = self._connected()
        block_ms = BLOCK_MS if self._follow else 1
        if not self._keys:
            self._pause(block_ms / 1000)
            return []
        if self._group:
            return self._group.read(client, block_ms)
        return read_entries(client, self._positions, block_ms)

    def _add(self, client: Client, key: str) -> None:
        start = self._start
        if start in ("new", "first"):       # a stream that appears later is read from its first event
            start = last_id(client, key) if start == "new" and not self._looked else "0"
        if self._group:
            self._group.add(client, key, start)
        else:
            self._positions[key] = start
        self._keys.add(key)

    def _connected(self) -> Client:
        if self._client is None:
            try:
                self._client = connect(self._config, self._url)
            except ValueError as error:
                raise _SecretError(f"password_file: {error}") from None
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _describe(self, error: Exception) -> str:
        return str(error) if isinstance(error, _SecretError) else describe(error, self._url, _RIGHTS)

    def _wrong_keys(self, client: Client) -> list[str]:
        """Returns those of its keys that hold something else than a stream."""
        with contextlib.suppress(errors.RedisError, OSError):
            return sorted(key for key in self._named | self._keys if client.type(key) not in (b"stream", b"none"))
        return []

    def _pause(self, seconds: float) -> None:
        """Waits without a lock, so that a signal's handler may end it."""
        end = time.monotonic() + seconds
        while not self.closing and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_SECONDS))


def _follow_sentinel(client: Client) -> None:
    """Leaves a server that Sentinel no longer calls the primary; it may be cut off and not know."""
    if isinstance(client, redis.Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        with contextlib.suppress(errors.ConnectionError):       # no Sentinel answers: what is connected goes on
            client.connection_pool.get_master_address()

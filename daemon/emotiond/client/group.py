"""A member of a consumer group: Redis shares out entries, and keeps each in mind until it is acknowledged."""

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import redis.exceptions as errors

from emotiond.client.entries import BATCH, StoredEntry, ask, id_before, make_entries
from emotiond.store import Client

RELEASED = "released"                # the consumer that holds what others handed back
NEW, FIRST = ">", "0"                # positions: entries that no consumer has been given; one's own from the first
LONGEST_RECLAIM = 86_400             # seconds that an entry may be held
_LONG_AGO_MS = LONGEST_RECLAIM * 1000       # so that whoever looks next may claim what was handed back
_GONE = ("NOGROUP", "UNBLOCKED the stream key no longer exists")

log = logging.getLogger("emotiond.client")


class Group:
    """Reads as one consumer of a group, which is made where it lacks.

    It reads what the consumer was given before and did not acknowledge, a lost reply included, then what a dead
    consumer has held for too long, then new entries.

    Attributes:
        name: of the group.
        consumer: its name in it.
        reclaim_after: seconds after which an entry that is not acknowledged goes to whoever asks.
    """

    def __init__(self, name: str, consumer: str | None, reclaim_after: float) -> None:
        """Without a consumer's name it gets one that nobody else has, and `leave` removes it."""
        self.name, self.reclaim_after = name, reclaim_after
        self.consumer = consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._passing = consumer is None
        self._positions: dict[str, str] = {}
        self._claims: dict[str, str] = {}                   # key -> where looking for dead consumers' entries goes on
        self._next_claim = 0.0
        self._out: set[tuple[str, str]] = set()             # key and id of what was handed out and not acknowledged
        self._unseen: dict[tuple[str, str], bool] = {}      # read before and not handed out -> whether redelivered
        self._done: deque[tuple[str, str]] = deque()        # acknowledged, which Redis does not know yet
        self._asking = False

    @property
    def unsent(self) -> int:
        """How many acknowledgements Redis does not know of yet."""
        return len(self._done)

    def add(self, client: Client, key: str, start: str) -> None:
        """Reads a key too; a group that has to be made begins after the id `start`."""
        self._make(client, key, start)
        self._positions[key] = FIRST

    def read(self, client: Client, block_ms: int) -> list[StoredEntry]:
        """Sends acknowledgements, then waits up to `block_ms` for entries; at most 100 of each key."""
        self.flush(client)
        if self._asking:      # there was no reply, and what it held is ours
            self._positions = dict.fromkeys(self._positions, FIRST)
        self._asking = True
        entries = None
        while entries is None:
            entries = self._ask(client, block_ms)
        self._asking = False
        return entries

    def read_again(self, entries: Sequence[StoredEntry]) -> None:
        """Has entries that waited for long read again, those that are still ours."""
        for entry in reversed(entries):      # after which each key's first one is what its position stays before
            self._unseen[entry.key, entry.id] = entry.redelivered
            self._positions[entry.key] = id_before(entry.id)

    def hand_out(self, entry: StoredEntry) -> None:
        """Notes that someone works at an entry."""
        self._out.add((entry.key, entry.id))

    def take_back(self, entry: StoredEntry) -> bool:
        """Notes that nobody works at an entry any more; False where it was acknowledged."""
        if (entry.key, entry.id) not in self._out:
            return False
        self._out.discard((entry.key, entry.id))
        return True

    def acknowledge(self, key: str, entry_id: str) -> None:
        """Notes that an entry was processed; for any thread."""
        self._out.discard((key, entry_id))
        self._done.append((key, entry_id))

    def flush(self, client: Client) -> None:
        """Tells Redis what was acknowledged."""
        done = [self._done.popleft() for _ in range(len(self._done))]
        if not done:
            return
        by_key: dict[str, list[str]] = {}
        for key, entry_id in done:
            by_key.setdefault(key, []).append(entry_id)
        try:
            with client.pipeline(transaction=False) as pipeline:
                for key, ids in by_key.items():
                    pipeline.xack(key, self.name, *ids)
                pipeline.execute()
        except BaseException:
            self._done.extendleft(reversed(done))
            raise

    def leave(self, client: Client) -> None:
        """Sends acknowledgements; a consumer that nobody will be again hands back what it holds and is removed."""
        self.flush(client)
        for key in self._positions if self._passing else ():
            try:
                while held := cast(list[dict[str, Any]], client.xpending_range(
                        key, self.name, "-", "+", BATCH, self.consumer)):
                    ids = [each["message_id"] for each in held]
                    client.xclaim(key, self.name, RELEASED, 0, ids, idle=_LONG_AGO_MS, justid=True)
                client.xgroup_delconsumer(key, self.name, self.consumer)
            except errors.ResponseError as error:
                if not str(error).startswith(_GONE):
                    raise

    @property
    def _caught_up(self) -> bool:
        """Whether it has all that it was given before."""
        return all(position == NEW for position in self._positions.values())

    def _ask(self, client: Client, block_ms: int) -> list[StoredEntry] | None:
        """Returns what there is; None where there was nothing that it was given before, and may be something new."""
        caught_up = self._caught_up
        try:
            entries = (self._claim(client) if caught_up else []) or self._read(client, block_ms)
        except errors.ResponseError as error:
            if not str(error).startswith(_GONE):
                raise
            self._make_anew(client)
            return None
        return entries if entries or caught_up else None

    def _read(self, client: Client, block_ms: int) -> list[StoredEntry]:
        found = ask(client, partial(client.xreadgroup, self.name, self.consumer), self._positions, block_ms)
        entries: list[StoredEntry] = []
        for key, of_key in found.items():
            if self._positions[key] == NEW:
                entries += of_key
                continue
            self._positions[key] = of_key[-1].id if of_key else NEW
            for entry in of_key:
                if (key, entry.id) not in self._out:
                    entries.append(entry._replace(redelivered=self._unseen.pop((key, entry.id), True)))
        if self._caught_up:
            self._unseen.clear()
        return entries

    def _claim(self, client: Client) -> list[StoredEntry]:
        """Takes over what nobody has acknowledged for too long."""
        if not self._claims and time.monotonic() >= self._next_claim:
            self._claims = dict.fromkeys(self._positions, "0-0")
            self._next_claim = time.monotonic() + self.reclaim_after / 2
        while self._claims:
            key, cursor = self._claims.popitem()
            reply = client.xautoclaim(
                key, self.name, self.consumer, round(self.reclaim_after * 1000), cursor, count=BATCH)
            if reply[0] != b"0-0":
                self._claims[key] = reply[0].decode()
            if entries := make_entries(key, reply[1], redelivered=True):
                return entries
        return []

    def _make_anew(self, client: Client) -> None:
        """Makes groups that are gone; what was acknowledged went with them, so they begin with what is kept."""
        for key in self._positions:
            if self._make(client, key, FIRST):
                log.warning("group %s of %s is gone; made anew, from the first entry that is kept", self.name, key)

    def _make(self, client: Client, key: str, start: str) -> bool:
        """Makes the group of a key; False where it is there."""
        try:
            client.xgroup_create(key, self.name, start, mkstream=True)
        except errors.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
            return False
        return True

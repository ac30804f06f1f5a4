"""Sends the spool's events to Redis Streams, once and in order, and the streams' life to the status key.

A batch is appended by one script that first compares the key's last id with the one known here, so a lost reply, a
restart, another writer or a failover is noticed: what is there already is acknowledged, what Redis lost is sent again.
"""

import logging
import math
import threading
import time
from collections.abc import Collection
from itertools import chain
from typing import Any

import redis.exceptions as errors

from emotiond.append import SCRIPT, UnusableKeyError, parse_reply, script_arguments
from emotiond.config import RedisConfig
from emotiond.events import EntryId, StatusEvent, format_id, parse_id
from emotiond.metrics import Metrics
from emotiond.redact import redact
from emotiond.spool import Entry, Spool
from emotiond.status import StatusQueue
from emotiond.store import Store, describe, error_kind

BATCH = 200               # entries of a stream that are appended at once, while which Redis does nothing else
STATUS_KEPT = 10_000      # entries of the status key, about
TRIM_SECONDS = 30.0
LOOK_SECONDS = 1.0       # how often Sentinel is asked for the primary
RETRY_FIRST, RETRY_MOST = 0.1, 2.0
HOLD_SECONDS = 5.0       # between tries of a key that alone refuses writing
HELD_TICK = 0.05         # how often others are looked at meanwhile
STATUS = "status"
MOST_ID = 2**62           # of either part of an entry id: beyond, there is no room to rise
SAID_SECONDS = 60.0      # how often it is said of a key that another writer is there

log = logging.getLogger(__name__)


class Publisher:
    """The only writer of this daemon's keys; `run` is a thread's whole life.

    Attributes:
        connected: whether the last exchange with Redis worked.
        error: the last failure in one sentence, None while it works.
        rounds: counts up while the thread goes on, with Redis or without.
    """

    def __init__(
        self, store: Store, url: str, config: RedisConfig, spool: Spool, metrics: Metrics, instance: str
    ) -> None:
        self.connected, self.error, self._error_kind = False, None, ""
        self.rounds = 0
        self._store, self._url, self._config = store, url, config
        self._spool, self._metrics = spool, metrics
        self._sha: str | None = None
        self._known: dict[str, EntryId] = {}                   # stream -> last id of its key, as Redis said
        self._held: dict[str, float] = {}                      # stream whose key refuses writing -> next try
        self._status = StatusQueue(instance)
        self._stop = threading.Event()
        self._connections = 0                                  # those that were opened when the keys were asked
        self._sent: dict[str, int] = {}                        # stream -> seq of the last event sent, answered or not
        self._said: dict[str, float] = {}                      # stream -> when another writer was named last
        self._next_trim = self._next_look = 0.0

    def publish_status(self, kind: str, event: StatusEvent) -> None:
        """Hands over an event for the status key; never waits."""
        self._status.put(kind, event)
        self._spool.wake()

    def run(self) -> None:
        """Publishes until `stop`, trying again for as long as Redis is away."""
        retry, in_vain = RETRY_FIRST, 0
        self._spool.expires = False
        while not self._stop.is_set():
            self.rounds += 1
            try:
                if not self.connected:
                    self._store.ping()
                if self._store.connections != self._connections:  # it may be another server, and lack what that one had
                    self._connections = self._store.connections
                    self._known.clear()
                sent = self._round()
            except (errors.RedisError, OSError) as error:
                self._note_failure(error)
                self._stop.wait(retry)
                retry = min(retry * 2, RETRY_MOST)
                continue
            self._note_success()
            retry = RETRY_FIRST
            had_to_wait = self._spool.wait(HELD_TICK if self._held else 1.0)
            in_vain = 0 if sent or had_to_wait else in_vain + 1
            if self._held or in_vain > 2:  # what waits cannot be sent or read at present
                self._stop.wait(HELD_TICK)
        self._store.close()

    def drain(self, deadline: float) -> int:
        """Waits until everything is out or monotonic time `deadline` has come; returns how many events are left.

        Events that outlive the process do not wait for a Redis that is away.
        """
        def hopeless() -> bool:
            return self._spool.all_stored() and not self.connected

        left = self._spool.drain(deadline, hopeless)
        while self._status.waiting() and STATUS not in self._held and time.monotonic() < deadline and not hopeless():
            time.sleep(0.01)
        return left

    def stop(self) -> None:
        """Ends `run`."""
        self._stop.set()
        self._spool.wake()

    def _key(self, stream: str) -> str:
        return f"{self._config.key_prefix}:{stream}"

    def _round(self) -> bool:
        """One exchange: a batch of each stream that has events, and the status events. Returns whether it sent any."""
        now = time.monotonic()
        if now >= self._next_look:
            self._store.follow_sentinel()
            took = time.monotonic() - now
            self._next_look = now + took + max(LOOK_SECONDS, 10 * took)
        pending = {stream: _alike(entries) for stream, entries in self._spool.pending(BATCH).items()
                   if self._held.get(stream, now) <= now}
        unsure = [stream for stream in self._spool.acknowledged() if stream not in self._known]
        self._spool.expires = all(stream in self._held for stream in unsure)  # what Redis may have lost is needed yet
        pending |= {stream: [] for stream in unsure if stream not in pending and self._held.get(stream, now) <= now}
        status = self._status.waiting() if self._held.get(STATUS, now) <= now else []
        if not pending and not status:
            self._tend()
            return False
        begin = time.monotonic()
        if pending and self._sha is None:
            self._sha = self._store.load(SCRIPT)
        commands: list[list[Any]] = [
            ["EVALSHA", self._sha, 1, self._key(stream), *self._arguments(stream, entries)]
            for stream, entries in pending.items()]
        commands += [["XADD", self._key(STATUS), "MAXLEN", "~", STATUS_KEPT, "*", *chain.from_iterable(fields.items())]
                     for _, fields in status]
        replies = self._store.execute(commands)
        failure: Exception | None = None
        for (stream, entries), reply in zip(pending.items(), replies, strict=False):
            if isinstance(reply, errors.NoScriptError):
                self._sha = None
            elif isinstance(reply, Exception):  # it may have been written in part
                self._known.pop(stream, None)
                failure = self._hold(stream, reply) or failure
            else:
                try:
                    self._take_reply(stream, entries, reply)
                except UnusableKeyError as error:
                    self._hold(stream, error)
        for (number, _), reply in zip(status, replies[len(pending):], strict=False):
            if isinstance(reply, Exception):
                failure = self._hold(STATUS, reply) or failure
                break
            self._held.pop(STATUS, None)
            self._status.remove_through(number)
        self._metrics.stage["publish"].observe(time.monotonic() - begin)
        self._tend()
        if failure:
            raise failure
        return True

    def _hold(self, stream: str, error: Exception) -> Exception | None:
        """Leaves a stream whose key alone is at fault aside for a while; returns an error that concerns all."""
        if error_kind(error) not in ("other", "noperm"):
            return error
        self._metrics.redis_errors.labels(error_kind(error)).inc()
        if stream not in self._held:
            log.error("events of the stream cannot be published: %s", describe(error, self._url),
                      extra={"stream": stream, "key": self._key(stream)})
        self._held[stream] = time.monotonic() + HOLD_SECONDS
        return None

    def _arguments(self, stream: str, entries: list[Entry]) -> list[Any]:
        known = self._known.get(stream)
        if known is not None:
            if not _rise(known, entries):
                self._spool.raise_ids(stream, entries, known)
            self._sent[stream] = max(entries[-1].seq, self._sent.get(stream, 0))
        return script_arguments(known, entries, self._config.maxlen or 0)

    def _take_reply(self, stream: str, entries: list[Entry], reply: object) -> None:
        known = self._known.pop(stream, None)
        outcome, last = parse_reply(reply, entries[-1].id if entries and known is not None else None)
        if max(last) > MOST_ID:
            raise UnusableKeyError(f"the key's last id {format_id(last)} leaves no room for later ones; delete the key")
        if outcome:
            if outcome == 2:
                self._note_deleted(stream)
            self._acknowledge(stream, entries)
            self._held.pop(stream, None)
        else:
            self._reconcile(stream, entries, last, known is not None)
        self._known[stream] = last  # after all that may fail: else the next round asks again

    def _reconcile(self, stream: str, entries: list[Entry], last: EntryId, was_known: bool) -> None:
        """Finds out why a key's last id is not the one expected, so that the next batch can be appended after it."""
        acknowledged = self._spool.acknowledged().get(stream, (0, 0))
        if found := self._acknowledge_found(stream, entries, last):
            log.info("replies had been lost; the entries are there", extra={"stream": stream, "events": found})
            self._metrics.resent.labels("lost_reply").inc(found)
        elif last == (0, 0) < acknowledged:
            self._note_deleted(stream)
        elif last < acknowledged:
            again = self._spool.rewind(stream, last)
            self._metrics.resent.labels("rewind").inc(again)
            log.warning("key lost entries that Redis had acknowledged (failover or restore); sending them again",
                        extra={"stream": stream, "was": format_id(acknowledged), "is": format_id(last),
                               "events": again})
        elif last > acknowledged and (was_known or acknowledged > (0, 0) or (entries and entries[0].id <= last)):
            self._note_other_writer(stream, last)
        self._spool.raise_ids(stream, [], last)

    def _acknowledge_found(self, stream: str, entries: list[Entry], last: EntryId) -> int:
        """Acknowledges the waiting entries that are in Redis, or have been and were removed; returns how many.

        Entries get there in order and are trimmed in order: the newest one found tells of all before it.
        """
        found, newest = 0, self._find_newest(stream, entries[0].id, last) if entries else None
        while newest:
            count = next((index + 1 for index, entry in enumerate(entries) if entry.id == newest), None)
            self._acknowledge(stream, entries[:count])
            found += len(entries[:count])
            entries = self._spool.pending(BATCH).get(stream, []) if count is None else []
            newest = newest if entries else None
        return found

    def _find_newest(self, stream: str, first: EntryId, last: EntryId) -> EntryId | None:
        """Returns the newest id between two at which the key holds a waiting entry; other writers' are passed over.

        Only what was sent, by this run or maybe by an earlier one, can be there: a recording that is replayed once more
        with the same times makes the same events again.
        """
        may_be_there = max(self._sent.get(stream, 0), self._spool.inherited)
        at_most, looking = format_id(last), first <= last
        while looking:
            page, = self._store.execute([["XREVRANGE", self._key(stream), at_most, format_id(first), "COUNT", BATCH]])
            if isinstance(page, Exception):
                raise page
            there = {parse_id(name): fields for name, fields in page}
            ours = self._spool.find(stream, {last, *there}, may_be_there)
            if ours is None:
                raise UnusableKeyError("the spool, which tells what is in Redis already, cannot be read; see to the "
                                       "disk of spool.path")
            if at_most == format_id(last) and last in ours and last not in there:
                return last  # ours, and removed by who read it
            for entry_id, fields in there.items():
                if entry_id in ours and all(
                        fields.get(key.encode()) == ours[entry_id].get(key) for key in ("source", "id")):
                    return entry_id
            looking = len(page) == BATCH
            at_most = f"({page[-1][0].decode()}" if page else ""
        return None

    def _note_other_writer(self, stream: str, last: EntryId) -> None:
        if time.monotonic() >= self._said.get(stream, 0.0):
            self._said[stream] = time.monotonic() + SAID_SECONDS
            log.warning("key holds later entries of another writer; going on above them",
                        extra={"stream": stream, "last_id": format_id(last)})

    def _note_deleted(self, stream: str) -> None:
        log.warning("key was deleted by someone; going on without its old entries", extra={"stream": stream})

    def _acknowledge(self, stream: str, entries: list[Entry]) -> None:
        now = time.monotonic()
        self._metrics.published(
            stream, len(entries), [now - entry.arrived for entry in entries if not math.isnan(entry.arrived)])
        self._spool.acknowledge(stream, entries)  # last: a removed stream's series go once nothing of it waits

    def _tend(self) -> None:
        """Trims the keys by age, and has streams forgotten that are gone, once nothing is left to be trimmed."""
        if time.monotonic() < self._next_trim:
            return
        self._next_trim = time.monotonic() + TRIM_SECONDS
        gone = self._spool.gone()
        if self._config.max_age is not None:
            oldest = int((time.time() - self._config.max_age) * 1000)
            trimmed = self._trim(oldest, gone)
            gone = {stream: last for stream, last in gone.items()
                    if last == (0, 0) or (last[0] < oldest and stream in trimmed)}
        for stream in gone:
            self._spool.forget(stream)
            for of in (self._known, self._held, self._sent, self._said):
                of.pop(stream, None)

    def _trim(self, oldest: int, exactly: Collection[str]) -> set[str]:
        """Removes entries with ids below a time in ms, of some streams to the last one; returns streams of which."""
        streams = list(self._known)
        replies = self._store.execute([
            ["XTRIM", self._key(stream), "MINID", "=" if stream in exactly else "~", oldest] for stream in streams])
        failed = [reply for reply in replies if isinstance(reply, Exception)]
        if failed:
            self._metrics.redis_errors.labels(error_kind(failed[0])).inc(len(failed))
            log.warning("entries older than redis.max_age stay: %s", describe(failed[0], self._url))
        return {stream for stream, reply in zip(streams, replies, strict=True) if not isinstance(reply, Exception)}

    def _note_failure(self, error: Exception) -> None:
        self._spool.expires = False  # another server may answer next, and lack what this one had
        kind, text = error_kind(error), describe(error, self._url)
        self._metrics.redis_errors.labels(kind).inc()
        self._metrics.redis_up.set(0)
        if self.error is None or kind != self._error_kind:
            log.warning("%s", text)
        self.connected, self.error, self._error_kind = False, text, kind
        if kind == "readonly":
            self._store.disconnect()  # the server is a replica now

    def _note_success(self) -> None:
        if not self.connected:
            log.info("Redis answers at %s", redact(self._url))
            self.connected, self.error = True, None
            self._metrics.redis_up.set(1)


def _alike(entries: list[Entry]) -> list[Entry]:
    """Returns the first entries that have as many fields; an earlier version of the daemon may have written fewer."""
    width = len(entries[0].fields)
    for index, entry in enumerate(entries):
        if len(entry.fields) != width:
            return entries[:index]
    return entries


def _rise(last: EntryId, entries: list[Entry]) -> bool:
    """Tells whether entries have ids above one, and in order."""
    for entry in entries:
        if entry.id <= last:
            return False
        last = entry.id
    return True

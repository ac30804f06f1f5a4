"""A subscription: typed events one after another, for a loop or for an asynchronous one."""

import asyncio
import threading
import time
from collections import deque
from functools import partial
from types import TracebackType
from typing import Self

import redis.exceptions as errors

from emotiond.client.entries import StoredEntry
from emotiond.client.event import Event, make_event
from emotiond.client.group import Group
from emotiond.client.reader import Reader
from emotiond.client.worker import Worker

FLUSH_SECONDS = 0.1     # how long an acknowledgement waits for others, to be sent together


class Subscription:
    """Events as they come, to be iterated by one thread (`for`) or one task (`async for`).

    In a group, an event counts as processed when the next one is asked for. It holds one batch at most, 100 entries of
    a key; a slow loop falls behind and harms nobody.
    """

    def __init__(self, reader: Reader, group: Group | None = None, *, manual: bool = False) -> None:
        """Connects when it is entered, or when the first event is asked for.

        Args:
            reader: gives the entries.
            group: as whose member it reads.
            manual: whether an event of a group is processed only when `acknowledge` says so.
        """
        self._reader, self._group, self._manual = reader, group, manual
        self._entries: deque[StoredEntry] = deque()
        self._stale_at = 0.0            # when what waits may soon be another consumer's
        self._in_hand: StoredEntry | None = None
        self._begins_anew = False       # a loop that began after another one was left
        self._next_flush = 0.0
        self._flushes_later = False
        self._lock = threading.Lock()   # held while Redis is asked; whoever only closes does not wait for it
        self._worker = Worker()
        self._pending: asyncio.Future[Event | None] | None = None

    def __iter__(self) -> Self:
        """Returns itself; what a loop before was left with comes again, unless it was acknowledged."""
        self._begins_anew = True
        return self

    def __next__(self) -> Event:
        """Waits for the next event; the one before counts as processed.

        Raises:
            RefusedError: a password, rights or a key are wrong.
        """
        with self._lock:
            self._let_go()
            while (entry := self._take()) is not None:
                event = make_event(entry)
                if event is not None:
                    if self._group:
                        self._group.hand_out(entry)
                    self._in_hand = entry
                    self._flush()
                    return event
                if self._group:     # nobody can process it, ever
                    self._group.acknowledge(entry.key, entry.id)
            self._reader.close()
            raise StopIteration

    def acknowledge(self, event: Event) -> None:
        """Says that an event of a group was processed; any thread may. Redis hears of it within half a second.

        Raises:
            ValueError: there is no group.
        """
        if self._group is None:
            raise ValueError("without a group there is nothing to acknowledge; subscribe with group=")
        self._group.acknowledge(event.key, event.entry_id)
        if self._lock.acquire(blocking=False):
            try:
                self._flush()
                self._leave()
            finally:
                self._lock.release()
        else:       # the thread that reads tells Redis, or it is told later
            self._flush_later()

    def close(self) -> None:
        """Ends the subscription; any thread and any signal's handler may.

        A loop that waits ends within half a second, one that works at an event when it asks for the next, or when
        `with` is left: only then is what was read and not processed handed back to the group.
        """
        self._reader.closing = True
        if self._lock.acquire(blocking=False):      # else the thread that reads does this
            try:
                self._leave()
            finally:
                self._lock.release()

    def __enter__(self) -> Self:
        """Connects, so that `new` is what comes from now on; waits for nothing where Redis does not answer."""
        with self._lock:
            try:
                self._reader.look()
            except (errors.RedisError, OSError) as error:
                self._reader.note_outage(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the subscription."""
        self._end()

    def __aiter__(self) -> Self:
        """As `__iter__`."""
        if self._pending is None:       # else the next event is one that nobody got
            self._begins_anew = True
        return self

    async def __anext__(self) -> Event:
        """As `__next__`; an event that comes while nobody waits any more is the next one's."""
        if self._pending is None:
            self._pending = self._worker.call(partial(next, self, None))
        try:
            event = await asyncio.shield(self._pending)
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._pending = None
            raise
        self._pending = None
        if event is None:
            self._worker.stop()
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Ends the subscription; an event that was read and that nobody got is handed back."""
        self._reader.closing = True
        if self._pending is not None:
            await asyncio.wait([self._pending])
            self._pending.exception()       # was looked at
            self._pending = None
        await self._worker.call(self._end)
        self._worker.stop()

    async def __aenter__(self) -> Self:
        """As `__enter__`."""
        return await self._worker.call(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the subscription."""
        await self.aclose()

    def _end(self) -> None:
        """Closes it, whatever another thread does at the moment."""
        self._reader.closing = True
        with self._lock:
            self._reader.close()

    def _take(self) -> StoredEntry | None:
        """Returns the next entry, None when the subscription is over."""
        if self._group and self._entries and time.monotonic() >= self._stale_at:
            self._group.read_again(self._entries)
            self._entries.clear()
        if not self._entries:
            self._entries.extend(self._reader.read())
            self._stale_at = time.monotonic() + (self._group.reclaim_after / 3 if self._group else 0)
        return self._entries.popleft() if self._entries and not self._reader.closing else None

    def _let_go(self) -> None:
        """Acknowledges the event in hand, or has it come again where a loop was left with it."""
        entry, anew = self._in_hand, self._begins_anew
        self._in_hand, self._begins_anew = None, False
        if entry is None or self._group is None or self._manual:
            return
        if not anew:
            self._group.acknowledge(entry.key, entry.id)
        elif self._group.take_back(entry):
            self._entries.appendleft(entry._replace(redelivered=True))

    def _leave(self) -> None:
        """Leaves a subscription that was closed; not while an event is in hand, which another consumer would get."""
        if self._reader.closing and (self._in_hand is None or self._group is None):
            self._reader.close()

    def _flush(self) -> None:
        """Sends acknowledgements, now where the last time was long enough ago; each read sends them too."""
        if self._group is None or not self._group.unsent:
            return
        if time.monotonic() < self._next_flush:
            self._flush_later()
        else:
            self._next_flush = time.monotonic() + FLUSH_SECONDS
            self._reader.flush()

    def _flush_later(self) -> None:
        """Sends acknowledgements soon, though nobody may ask for an event until then."""
        if not self._flushes_later:
            self._flushes_later = True
            timer = threading.Timer(FLUSH_SECONDS, self._flush_now)
            timer.daemon = not self._reader.closing     # as long as the lock may be held for ever
            timer.start()

    def _flush_now(self) -> None:
        with self._lock:
            self._flushes_later = False
            self._reader.flush()
            self._leave()

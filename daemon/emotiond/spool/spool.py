"""The spool as a whole: what timelines put in, the publisher takes out, and a thread of its own writes to the disk.

`put` takes an event and never waits for the disk; the thread commits what came in, and only then does the publisher see
it. While the disk takes nothing, events are published from memory, as many as fit there.
"""

import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import EntryId
from emotiond.spool.commit import Batch, store
from emotiond.spool.database import (
    CorruptRecordError,
    Position,
    SpoolFile,
    decode_record,
    is_damage,
    is_full,
)
from emotiond.spool.queues import Entry, Incoming, Queue
from emotiond.spool.repair import rebuild

GATHER_SECONDS = 0.02      # after a commit, how long events gather for the next one
IDLE_SECONDS = 1.0         # how often positions are committed and old events removed when no new ones come
MEMORY_BYTES = 32 << 20    # most bytes of events that wait for the disk
_POLL_SECONDS = 0.1        # how soon a thread that waits for room notices that it shall stop
_OVERHEAD = 120            # bytes of an event beside its fields, in the table and its index, about

log = logging.getLogger(__name__)

_T = TypeVar("_T")

Loss = Literal["spool_full", "disk_error"]


class Listener(Protocol):
    """Counts what becomes of events; called with locks held."""

    def produced(self, stream: str, events: int) -> None:
        """So many events are safe, or were lost before they were."""
        ...

    def lost(self, stream: str, reason: Loss, events: int) -> None:
        """So many events will never be published."""
        ...


class Spool:
    """Holds events until Redis acknowledged them. Full: live streams lose their oldest, file readers wait.

    Attributes:
        max_bytes: the most it holds.
        durable: whether events outlive the process.
        failing: why the disk takes no events at present, None while it does.
        inherited: seq up to which events are an earlier run's.
        commits: counts up while the spool's thread goes on.
        expires: whether acknowledged events may go when they were kept long enough; not while nobody knows whether
            Redis still has them.
    """

    def __init__(self, path: Path | None, max_bytes: int, keep_seconds: float, listener: Listener) -> None:
        """Opens the spool with what an earlier run left in it.

        Args:
            path: of the database; None holds everything in memory.
            max_bytes: the most it holds.
            keep_seconds: how long acknowledged events stay, to be sent again should Redis lose them.
            listener: counts.

        Raises:
            ConfigError: the file cannot be used.
            UnavailableError: the disk fails.
        """
        self.max_bytes, self.durable = max_bytes, path is not None
        self.failing: str | None = None
        self.commits, self.expires = 0, True
        self._path, self._keep_seconds, self._listener = path, keep_seconds, listener
        self._disk = threading.Lock()     # taken before the other; held while the database works
        self._lock = threading.Lock()     # guards what follows, and is never held for long
        self._came_in, self._sendable, self._went_out = (threading.Condition(self._lock) for _ in range(3))
        self._queues: dict[str, Queue] = {}
        self._incoming = Incoming()
        self._damaged: dict[int, int] = {}    # seq -> size of events that cannot be read, until they are removed
        self._stored_bytes = 0
        self._seq = time.time_ns() // 1000    # above those of earlier runs, also where they cannot be read
        self._writing = 0                     # seq up to which a commit is under way
        self._woken = False
        self._next_look = 0.0
        self._stop = threading.Event()
        self._file: SpoolFile | None = None
        try:
            self._open()
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.Error) and not (is_damage(error) or is_full(error)):
                raise UnavailableError(f"spool.path: {path} cannot be read ({error}); mend the disk, or name another "
                                       "file") from None
            self._fail(error)
        self.inherited = self._seq

    def add_stream(self, stream: str) -> None:
        """Makes room for a stream, or takes up what an earlier run left of it."""
        with self._lock:
            if stream not in self._queues:
                number = max((queue.position.number for queue in self._queues.values()), default=0) + 1
                self._queues[stream] = Queue(stream, Position(number))

    def put(
        self, stream: str, fields: dict[str, bytes], captured_us: int, arrived: float, arrived_us: int | None
    ) -> None:
        """Adds an event with the stream's next entry id; never waits for the disk.

        A file's event is always taken: the frames that a file has in flight are few, and its reader waits for room.

        Args:
            stream: the stream's name.
            fields: the entry's fields.
            captured_us: capture time.
            arrived: monotonic seconds when the frame was read.
            arrived_us: the host's clock then, or None for a file's frame.
        """
        size = sum(len(key) + len(value) for key, value in fields.items()) + _OVERHEAD
        with self._lock:
            queue = self._queues[stream]
            position = queue.position
            position.live = arrived_us is not None
            while position.live and self._incoming.bytes + size > MEMORY_BYTES:
                if not self._drop_oldest_incoming():
                    self._listener.produced(stream, 1)
                    self._listener.lost(stream, "disk_error", 1)
                    return
            self._seq += 1
            position.last = queue.ids.next(captured_us, arrived_us)
            self._incoming.add(queue, Entry(self._seq, position.last, fields, captured_us, arrived, size))
            queue.changed = True
            position.waiting += 1
            position.waiting_bytes += size
            self._came_in.notify()

    def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Waits while the spool is full and `stopped` does not say so: what a file's reader does before each frame."""
        with self._lock:
            while self._is_full() and not stopped():
                self._went_out.wait(_POLL_SECONDS)

    def run(self) -> None:
        """Commits what comes in until `stop`, and then once more; the whole life of the spool's thread."""
        due = 0.0
        while not self._stop.is_set():
            with self._lock:
                if not self._incoming.bytes:
                    self._came_in.wait(IDLE_SECONDS)
            self._stop.wait(max(due - time.monotonic(), 0.0))  # a lone event does not wait for others
            self.commit()
            due = time.monotonic() + (IDLE_SECONDS if self.failing else GATHER_SECONDS)
        self.commit()

    def commit(self) -> None:
        """Writes what came in and what Redis acknowledged, and removes what was kept long enough; all or nothing."""
        with self._disk:
            if self._file is None:
                self._open_late()
            batch = self._begin()
            try:
                if self._file and not batch.empty:
                    store(self._file, batch, list(self._queues.values()), self.max_bytes - self._stored_bytes)
                    self._settle(batch)
            except sqlite3.Error as error:
                self._fail(error)
            finally:
                self._writing = 0
            self._look_up_oldest()
        self.commits += 1

    def pending(self, most: int) -> dict[str, list[Entry]]:
        """Returns up to `most` of the oldest entries of each stream that has any to send; they stay."""
        with self._disk:
            with self._lock:
                queues = [queue for queue in self._queues.values() if self._has_to_send(queue)]
            found = {queue.name: self._read(queue, most) for queue in queues}
        return {stream: entries for stream, entries in found.items() if entries}

    def find(self, stream: str, entry_id: EntryId) -> tuple[int, dict[str, bytes]] | None:
        """Returns seq and fields of the waiting event with an entry id, None without one."""
        with self._disk:
            queue = self._queues[stream]
            position = queue.position
            row = self._on_disk(lambda file: file.find(position.number, entry_id, position.acked))
            with contextlib.suppress(CorruptRecordError):
                if row:
                    return row[0], decode_record(row[7])
            with self._lock:
                return next(((entry.seq, entry.fields) for entry in self._incoming.of(queue)
                             if entry.id == entry_id), None)

    def acknowledge(self, stream: str, entries: list[Entry]) -> None:
        """Notes that Redis has entries, the first of those that `pending` returned for a stream."""
        if not entries:
            return
        with self._lock:
            queue = self._queues[stream]
            position = queue.position
            position.acked, position.acked_id = entries[-1].seq, entries[-1].id
            self._leave(queue, len(entries), sum(entry.size for entry in entries))
            queue.kept.append((time.monotonic(), position.acked))
            queue.changed = True
            if self.failing and queue.unstored:  # some were sent from memory
                self._incoming.remove_of(queue, position.acked)

    def acknowledged(self) -> dict[str, EntryId]:
        """Returns, for each stream of which Redis acknowledged anything, in whatever run, the last one's entry id."""
        with self._lock:
            return {name: queue.position.acked_id for name, queue in self._queues.items()
                    if queue.position.acked_id > (0, 0)}

    def rewind(self, stream: str, last: EntryId) -> int:
        """Takes acknowledgements above an entry id back, as far as events are kept; returns of how many."""
        with self._disk:
            queue = self._queues[stream]
            position = queue.position
            first, events, size = self._on_disk(lambda file: _kept_above(file, position, last)) or (None, 0, 0)
            with self._lock:
                position.acked_id, queue.changed = last, True
                if first is not None:
                    gone = [s for seq, s in self._damaged.items() if first <= seq <= position.acked]
                    position.acked = first - 1
                    self._leave(queue, len(gone) - events, sum(gone) - size)
                    queue.kept = deque((when, min(seq, first - 1)) for when, seq in queue.kept)
                    events -= len(gone)
            return events

    def raise_ids(self, stream: str, entries: list[Entry], above: EntryId) -> None:
        """Gives entries that are about to be sent ids above `above` and in order, and those to come too."""
        with self._disk:
            queue, changed = self._queues[stream], list[Entry]()
            for entry in entries:
                if entry.id <= above:
                    entry.id = (above[0], above[1] + 1)
                    changed.append(entry)
                above = entry.id
            if changed:  # where the disk fails, a run after this one may not know them again
                self._on_disk(lambda file: file.set_ids((entry.id, entry.seq) for entry in changed))
            with self._lock:
                queue.ids.rise_above(above)
                queue.position.last, queue.changed = queue.ids.last, True

    def wait(self, seconds: float) -> bool:
        """Waits until there may be something to send, at most so long; returns whether it had to wait."""
        with self._lock:
            had_to = not self._woken and not any(map(self._has_to_send, self._queues.values()))
            if had_to:
                self._sendable.wait(seconds)
            self._woken = False
            return had_to

    def wake(self) -> None:
        """Ends a `wait`, also one that begins later."""
        with self._lock:
            self._woken = True
            self._sendable.notify_all()

    def figures(self) -> tuple[int, int, float]:
        """Returns events that wait, their bytes, and the capture time of the oldest in seconds (0 without one)."""
        with self._lock:
            waiting = [queue for queue in self._queues.values() if queue.position.waiting]
            oldest = min((queue.oldest_us for queue in waiting if queue.oldest_us), default=0)
            return (sum(queue.position.waiting for queue in waiting),
                    sum(queue.position.waiting_bytes for queue in waiting), oldest / 1_000_000)

    def waiting(self, stream: str) -> int:
        """Returns how many events of a stream wait."""
        with self._lock:
            return self._queues[stream].position.waiting

    def drain(self, deadline: float, give_up: Callable[[], bool] = lambda: False) -> int:
        """Waits until nothing waits, or monotonic time `deadline`, or `give_up`; returns how many events are left."""
        with self._lock:
            while left := sum(queue.position.waiting for queue in self._queues.values()):
                rest = deadline - time.monotonic()
                if rest <= 0 or give_up():
                    break
                self._went_out.wait(min(rest, _POLL_SECONDS))
            return left

    def all_stored(self) -> bool:
        """Tells whether every event is on the disk, and so outlives the process."""
        return self.durable and not self._incoming.bytes

    def stop(self) -> None:
        """Ends `run`."""
        self._stop.set()
        with self._lock:
            self._came_in.notify()

    def close(self) -> None:
        """Closes the file; nothing may be put or read afterwards."""
        with self._disk:
            if self._file:
                self._file.close()
                self._file = None

    # Everything below is called with the disk's lock held, unless its first line names the other one.

    def _open(self) -> None:
        file = SpoolFile(self._path)
        try:
            self._load(file)
        except BaseException:
            file.close()
            raise

    def _open_late(self) -> None:
        try:
            self._open()
        except (sqlite3.Error, OSError, ConfigError) as error:
            self._fail(error)

    def _load(self, file: SpoolFile) -> None:
        """Takes a database over: its streams, and how much of each waits there."""
        found, stored, seq = file.positions(), file.bytes(), file.last_seq()
        with self._lock:
            for name, position in found.items():
                if name not in self._queues:
                    self._queues[name] = Queue(name, position, changed=False)
                    self._queues[name].ids.rise_above(max(position.last, position.acked_id))
            for queue in self._queues.values():
                self._count_again(queue, *file.count_after(queue.position.number, queue.position.acked))
            self._file, self._stored_bytes, self._seq = file, stored, max(self._seq, seq)

    def _count_again(self, queue: Queue, events: int, size: int) -> None:
        """Needs the lock: compares what waits with what a database has of it."""
        position = queue.position
        before = position.waiting
        position.waiting = queue.unstored + events
        position.waiting_bytes = size + sum(entry.size for entry in self._incoming.of(queue))
        queue.kept = deque([(time.monotonic(), position.acked)])
        if before > position.waiting:
            self._listener.lost(queue.name, "disk_error", before - position.waiting)

    def _begin(self) -> Batch:
        before = time.monotonic() - self._keep_seconds if self.expires else -math.inf
        with self._lock:
            queues = list(self._queues.values())
            batch = Batch(
                self._incoming.all(), {queue.name: replace(queue.position) for queue in queues if queue.changed},
                {queue: through for queue in queues if (through := queue.kept_until(before))}, set(self._damaged))
            self._writing = batch.last_seq
            return batch

    def _settle(self, batch: Batch) -> None:
        """Does in memory what a commit did on the disk."""
        with self._lock:
            if self.failing:
                log.info("events are stored on the disk again")
                self.failing = None
            self._stored_bytes += batch.growth
            self._incoming.remove_through(batch.last_seq)
            for queue, count in Counter(queue for queue, entry in batch.entries if entry.seq > queue.produced).items():
                self._listener.produced(queue.name, count)
            for queue, entry in batch.entries:
                queue.produced = max(queue.produced, entry.seq)
            for queue, size in batch.lost.values():
                self._leave(queue, 1, size)
                self._listener.lost(queue.name, "spool_full", 1)
            for queue, through in batch.expired.items():
                while queue.kept and queue.kept[0][1] <= through:
                    queue.kept.popleft()
            for seq in batch.damaged:
                self._damaged.pop(seq, None)
            for name, position in batch.positions.items():
                self._queues[name].changed = self._queues[name].position != position
            self._sendable.notify_all()

    def _on_disk(self, work: Callable[[SpoolFile], _T]) -> _T | None:
        """Returns what the work on the database returns, None where the disk fails."""
        try:
            return work(self._file) if self._file else None
        except sqlite3.Error as error:
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        """Goes on from memory until the disk takes events again, or with a new file in the place of a damaged one."""
        if isinstance(error, sqlite3.Error) and is_damage(error) and self._path:
            self._rebuild(self._path, error)
        else:
            self._note_failing(error)
        with self._lock:
            self._sendable.notify_all()

    def _note_failing(self, error: Exception) -> None:
        if not self.failing:
            log.error("events cannot be stored (%s) and are published from memory; see to the disk of spool.path",
                      error, extra={"path": str(self._path)})
        self.failing = str(error)

    def _rebuild(self, path: Path, error: sqlite3.Error) -> None:
        if self._file:
            self._file.close()
        self._file = None
        with self._lock:
            known = {name: replace(queue.position) for name, queue in self._queues.items()}
        try:
            aside, count = rebuild(path, known, set(self._damaged))
            self._damaged.clear()
            self._open()
        except (sqlite3.Error, OSError, ConfigError) as second:
            self._note_failing(second)
        else:
            log.error("the spool is damaged (%s): it is set aside, and what can be read of it is in a new one", error,
                      extra={"path": str(path), "aside": str(aside), "events_read": count})

    def _read(self, queue: Queue, most: int) -> list[Entry]:
        position = queue.position
        rows = self._on_disk(lambda file: file.after(position.number, position.acked, most))
        if rows is None and position.waiting > queue.unstored:
            return []  # what memory has must not overtake it
        entries: list[Entry] = []
        for seq, _, ms, n, captured_us, arrived, size, record in rows or ():
            try:
                fields = decode_record(record)
            except CorruptRecordError:
                self._note_damaged(queue, seq, size)
            else:
                entries.append(Entry(
                    seq, (ms, n), fields, captured_us, arrived if seq > self.inherited else math.nan, size))
        with self._lock:
            if self.failing and len(rows or ()) < most:
                entries += self._read_memory(queue, most - len(entries))
            if entries:
                queue.sent = max(queue.sent, entries[-1].seq)
        return entries

    def _note_damaged(self, queue: Queue, seq: int, size: int) -> None:
        """Counts an event whose record is not what was written, once, and has the next commit remove it."""
        with self._lock:
            if seq not in self._damaged:
                log.error("an event in the spool is damaged and skipped", extra={"stream": queue.name, "seq": seq})
                self._damaged[seq] = size
                self._leave(queue, 1, size)
                self._listener.lost(queue.name, "disk_error", 1)

    def _look_up_oldest(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + IDLE_SECONDS
        for queue in list(self._queues.values()):
            if not queue.position.waiting:
                queue.oldest_us = 0
                continue
            oldest = self._on_disk(lambda file, p=queue.position: file.after(p.number, p.acked, 1))
            with self._lock:
                queue.oldest_us = (oldest[0][4] if oldest else
                                   next((entry.captured_us for entry in self._incoming.of(queue)), 0))

    # Everything below needs the lock.

    def _read_memory(self, queue: Queue, most: int) -> list[Entry]:
        """Returns the first of a stream's events that only memory has; they count as produced now."""
        entries = list(islice(self._incoming.of(queue), most))
        new = [entry.seq for entry in entries if entry.seq > queue.produced]
        if new:
            queue.produced = new[-1]
            self._listener.produced(queue.name, len(new))
        return entries

    def _drop_oldest_incoming(self) -> bool:
        """Drops an event that only memory has; returns whether there was one that could go."""
        dropped = self._incoming.drop_oldest(self._writing)
        if dropped:
            queue, entry = dropped
            self._leave(queue, 1, entry.size)
            if entry.seq > queue.produced:
                self._listener.produced(queue.name, 1)
            self._listener.lost(queue.name, "disk_error", 1)
        return dropped is not None

    def _leave(self, queue: Queue, events: int, size: int) -> None:
        queue.position.waiting -= events
        queue.position.waiting_bytes -= size
        self._went_out.notify_all()

    def _has_to_send(self, queue: Queue) -> bool:
        return queue.position.waiting > (0 if self.failing else queue.unstored)

    def _is_full(self) -> bool:
        waiting = sum(queue.position.waiting_bytes for queue in self._queues.values())
        return waiting >= self.max_bytes or self._incoming.bytes >= MEMORY_BYTES


def _kept_above(file: SpoolFile, position: Position, last: EntryId) -> tuple[int | None, int, int]:
    """Returns seq of the first acknowledged event above an entry id, and how many there are, and their bytes."""
    first = file.first_above(position.number, last, position.acked)
    if first is None:
        return None, 0, 0
    events, size = file.count_after(position.number, first - 1)
    waiting, waiting_size = file.count_after(position.number, position.acked)
    return first, events - waiting, size - waiting_size

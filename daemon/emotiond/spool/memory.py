"""What the spool knows without its disk: the streams' queues and the events that are not stored yet, under one lock."""

import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Literal, Protocol

from emotiond.spool.commit import Batch
from emotiond.spool.database import Position
from emotiond.spool.queues import Entry, Incoming, Queue

MEMORY_BYTES = 32 << 20    # most bytes of events that wait for the disk
FRESH_BYTES = 16 << 20     # of stored events that are kept for the publisher, which else reads them from the disk
FRESH_EVENTS = 1000        # of them of a stream: one whose key refuses writing leaves room for others

log = logging.getLogger(__name__)

Loss = Literal["spool_full", "disk_error"]


class Listener(Protocol):
    """Counts what becomes of events; called with locks held."""

    def produced(self, stream: str, events: int) -> None:
        """So many events are safe, or were lost before they were."""
        ...

    def lost(self, stream: str, reason: Loss, events: int) -> None:
        """So many events will never be published."""
        ...


class Signal:
    """What one thread waits for; set while it does not wait, it ends the next wait.

    Being woken by a Condition takes 160 us of a core, by this 115: at ordinary rates that is much of an event's cost.
    """

    def __init__(self) -> None:
        """Begins unset."""
        self._set: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ends the wait; for any thread."""
        if self._set.empty():
            self._set.put(None)

    def wait(self, seconds: float) -> None:
        """Waits until it is set, at most so long, and unsets it."""
        with suppress(Empty):
            self._set.get(timeout=seconds)


class Memory:
    """The spool's state; every method needs the lock.

    Attributes:
        lock: guards everything here, and is never held for long.
        came_in: set when an event is put and only memory has none yet.
        sendable: set when there may be something to send.
        went_out: told when events leave.
        queues: stream -> its events.
        incoming: those that only memory has.
        fresh_bytes: size of the stored events that memory still has.
        dropping: whether a commit is under way that may choose stored events to drop, so that none may be sent.
        damaged: seq -> size of events that cannot be read, until they are removed.
        failing: why the disk takes no events at present, None while it does.
        seq: that of the last event that was put.
        writing: seq up to which a commit is under way.
        listener: counts.
    """

    def __init__(self, listener: Listener) -> None:
        """Begins without streams."""
        self.lock = threading.Lock()
        self.came_in, self.sendable = Signal(), Signal()
        self.went_out = threading.Condition(self.lock)
        self.queues: dict[str, Queue] = {}
        self.incoming = Incoming()
        self.fresh_bytes = 0
        self.dropping = False
        self.damaged: dict[int, int] = {}
        self.failing: str | None = None
        self.seq = time.time_ns() // 1000    # above those of earlier runs, also where they cannot be read
        self.writing = 0
        self.listener = listener

    def want(self, stream: str) -> None:
        """Makes room for a stream, or takes up what is left of it."""
        if stream not in self.queues:
            number = max((queue.position.number for queue in self.queues.values()), default=0) + 1
            self.queues[stream] = Queue(stream, Position(number))
        queue = self.queues[stream]
        queue.changed |= queue.forgotten  # its row may be gone
        queue.wanted, queue.forgotten = True, False

    def add(self, queue: Queue, entry: Entry) -> None:
        """Takes a new event."""
        first = not self.incoming.bytes
        self.incoming.add(queue, entry)
        queue.changed = True
        queue.position.waiting += 1
        queue.position.waiting_bytes += entry.size
        if first:
            self.came_in.set()

    def make_room(self, size: int) -> bool:
        """Drops the oldest events that only memory has until it has room; returns whether that was possible."""
        while self.incoming.bytes + size > MEMORY_BYTES:
            dropped = self.incoming.drop_oldest(self.writing)
            if not dropped:
                return False
            queue, entry = dropped
            self.leave(queue, 1, entry.size)
            if entry.seq > queue.produced:
                self.listener.produced(queue.name, 1)
            self.listener.lost(queue.name, "disk_error", 1)
        return True

    def leave(self, queue: Queue, events: int, size: int) -> None:
        """Notes that so many events of a stream wait no more."""
        queue.position.waiting -= events
        queue.position.waiting_bytes -= size
        self.went_out.notify_all()

    def has_to_send(self, queue: Queue) -> bool:
        """Tells whether a stream has events that the publisher may see."""
        return queue.position.waiting > (0 if self.failing else queue.unstored)

    def keep_fresh(self, queue: Queue, entries: list[Entry]) -> None:
        """Keeps a stream's events that were just stored, where there is room and all that wait before them are kept."""
        size = sum(entry.size for entry in entries)
        if queue.all_fresh and len(queue.fresh) < FRESH_EVENTS and self.fresh_bytes + size <= FRESH_BYTES:
            queue.fresh.extend(entries)
            self.fresh_bytes += size
        queue.last_stored = entries[-1].seq

    def drop_fresh(self, queue: Queue, through: float = math.inf) -> None:
        """Keeps a stream's stored events up to a seq no longer."""
        while queue.fresh and queue.fresh[0].seq <= through:
            self.fresh_bytes -= queue.fresh.popleft().size

    def is_full(self, max_bytes: int) -> bool:
        """Tells whether the readers of files have to wait."""
        waiting = sum(queue.position.waiting_bytes for queue in self.queues.values())
        return waiting >= max_bytes or self.incoming.bytes >= MEMORY_BYTES

    def read(self, queue: Queue, most: int) -> list[Entry]:
        """Returns the first of a stream's events where memory has them, those not stored only while the disk fails."""
        if self.dropping:
            return []
        entries = list(islice(queue.fresh, most))
        if self.failing and queue.all_fresh and len(entries) == len(queue.fresh):
            entries += self.read_unstored(queue, most - len(entries))
        if entries:
            queue.sent = max(queue.sent, entries[-1].seq)
        return entries

    def read_unstored(self, queue: Queue, most: int) -> list[Entry]:
        """Returns the first of a stream's events that only memory has; they count as produced now."""
        entries = list(islice(self.incoming.of(queue), most))
        new = [entry.seq for entry in entries if entry.seq > queue.produced]
        if new:
            queue.produced = new[-1]
            self.listener.produced(queue.name, len(new))
        return entries

    def note_damaged(self, queue: Queue, seq: int, size: int) -> None:
        """Counts an event whose record is not what was written, once, and has the next commit remove it."""
        if seq not in self.damaged:
            log.error("an event in the spool is damaged and skipped", extra={"stream": queue.name, "seq": seq})
            self.damaged[seq] = size
            self.leave(queue, 1, size)
            self.listener.lost(queue.name, "disk_error", 1)

    def take_over(self, positions: Mapping[str, Position]) -> None:
        """Adds the streams that a database has, and numbers the others as it does."""
        numbers = {position.number for position in positions.values()}
        for name, queue in self.queues.items():
            if name in positions:
                queue.position.number = positions[name].number
            elif queue.position.number in numbers:
                queue.position.number = max(numbers) + 1
            numbers.add(queue.position.number)
        for name, position in positions.items():
            if name not in self.queues:
                self.queues[name] = Queue(name, position, changed=False)
                self.queues[name].ids.rise_above(max(position.last, position.acked_id))

    def set_waiting(self, queue: Queue, events: int, size: int) -> None:
        """Notes what waits of a stream, of which so much is on the disk."""
        queue.position.waiting = queue.unstored + events
        queue.position.waiting_bytes = size + sum(entry.size for entry in self.incoming.of(queue))

    def count_again(self, queue: Queue, events: int, size: int) -> None:
        """Compares what waits of a stream with what a database has of it, up to this memory's `seq`."""
        self.drop_fresh(queue)
        queue.last_stored = self.seq if events else 0
        position = queue.position
        before = position.waiting
        self.set_waiting(queue, events, size)
        queue.kept = deque([(time.monotonic(), position.acked)] if position.acked else ())
        if before > position.waiting:
            queue.doubtful = True
            self.listener.lost(queue.name, "disk_error", before - position.waiting)

    def begin(self, kept_since: float, room: int) -> Batch:
        """Returns what a commit has to do.

        Args:
            kept_since: acknowledged events may go if they were by this monotonic time.
            room: bytes by which the database may grow.
        """
        batch = Batch(self.incoming.all(), self.incoming.bytes, {}, {}, set(self.damaged), [])
        for queue in self.queues.values():
            if queue.forgotten:
                batch.forgotten.append(queue)
            elif queue.changed:
                batch.positions[queue] = queue.position.row(queue.name)
                queue.changed = False
            if kept_since > -math.inf and (through := queue.kept_until(kept_since)):
                batch.expired[queue] = through
        self.writing, self.dropping = batch.last_seq, batch.bytes > room
        return batch

    def end(self, batch: Batch, *, written: bool) -> None:
        """Does in memory what a commit did on the disk, or has the next one do it."""
        self.writing, self.dropping = 0, False
        if not written:
            for queue in batch.positions:
                queue.changed = True
        elif not batch.empty:
            self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        if self.failing:
            log.info("events are stored on the disk again")
            self.failing = None
        produced: defaultdict[Queue, int] = defaultdict(int)
        for queue, entry in batch.entries:
            if entry.seq > queue.produced:
                queue.produced = entry.seq
                produced[queue] += 1
        for queue, count in produced.items():
            self.listener.produced(queue.name, count)
        stored: defaultdict[Queue, list[Entry]] = defaultdict(list)
        for queue, entry in self.incoming.remove_through(batch.last_seq):
            if entry.seq not in batch.lost:
                stored[queue].append(entry)
        for queue, size in batch.lost.values():
            self.drop_fresh(queue)
            self.leave(queue, 1, size)
            self.listener.lost(queue.name, "spool_full", 1)
        for queue, entries in stored.items():
            self.keep_fresh(queue, entries)
        for queue, through in batch.expired.items():
            while queue.kept and queue.kept[0][1] <= through:
                queue.kept.popleft()
        for seq in batch.damaged:
            self.damaged.pop(seq, None)
        for queue in batch.forgotten:
            if queue.forgotten:  # else it came back meanwhile
                del self.queues[queue.name]
        if batch.entries:
            self.sendable.set()

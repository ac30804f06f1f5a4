"""One transaction of the spool: what came in and how far Redis is go in; what was kept long enough goes out."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from emotiond.spool.database import SpoolFile, StreamRow, encode_record
from emotiond.spool.queues import Entry, Queue


@dataclass
class Batch:
    """What a commit does, as things stood when it began.

    Attributes:
        entries: the events that came in, oldest first.
        bytes: their size.
        positions: where streams are, of those that moved.
        expired: up to which seq acknowledged events go.
        damaged: seqs of events that cannot be read.
        forgotten: streams that go with all that is left of them.
        lost: seq -> queue and size of events that are dropped because there is no room.
        lost_bytes: size of those of them that came in.
        freed: bytes that left the database.
    """

    entries: list[tuple[Queue, Entry]]
    bytes: int
    positions: dict[Queue, StreamRow]
    expired: dict[Queue, int]
    damaged: set[int]
    forgotten: list[Queue]
    lost: dict[int, tuple[Queue, int]] = field(default_factory=dict[int, tuple[Queue, int]])
    lost_bytes: int = 0
    freed: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.entries or self.positions or self.expired or self.damaged or self.forgotten)

    @property
    def last_seq(self) -> int:
        """Seq of the newest event that came in, 0 without one."""
        return self.entries[-1][1].seq if self.entries else 0

    @property
    def growth(self) -> int:
        """Bytes by which the database grows."""
        return self.bytes - self.lost_bytes - self.freed


def store(file: SpoolFile, batch: Batch, queues: Iterable[Queue], room: int) -> None:
    """Writes a batch wholly or not at all; fills in what is lost and freed.

    Args:
        file: the database.
        batch: what is to be done.
        queues: all there are.
        room: bytes by which the database may grow.

    Raises:
        sqlite3.Error: nothing was written.
    """
    with file.transaction():
        batch.freed += file.delete(batch.damaged)
        for queue, through in batch.expired.items():
            batch.freed += file.delete_through(queue.position.number, through)
        for queue in batch.forgotten:
            batch.freed += file.delete_stream(queue.position.number)
        if batch.growth > room:
            _make_room(file, batch, queues, room)
        file.insert((entry.seq, queue.position.number, *entry.id, entry.captured_us, entry.arrived, entry.size,
                     encode_record(entry.fields)) for queue, entry in batch.entries if entry.seq not in batch.lost)
        file.save_positions(batch.positions.values())


def _make_room(file: SpoolFile, batch: Batch, queues: Iterable[Queue], room: int) -> None:
    """Removes what Redis has, then the oldest events of live streams, then, where files fill it, new live ones."""
    for queue in queues:
        if queue.kept:
            batch.expired[queue] = queue.kept[-1][1]
            batch.freed += file.delete_through(queue.position.number, batch.expired[queue])
    over = batch.growth - room
    live = [queue for queue in queues if queue.position.live]
    stored = heapq.merge(*(_stored(file, queue) for queue in live))
    new = ((entry.seq, entry.size, queue) for queue, entry in batch.entries if queue.position.live)
    for seq, size, queue in chain(stored, new):
        if over <= 0:
            break
        if not queue.may_be_in_redis(seq):
            batch.lost[seq] = queue, size
            over -= size
    freed = file.delete(batch.lost)
    batch.lost_bytes = sum(size for _, size in batch.lost.values()) - freed
    batch.freed += freed


def _stored(file: SpoolFile, queue: Queue) -> Iterator[tuple[int, int, Queue]]:
    """Yields seq and size of a stream's stored events that Redis has not acknowledged, oldest first."""
    for seq, size in file.sizes_after(queue.position.number, queue.position.acked):
        yield seq, size, queue

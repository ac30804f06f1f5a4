"""One transaction of the spool: what came in and how far Redis is go in; what was kept long enough goes out."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from emotiond.events import EntryId
from emotiond.spool.database import Position, SpoolFile, encode_record
from emotiond.spool.queues import Entry, Queue


@dataclass
class Batch:
    """What a commit does, as things stood when it began.

    Attributes:
        entries: the events that came in, oldest first.
        positions: stream -> where it is, of those that moved.
        expired: up to which id acknowledged events go.
        damaged: seq -> size of events that cannot be read.
        lost: seq -> queue and size of events that are dropped because there is no room.
        freed: bytes of acknowledged events that went.
    """

    entries: list[tuple[Queue, Entry]]
    positions: dict[str, Position]
    expired: dict[Queue, EntryId]
    damaged: dict[int, int]
    lost: dict[int, tuple[Queue, int]] = field(default_factory=dict[int, tuple[Queue, int]])
    freed: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.entries or self.positions or self.expired or self.damaged)

    @property
    def last_seq(self) -> int:
        """Seq of the newest event that came in, 0 without one."""
        return self.entries[-1][1].seq if self.entries else 0

    @property
    def growth(self) -> int:
        """Bytes by which the spool grows."""
        return (sum(entry.size for _, entry in self.entries) - self.freed
                - sum(size for _, size in self.lost.values()) - sum(self.damaged.values()))


def store(file: SpoolFile, batch: Batch, queues: Iterable[Queue], room: int) -> None:
    """Writes a batch wholly or not at all; fills in what is lost and freed.

    Args:
        file: the database.
        batch: what is to be done.
        queues: all there are.
        room: bytes by which the spool may grow.

    Raises:
        sqlite3.Error: nothing was written.
    """
    with file.transaction():
        for queue, through in batch.expired.items():
            batch.freed += file.delete_through(queue.position.number, through)
        file.delete(batch.damaged)
        if batch.growth > room:
            _make_room(file, batch, queues, room)
        file.insert((entry.seq, queue.position.number, *entry.id, entry.captured_us, entry.arrived, entry.size,
                     encode_record(entry.fields)) for queue, entry in batch.entries if entry.seq not in batch.lost)
        file.save_positions(batch.positions)


def _make_room(file: SpoolFile, batch: Batch, queues: Iterable[Queue], room: int) -> None:
    """Removes what Redis has, then the oldest events of live streams, then, where files fill it, new live ones."""
    for queue in queues:
        if queue.kept:
            batch.expired[queue] = queue.kept[-1][1]
            batch.freed += file.delete_through(queue.position.number, batch.expired[queue])
    over = batch.growth - room
    oldest = heapq.merge(*(_droppable(file, queue) for queue in queues if queue.position.live))
    new = ((entry.seq, entry.size, queue) for queue, entry in batch.entries if queue.position.live)
    for seq, size, queue in chain(oldest, new):
        if over <= 0:
            break
        batch.lost[seq] = queue, size
        over -= size
    file.delete(batch.lost)


def _droppable(file: SpoolFile, queue: Queue) -> Iterator[tuple[int, int, Queue]]:
    """Yields seq and size of a stream's events that cannot be in Redis, oldest first."""
    for seq, size in file.sizes_after(queue.position.number, max(queue.position.acked, queue.sent)):
        yield seq, size, queue

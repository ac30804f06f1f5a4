"""The events that wait for Redis, stream by stream, and those of them that are not on the disk yet."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from emotiond.events import EntryId, EntryIds
from emotiond.spool.database import Position


@dataclass(slots=True)
class Entry:
    """One entry of a stream's key, waiting for Redis.

    Attributes:
        seq: counts up over all events of the spool.
        id: ms and n; changed only when another writer's ids are in the way.
        fields: the entry's fields.
        captured_us: capture time.
        arrived: monotonic seconds when the frame was read, nan where an earlier run of the daemon read it.
        size: bytes it takes in the spool.
    """

    seq: int
    id: EntryId
    fields: dict[str, bytes]
    captured_us: int
    arrived: float
    size: int


@dataclass(eq=False)
class Queue:
    """A stream's events.

    Attributes:
        name: the stream.
        position: how far it is; goes to the disk with the next commit where `changed`.
        ids: gives entry ids.
        produced: seq of the last event that was counted as produced.
        sent: seq of the last event that the publisher has seen, which may therefore be in Redis.
        unstored: how many events only memory has.
        fresh: the first that wait, where they are stored and memory still has them.
        last_stored: seq of the last event that went to the disk; 0 where nothing waited there when it was opened.
        doubtful: whether events were lost that may be in Redis, so that what waits has to be counted.
        oldest_us: capture time of the first that waits, as last looked up; 0 for none.
        kept: when events were acknowledged, and up to which seq; until they have been kept long enough.
        wanted: whether events may still come; else it goes once `forgotten` is set.
        forgotten: the next commit removes it.
    """

    name: str
    position: Position
    ids: EntryIds = field(default_factory=EntryIds)
    changed: bool = True
    produced: int = 0
    sent: int = 0
    unstored: int = 0
    fresh: deque[Entry] = field(default_factory=deque[Entry])
    last_stored: int = 0
    doubtful: bool = False
    oldest_us: int = 0
    kept: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    wanted: bool = False
    forgotten: bool = False

    @property
    def all_fresh(self) -> bool:
        """Whether memory has all events that wait on the disk."""
        return self.last_stored <= (self.fresh[-1].seq if self.fresh else self.position.acked)

    @property
    def is_gone(self) -> bool:
        """Whether no event may come, waits, or is kept."""
        return not (self.wanted or self.position.waiting or self.kept)

    def kept_until(self, moment: float) -> int:
        """Returns up to which seq events were acknowledged at a monotonic time; 0 where none are kept so long."""
        through = 0
        for when, seq in self.kept:
            if when > moment:
                break
            through = seq
        return through

    def may_be_in_redis(self, seq: int) -> bool:
        """Tells whether the publisher has seen an event."""
        return seq <= max(self.sent, self.position.acked)


class Incoming:
    """Events that only memory has, in the order they came.

    Attributes:
        bytes: their size.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._entries: deque[tuple[Queue, Entry]] = deque()

    def has_through(self, seq: int) -> bool:
        """Tells whether any is no newer than one."""
        return bool(self._entries) and self._entries[0][1].seq <= seq

    def all(self) -> list[tuple[Queue, Entry]]:
        """Returns all of them with their streams."""
        return list(self._entries)

    def of(self, queue: Queue) -> Iterator[Entry]:
        """Yields those of a stream."""
        return (entry for mine, entry in self._entries if mine is queue)

    def add(self, queue: Queue, entry: Entry) -> None:
        """Takes a new one."""
        self._entries.append((queue, entry))
        self.bytes += entry.size
        queue.unstored += 1

    def remove_through(self, seq: int) -> list[tuple[Queue, Entry]]:
        """Removes and returns those that are on the disk now."""
        removed: list[tuple[Queue, Entry]] = []
        while self._entries and self._entries[0][1].seq <= seq:
            removed.append(self._entries.popleft())
        for queue, entry in removed:
            self._left(queue, entry)
        return removed

    def remove_of(self, queue: Queue, through: int) -> None:
        """Removes those of a stream up to a seq, which Redis has."""
        rest: deque[tuple[Queue, Entry]] = deque()
        for mine, entry in self._entries:
            if mine is queue and entry.seq <= through:
                self._left(mine, entry)
            else:
                rest.append((mine, entry))
        self._entries = rest

    def drop_oldest(self, after: int) -> tuple[Queue, Entry] | None:
        """Removes and returns a live stream's first event after a seq that cannot be in Redis; None without one."""
        for index, (queue, entry) in enumerate(self._entries):
            if queue.position.live and entry.seq > after and not queue.may_be_in_redis(entry.seq):
                del self._entries[index]
                self._left(queue, entry)
                return queue, entry
        return None

    def _left(self, queue: Queue, entry: Entry) -> None:
        self.bytes -= entry.size
        queue.unstored -= 1

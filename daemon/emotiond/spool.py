"""Events between the timelines and Redis, in memory: bounded, counted, in order for each stream."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from emotiond.events import EntryIds

_POLL_SECONDS = 0.1    # how soon a reader that waits for room notices that it shall stop
_ENTRY_OVERHEAD = 600  # bytes of Python objects around an entry's fields, about


@dataclass(slots=True)
class Entry:
    """One entry of a stream's key, waiting for Redis.

    Attributes:
        id: ms and n; changed only when another writer's ids are in the way.
        fields: the entry's fields.
        captured_us: capture time.
        arrived: monotonic seconds when the frame was read.
        size: bytes it takes in the spool.
    """

    id: tuple[int, int]
    fields: dict[str, bytes]
    captured_us: int
    arrived: float
    size: int


class _Queue:
    def __init__(self) -> None:
        self.live = True
        self.ids = EntryIds()
        self.entries: deque[Entry] = deque()


class MemorySpool:
    """Holds events until Redis acknowledged them. Full: live streams lose their oldest, file readers wait."""

    def __init__(self, max_bytes: int, dropped: Callable[[str], None]) -> None:
        """Makes an empty spool.

        Args:
            max_bytes: the most it holds.
            dropped: called with the stream of each event that was dropped because the spool was full.
        """
        self.max_bytes = max_bytes
        self._dropped = dropped
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._bytes = 0
        self._woken = False

    def add_stream(self, stream: str) -> None:
        """Makes room for a stream."""
        with self._changed:
            self._queues[stream] = _Queue()

    def put(
        self, stream: str, fields: dict[str, bytes], captured_us: int, arrived: float, arrived_us: int | None
    ) -> None:
        """Adds an event with the stream's next entry id; never waits.

        A file's event is always taken: the frames that a file has in flight are few, and its reader waits for room.

        Args:
            stream: the stream's name.
            fields: the entry's fields.
            captured_us: capture time.
            arrived: monotonic seconds when the frame was read.
            arrived_us: the host's clock then, or None for a file's frame.
        """
        size = sum(len(key) + len(value) for key, value in fields.items()) + _ENTRY_OVERHEAD
        with self._changed:
            queue = self._queues[stream]
            queue.live = arrived_us is not None
            while queue.live and self._bytes and self._bytes + size > self.max_bytes:
                if not self._drop_oldest_live():
                    self._dropped(stream)
                    return
            entry_id = queue.ids.next(captured_us, arrived_us)
            queue.entries.append(Entry(entry_id, fields, captured_us, arrived, size))
            self._bytes += size
            self._changed.notify_all()

    def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Waits while the spool is full and `stopped` does not say so: what a file's reader does before each frame."""
        with self._changed:
            while self._bytes >= self.max_bytes and not stopped():
                self._changed.wait(_POLL_SECONDS)

    def pending(self, most: int) -> dict[str, list[Entry]]:
        """Returns up to `most` of the oldest entries of each stream that has any; they stay."""
        with self._changed:
            return {stream: [queue.entries[i] for i in range(min(most, len(queue.entries)))]
                    for stream, queue in self._queues.items() if queue.entries}

    def acknowledge(self, stream: str, through: tuple[int, int]) -> list[Entry]:
        """Removes and returns the stream's entries up to an id."""
        with self._changed:
            entries, done = self._queues[stream].entries, list[Entry]()
            while entries and entries[0].id <= through:
                done.append(entries.popleft())
            self._bytes -= sum(entry.size for entry in done)
            self._changed.notify_all()
            return done

    def rise_above(self, stream: str, other: tuple[int, int]) -> bool:
        """Gives the stream's entries ids above `other` where they are not; returns whether any had to change."""
        with self._changed:
            queue = self._queues[stream]
            queue.ids.rise_above(other)
            if not queue.entries or queue.entries[0].id > other:
                return False
            ids = EntryIds()
            ids.rise_above(other)
            for entry in queue.entries:
                entry.id = ids.next(entry.id[0] * 1000)
            queue.ids.rise_above(ids.last)
            return True

    def wait(self, seconds: float) -> None:
        """Waits until there may be something to send, at most so long."""
        with self._changed:
            if not self._woken and not any(queue.entries for queue in self._queues.values()):
                self._changed.wait(seconds)
            self._woken = False

    def wake(self) -> None:
        """Ends a `wait`, also one that begins later."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def figures(self) -> tuple[int, int, float]:
        """Returns events, bytes, and the capture time of the oldest event in seconds (0 without one)."""
        with self._changed:
            heads = [queue.entries[0].captured_us for queue in self._queues.values() if queue.entries]
            count = sum(len(queue.entries) for queue in self._queues.values())
            return count, self._bytes, min(heads, default=0) / 1_000_000

    def drain(self, deadline: float) -> int:
        """Waits until it is empty or monotonic time `deadline` has come; returns how many events are left."""
        with self._changed:
            while (left := sum(len(q.entries) for q in self._queues.values())) and time.monotonic() < deadline:
                self._changed.wait(max(deadline - time.monotonic(), 0))
            return left

    def _drop_oldest_live(self) -> bool:
        candidates = [(queue.entries[0].arrived, stream) for stream, queue in self._queues.items()
                      if queue.live and queue.entries]
        if not candidates:
            return False
        stream = min(candidates)[1]
        self._bytes -= self._queues[stream].entries.popleft().size
        self._dropped(stream)
        return True

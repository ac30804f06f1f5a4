"""The spool as a whole: what timelines put in, the publisher takes out, and a thread of its own writes to the disk.

`put` takes an event and never waits for the disk; the thread commits what came in, and only then does the publisher see
it. While the disk takes nothing, events are published from memory, as many as fit there.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import chain
from pathlib import Path

from emotiond.events import EntryId
from emotiond.spool.database import CorruptRecordError, Position, SpoolFile, decode_record
from emotiond.spool.disk import Disk
from emotiond.spool.memory import Listener, Memory
from emotiond.spool.queues import Entry

GATHER_SECONDS = 0.03      # after a commit, how long events gather for the next one, at least
GATHER_MOST = 0.1
GATHER_TIMES = 40          # after a dear one, as many times the processor time it took: up to 2.5 ms, 2.5 % of a core
IDLE_SECONDS = 1.0         # how often positions are committed and old events removed when no new ones come
_POLL_SECONDS = 0.1        # how soon a thread that waits for room notices that it shall stop
_OVERHEAD = 120            # bytes of an event beside its fields, in the table and its index, about


class Spool:
    """Holds events until Redis acknowledged them. Full: live streams lose their oldest, file readers wait.

    Attributes:
        max_bytes: the most it holds.
        durable: whether events outlive the process.
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
        self.commits, self.expires = 0, True
        self._keep_seconds = keep_seconds
        self._stopped = False
        self._memory = Memory(listener)
        self._disk = Disk(path, self._memory)
        self.inherited = self._disk.inherited

    @property
    def failing(self) -> str | None:
        """Why the disk takes no events at present, None while it does."""
        return self._memory.failing

    def add_stream(self, stream: str) -> None:
        """Makes room for a stream, or takes up what an earlier run left of it."""
        with self._memory.lock:
            self._memory.want(stream)

    def remove_stream(self, stream: str) -> None:
        """Ends a stream, until it is added again; what waits of it is published all the same."""
        with self._memory.lock:
            self._memory.queues[stream].wanted = False

    def gone(self) -> dict[str, EntryId]:
        """Returns streams to which nobody adds, and of which nothing waits or is kept, with the last id in Redis."""
        with self._memory.lock:
            return {name: queue.position.acked_id for name, queue in self._memory.queues.items() if queue.is_gone}

    def forget(self, stream: str) -> None:
        """Has the next commit remove a stream that is still gone."""
        with self._memory.lock:
            if queue := self._memory.queues.get(stream):
                queue.forgotten = queue.is_gone

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
        size = sum(map(len, fields)) + sum(map(len, fields.values())) + _OVERHEAD
        memory = self._memory
        with memory.lock:
            queue = memory.queues[stream]
            position = queue.position
            position.live = arrived_us is not None
            if position.live and not memory.make_room(size):
                memory.listener.produced(stream, 1)
                memory.listener.lost(stream, "disk_error", 1)
                return
            memory.seq += 1
            position.last = queue.ids.next(captured_us, arrived_us)
            memory.add(queue, Entry(memory.seq, position.last, fields, captured_us, arrived, size))

    def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Waits while the spool is full and `stopped` does not say so: what a file's reader does before each frame."""
        with self._memory.lock:
            while self._memory.is_full(self.max_bytes) and not stopped():
                self._memory.went_out.wait(_POLL_SECONDS)

    def run(self) -> None:
        """Commits what comes in until `stop`, and then once more; the whole life of the spool's thread."""
        due, removal, crowded = 0.0, 0.0, False
        while not self._stopped:
            if crowded:  # others will have come by then, and need not wake it
                time.sleep(max(due - time.monotonic(), 0.0))
            crowded = self._memory.incoming.bytes > 0
            if not crowded:
                self._wait_for_event()
                if (rest := due - time.monotonic()) > 0:  # a lone event does not wait for others
                    time.sleep(rest)
                    crowded = True
            begin, removes = time.thread_time(), time.monotonic() >= removal
            self.commit(removes=removes)
            if removes:
                removal = time.monotonic() + IDLE_SECONDS
            gather = min(max(GATHER_TIMES * (time.thread_time() - begin), GATHER_SECONDS), GATHER_MOST)
            due = time.monotonic() + (IDLE_SECONDS if self.failing else gather)
        self.commit()

    def _wait_for_event(self) -> None:
        end = time.monotonic() + IDLE_SECONDS
        while not (self._memory.incoming.bytes or self._stopped) and (rest := end - time.monotonic()) > 0:
            self._memory.came_in.wait(rest)

    def commit(self, *, removes: bool = True) -> None:
        """Writes what came in and what Redis acknowledged, and removes what was kept long enough; all or nothing.

        Args:
            removes: False leaves what was kept long enough to a later commit, which removes more at once and cheaper.
        """
        memory = self._memory
        with self._disk.lock:
            self._disk.open_late()
            with memory.lock:
                kept_since = time.monotonic() - self._keep_seconds if removes and self.expires else -math.inf
                batch = memory.begin(kept_since, self.max_bytes - self._disk.stored_bytes)
            written = False
            try:
                written = batch.empty or self._disk.write(batch, self.max_bytes)
            finally:
                with memory.lock:
                    memory.end(batch, written=written)
            self._disk.look_up_oldest(IDLE_SECONDS)
        self.commits += 1

    def pending(self, most: int) -> dict[str, list[Entry]]:
        """Returns up to `most` of the oldest entries of each stream that has any to send; they stay."""
        with self._memory.lock:
            found = {queue: self._memory.read(queue, most)
                     for queue in self._memory.queues.values() if self._memory.has_to_send(queue)}
        if unread := [queue for queue, entries in found.items() if not entries]:
            with self._disk.lock:
                found |= {queue: self._disk.read(queue, most) for queue in unread}
        return {queue.name: entries for queue, entries in found.items() if entries}

    def find(self, stream: str, ids: Collection[EntryId], through: int) -> dict[EntryId, dict[str, bytes]] | None:
        """Returns the fields of a stream's waiting events up to a seq that have one of some entry ids.

        None means that the disk, which fails, has some that could be meant.
        """
        found: dict[EntryId, dict[str, bytes]] = {}
        with self._disk.lock:
            queue = self._memory.queues[stream]
            position = queue.position
            rows = self._disk.do(lambda file: file.find(position.number, ids, position.acked, through))
            if rows is None and not queue.all_fresh:
                return None
            for _, _, ms, n, _, _, _, record in rows or ():
                with contextlib.suppress(CorruptRecordError):
                    found[ms, n] = decode_record(record)
            with self._memory.lock:
                found |= {entry.id: entry.fields for entry in chain(queue.fresh, self._memory.incoming.of(queue))
                          if entry.seq <= through and entry.id in ids}
        return found

    def acknowledge(self, stream: str, entries: list[Entry]) -> None:
        """Notes that Redis has entries, the first of those that `pending` returned for a stream."""
        if not entries:
            return
        with self._memory.lock:
            queue = self._memory.queues[stream]
            position = queue.position
            position.acked, position.acked_id = entries[-1].seq, entries[-1].id
            self._memory.leave(queue, len(entries), sum(entry.size for entry in entries))
            self._memory.drop_fresh(queue, position.acked)
            queue.kept.append((time.monotonic(), position.acked))
            queue.changed = True
            if queue.unstored and self._memory.incoming.has_through(position.acked):  # some were sent from memory
                self._memory.incoming.remove_of(queue, position.acked)
        if queue.doubtful:
            with self._disk.lock:
                self._disk.count_waiting(queue)

    def acknowledged(self) -> dict[str, EntryId]:
        """Returns, for each stream of which Redis acknowledged anything, in whatever run, the last one's entry id."""
        with self._memory.lock:
            return {name: queue.position.acked_id for name, queue in self._memory.queues.items()
                    if queue.position.acked_id > (0, 0) and not queue.forgotten}

    def rewind(self, stream: str, last: EntryId) -> int:
        """Takes acknowledgements above an entry id back, as far as events are kept; returns of how many."""
        with self._disk.lock:
            queue = self._memory.queues[stream]
            position = queue.position
            first, events, size = self._disk.do(lambda file: _kept_above(file, position, last)) or (None, 0, 0)
            with self._memory.lock:
                position.acked_id, queue.changed = last, True
                if first is not None:
                    self._memory.drop_fresh(queue)
                    queue.last_stored = max(queue.last_stored, position.acked)
                    gone = [s for seq, s in self._memory.damaged.items() if first <= seq <= position.acked]
                    position.acked = first - 1
                    self._memory.leave(queue, len(gone) - events, sum(gone) - size)
                    queue.kept = deque((when, min(seq, first - 1)) for when, seq in queue.kept)
                    events -= len(gone)
            return events

    def raise_ids(self, stream: str, entries: list[Entry], above: EntryId) -> None:
        """Gives entries that are about to be sent ids above `above` and in order, and those to come too."""
        changed: list[Entry] = []
        with self._memory.lock:
            queue = self._memory.queues[stream]
            for entry in entries:
                if entry.id <= above:
                    entry.id = (above[0], above[1] + 1)
                    changed.append(entry)
                above = entry.id
            queue.ids.rise_above(above)
            queue.position.last, queue.changed = queue.ids.last, True
        if changed:  # where the disk fails, a run after this one may not know them again
            with self._disk.lock:  # after a commit that may have stored them under their old ids
                self._disk.do(lambda file: file.set_ids((entry.id, entry.seq) for entry in changed))

    def wait(self, seconds: float) -> bool:
        """Waits until there may be something to send, at most so long; returns whether it had to wait."""
        with self._memory.lock:
            if any(map(self._memory.has_to_send, self._memory.queues.values())):
                return False
        self._memory.sendable.wait(seconds)
        return True

    def wake(self) -> None:
        """Ends a `wait`, also one that begins later."""
        self._memory.sendable.set()

    def figures(self) -> tuple[int, int, float]:
        """Returns events that wait, their bytes, and the capture time of the oldest in seconds (0 without one)."""
        with self._memory.lock:
            waiting = [queue for queue in self._memory.queues.values() if queue.position.waiting]
            oldest = min((queue.oldest_us for queue in waiting if queue.oldest_us), default=0)
            return (sum(queue.position.waiting for queue in waiting),
                    sum(queue.position.waiting_bytes for queue in waiting), oldest / 1_000_000)

    def waiting(self, stream: str) -> int:
        """Returns how many events of a stream wait."""
        with self._memory.lock:
            return self._memory.queues[stream].position.waiting

    def drain(self, deadline: float, give_up: Callable[[], bool] = lambda: False) -> int:
        """Waits until nothing waits, or monotonic time `deadline`, or `give_up`; returns how many events are left."""
        with self._memory.lock:
            while left := sum(queue.position.waiting for queue in self._memory.queues.values()):
                rest = deadline - time.monotonic()
                if rest <= 0 or give_up():
                    break
                self._memory.went_out.wait(min(rest, _POLL_SECONDS))
            return left

    def all_stored(self) -> bool:
        """Tells whether every event is on the disk, and so outlives the process."""
        return self.durable and not self._memory.incoming.bytes

    def stop(self) -> None:
        """Ends `run`."""
        self._stopped = True
        self._memory.came_in.set()

    def close(self) -> None:
        """Closes the file; nothing may be put or read afterwards."""
        with self._disk.lock:
            self._disk.close()


def _kept_above(file: SpoolFile, position: Position, last: EntryId) -> tuple[int | None, int, int]:
    """Returns seq of the first acknowledged event above an entry id, and how many there are, and their bytes."""
    first = file.first_above(position.number, last, position.acked)
    if first is None:
        return None, 0, 0
    events, size = file.count_after(position.number, first - 1)
    waiting, waiting_size = file.count_after(position.number, position.acked)
    return first, events - waiting, size - waiting_size

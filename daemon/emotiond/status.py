"""The events of the streams' lives and heartbeats that wait for Redis, in memory: they tell of now, not of then."""

import threading
import time
from collections import deque

from emotiond.events import StatusEvent, status_fields

MOST_WAITING = 1_000    # the oldest go first


class StatusQueue:
    """Status events with the fields of their entries, oldest first; for any thread."""

    def __init__(self, instance: str) -> None:
        """Begins empty; `instance` is the daemon's name in each event."""
        self._instance = instance
        self._count = 0
        self._lock = threading.Lock()
        self._events: deque[tuple[int, dict[str, bytes]]] = deque(maxlen=MOST_WAITING)

    def put(self, kind: str, event: StatusEvent) -> None:
        """Adds an event; never waits."""
        with self._lock:
            self._count += 1
            fields = status_fields(kind, event, self._count, time.time_ns() // 1000, self._instance)
            self._events.append((self._count, fields))

    def waiting(self) -> list[tuple[int, dict[str, bytes]]]:
        """Returns what waits, each with a number that counts up."""
        with self._lock:
            return list(self._events)

    def remove_through(self, number: int) -> None:
        """Removes events up to a number, which Redis has."""
        with self._lock:
            while self._events and self._events[0][0] <= number:
                self._events.popleft()

"""Frames on their way from a source to the analyzers: bounded, counted, and fair between streams."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from emotiond.picture import Picture

Clock = Literal["rtcp", "arrival", "file"]

LIVE_DEPTH = 8        # frames of jitter a live stream's buffer holds
FILE_DEPTH = 4
STALE_SECONDS = 1.0   # a live frame that waited longer is not analysed any more


class Drop(StrEnum):
    """Why a frame that was read is not analysed."""

    NEWER_FRAME = "newer_frame"
    MAX_FPS = "max_fps"
    STALE = "stale"
    TOO_LARGE = "too_large"
    INFERENCE_ERROR = "inference_error"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream.

    Attributes:
        stream: the stream's name.
        index: counts the frames read from the stream, from 0.
        pts: seconds on the source's own time line, None where it has none.
        captured_us: capture time in microseconds since the epoch, by `clock`.
        clock: whose clock that is.
        arrived: monotonic seconds when it was read.
        arrived_us: the host's clock when it was read, None for files, whose capture time is no clock's.
        picture: the picture.
    """

    stream: str
    index: int
    pts: float | None
    captured_us: int
    clock: Clock
    arrived: float
    arrived_us: int | None
    picture: Picture


@dataclass(frozen=True, slots=True)
class Ticket:
    """A frame taken by an analyzer; `number` counts the frames taken of its stream, so that order can be restored."""

    frame: Frame
    number: int


@dataclass
class FrameCounts:
    """Frames of one stream; read = analyzed + dropped + in_flight, always."""

    read: int = 0
    analyzed: int = 0
    in_flight: int = 0
    dropped: dict[Drop, int] = field(default_factory=lambda: dict.fromkeys(Drop, 0))


class FrameLedger:
    """Counts what becomes of every frame. Each change and each snapshot is atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, FrameCounts] = {}

    def add_stream(self, stream: str) -> int:
        """Makes the stream's counts exist, at zero where they are new; returns how many frames were read."""
        with self._lock:
            return self._counts.setdefault(stream, FrameCounts()).read

    def read(self, stream: str) -> None:
        """A frame was read and is in flight."""
        with self._lock:
            counts = self._counts[stream]
            counts.read += 1
            counts.in_flight += 1

    def dropped(self, stream: str, reason: Drop) -> None:
        """A frame in flight was dropped."""
        with self._lock:
            counts = self._counts[stream]
            counts.dropped[reason] += 1
            counts.in_flight -= 1

    def analyzed(self, stream: str) -> None:
        """A frame in flight was analysed and its event, if any, handed on."""
        with self._lock:
            counts = self._counts[stream]
            counts.analyzed += 1
            counts.in_flight -= 1

    def remove_stream(self, stream: str) -> None:
        """Forgets a stream that has no frame in flight."""
        with self._lock:
            del self._counts[stream]

    def snapshot(self) -> dict[str, FrameCounts]:
        """Returns a copy of all counts at one moment."""
        with self._lock:
            return {stream: FrameCounts(c.read, c.analyzed, c.in_flight, dict(c.dropped))
                    for stream, c in self._counts.items()}


class _Buffer:
    def __init__(self, live: bool) -> None:
        self.frames: deque[Frame] = deque()
        self.taken = 0
        self.set_live(live)

    def set_live(self, live: bool) -> None:
        self.live = live
        self.depth = LIVE_DEPTH if live else FILE_DEPTH


class FrameBuffers:
    """One bounded buffer a stream. Live: newest wins, the dropped one is counted. File: the reader waits."""

    def __init__(self, ledger: FrameLedger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._changed = threading.Condition()
        self._buffers: dict[str, _Buffer] = {}
        self._turn = 0
        self._closed = False

    def add_stream(self, stream: str, live: bool) -> None:
        """Makes the stream's buffer."""
        with self._changed:
            self._buffers[stream] = _Buffer(live)

    def set_live(self, stream: str, live: bool) -> None:
        """Tells what the stream's source turned out to be."""
        with self._changed:
            self._buffers[stream].set_live(live)

    def put(self, frame: Frame) -> bool:
        """Hands over a frame that the ledger has as read.

        A live stream's oldest frame gives way when the buffer is full; another stream's caller waits for room.

        Returns:
            Whether it was accepted; after `close` it is counted as dropped instead.
        """
        with self._changed:
            buffer = self._buffers[frame.stream]
            while not self._closed and not buffer.live and len(buffer.frames) >= buffer.depth:
                self._changed.wait()
            if self._closed:
                self._ledger.dropped(frame.stream, Drop.SHUTDOWN)
                return False
            if len(buffer.frames) >= buffer.depth:
                buffer.frames.popleft()
                self._ledger.dropped(frame.stream, Drop.NEWER_FRAME)
            buffer.frames.append(frame)
            self._changed.notify_all()
            return True

    def take(self, most: int) -> list[Ticket]:
        """Waits for frames and takes up to `most`, one stream after the other; empty when closed and drained."""
        with self._changed:
            while True:
                tickets = self._take_round_robin(most)
                if tickets:
                    self._changed.notify_all()
                if tickets or self._closed:
                    return tickets
                self._changed.wait()

    def _take_round_robin(self, most: int) -> list[Ticket]:
        tickets: list[Ticket] = []
        oldest = self._clock() - STALE_SECONDS
        buffers = list(self._buffers.values())
        empty = 0
        while len(tickets) < most and empty < len(buffers):
            buffer = buffers[self._turn % len(buffers)]
            self._turn += 1
            while buffer.live and buffer.frames and buffer.frames[0].arrived < oldest:
                self._ledger.dropped(buffer.frames.popleft().stream, Drop.STALE)
            if buffer.frames:
                tickets.append(Ticket(buffer.frames.popleft(), buffer.taken))
                buffer.taken += 1
                empty = 0
            else:
                empty += 1
        return tickets

    def depths(self) -> dict[str, tuple[int, int]]:
        """Returns stream -> (frames waiting, capacity)."""
        with self._changed:
            return {stream: (len(b.frames), b.depth) for stream, b in self._buffers.items()}

    def remove_stream(self, stream: str) -> None:
        """Forgets a stream that has no frame in flight."""
        with self._changed:
            del self._buffers[stream]

    def close(self, drain: bool) -> None:
        """Accepts no more frames. With `drain` those waiting are still taken, else they are counted as dropped."""
        with self._changed:
            self._closed = True
            if not drain:
                for buffer in self._buffers.values():
                    while buffer.frames:
                        self._ledger.dropped(buffer.frames.popleft().stream, Drop.SHUTDOWN)
            self._changed.notify_all()

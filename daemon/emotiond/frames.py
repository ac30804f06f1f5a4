"""Frames on their way from a source to the analyzers: bounded, counted, and fair between streams."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emotiond.picture import Picture

Clock = Literal["rtcp", "arrival", "file"]

LIVE_DEPTH = 8        # frames of jitter a live stream's buffer holds
FILE_DEPTH = 8
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


@dataclass(slots=True)
class FrameGroup:
    """Frames of a stream in a row: the first is searched whole, and each other where the one before had faces.

    Attributes:
        boxes: (N, 4) float32, where to look: x, y, width, height in the displayed picture; None before the first frame.
        probabilities: (N, classes) float32, what was read last in the face of each box; zeros where nothing was.
        age: analysed frames since all faces were classified.
        busy: whether an analyzer has some of its frames.
    """

    boxes: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None
    age: int = 0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """A frame taken by an analyzer.

    Attributes:
        frame: the frame.
        number: counts the frames taken of its stream, so that order can be restored.
        group: the frames that it is analysed with, by one analyzer at a time and in order.
    """

    frame: Frame
    number: int
    group: FrameGroup = field(default_factory=FrameGroup)


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
    def __init__(self, live: bool, group_size: int, device: int) -> None:
        self.device = device
        self.frames: deque[tuple[Frame, FrameGroup]] = deque()
        self.taken = 0
        self._group_size = group_size
        self._group, self._room = FrameGroup(), group_size
        self._size = (0, 0)      # of the last picture
        self.set_live(live)

    def set_live(self, live: bool) -> None:
        self.live = live
        # a file's groups are taken whole where they are there, so that one is taken while the next comes
        self.depth = LIVE_DEPTH if live else max(FILE_DEPTH, 2 * self._group_size)

    def append(self, frame: Frame) -> None:
        """Adds a frame to the last group, or begins one; which, follows from the stream's frames alone.

        Where the size of the pictures changes one begins, since boxes of the others mean nothing in it.
        """
        size = frame.picture.width, frame.picture.height
        if not self._room or size != self._size:
            self._group, self._room, self._size = FrameGroup(), self._group_size, size
        self._room -= 1
        self.frames.append((frame, self._group))

    def take(self) -> list[Ticket]:
        """Takes the frames of the first group, unless another analyzer has some of them."""
        tickets: list[Ticket] = []
        while self.frames and not (group := self.frames[0][1]).busy and (not tickets or group is tickets[0].group):
            tickets.append(Ticket(self.frames.popleft()[0], self.taken, group))
            self.taken += 1
        for ticket in tickets:
            ticket.group.busy = True
        return tickets


class FrameBuffers:
    """One bounded buffer a stream. Live: newest wins, the dropped one is counted. File: the reader waits."""

    def __init__(
        self, ledger: FrameLedger, clock: Callable[[], float] = time.monotonic, group_size: int = 1
    ) -> None:
        """Makes buffers for no stream yet.

        Args:
            ledger: counts what is dropped.
            clock: monotonic seconds.
            group_size: frames that are analysed one after the other, as in `FrameGroup`.
        """
        self._ledger, self._group_size = ledger, group_size
        self._clock = clock
        self._changed = threading.Condition()
        self._buffers: dict[str, _Buffer] = {}
        self._turns = Counter[int]()        # of each device: whose turn it is
        self._closed = False
        self._devices = 1

    def add_stream(self, stream: str, live: bool) -> None:
        """Makes the stream's buffer; its frames are for the device that has the fewest streams."""
        with self._changed:
            self._buffers.pop(stream, None)
            self._buffers[stream] = _Buffer(live, self._group_size, self._least_used())

    def spread(self, devices: int) -> None:
        """Deals the streams out to so many devices."""
        with self._changed:
            self._devices = devices
            for place, buffer in enumerate(self._buffers.values()):
                buffer.device = place % devices

    def device(self, stream: str) -> int:
        """Returns which device a stream's frames are for, from 0 on."""
        with self._changed:
            return self._buffers[stream].device

    def _least_used(self) -> int:
        counts = Counter(buffer.device for buffer in self._buffers.values())
        return min(range(self._devices), key=lambda device: counts[device])

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
            buffer.append(frame)
            self._changed.notify_all()
            return True

    def take(self, most: int, takers: int = 1, device: int = 0) -> list[Ticket]:
        """Waits for frames and takes them, one stream after the other; empty when closed and none is to be had.

        Args:
            most: frames after which no other stream's are taken.
            takers: that share what waits; each takes no more than its part.
            device: whose streams.
        """
        with self._changed:
            while True:
                buffers = [buffer for buffer in self._buffers.values() if buffer.device == device]
                waiting = sum(len(buffer.frames) for buffer in buffers)
                tickets = self._take_round_robin(device, buffers, min(most, max(-(-waiting // takers), 1)))
                if tickets:
                    self._changed.notify_all()
                if tickets or self._closed:
                    return tickets
                self._changed.wait()

    def _take_round_robin(self, device: int, buffers: list[_Buffer], most: int) -> list[Ticket]:
        tickets: list[Ticket] = []
        oldest = self._clock() - STALE_SECONDS
        empty = 0
        while len(tickets) < most and empty < len(buffers):
            buffer = buffers[self._turns[device] % len(buffers)]
            self._turns[device] += 1
            while buffer.live and buffer.frames and buffer.frames[0][0].arrived < oldest:
                self._ledger.dropped(buffer.frames.popleft()[0].stream, Drop.STALE)
            taken = buffer.take()
            tickets += taken
            empty = 0 if taken else empty + 1
        return tickets

    def give_back(self, tickets: Sequence[Ticket]) -> None:
        """Tells that frames were analysed, so that what follows them may be taken."""
        if self._group_size > 1:
            with self._changed:
                for ticket in tickets:
                    ticket.group.busy = False
                self._changed.notify_all()

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
                        self._ledger.dropped(buffer.frames.popleft()[0].stream, Drop.SHUTDOWN)
            self._changed.notify_all()

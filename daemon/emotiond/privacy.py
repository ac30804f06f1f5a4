"""What is told of people under `privacy.mode: aggregate`: counts over a window, of frames with a group of faces."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from emotiond.config import PrivacyConfig
from emotiond.events import LAST_US, AggregateEvent, FrameEvent, rfc3339
from emotiond.frames import Frame

GRACE_SECONDS = 2.0    # a stream without a frame for a window's length and so long has its window closed


@dataclass(frozen=True, slots=True)
class Moment:
    """When the last frame of a window was: `index`, `captured_us`, `arrived` and `arrived_us` as in `Frame`."""

    index: int
    captured_us: int
    arrived: float
    arrived_us: int | None


RESPONSIBLE_USE = (
    "emotiond names the expressions that people would see in faces: it does not know what anybody feels, it errs on "
    "some groups more than on others, and nothing about a person may be decided by it",
    "reading emotions at work and in education is forbidden in the EU (AI Act, Article 5), and elsewhere people must "
    "be told of it: see docs/responsible-use.md, and say in responsible_use.purpose what it is for")
"""What a start says where the configuration does not say what for."""

EmitAggregate = Callable[[AggregateEvent, Moment], None]


@dataclass(slots=True)
class _Window:
    number: int
    like: FrameEvent     # its frames, but without their faces
    touched: float
    last: Moment
    frames: int = 0
    counted: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter[str])


class Aggregates:
    """Counts faces over windows of capture time, and tells nothing else of them; one for all streams.

    A frame counts if it has `min_group` faces or more: so many different people, since they are there at once. Of other
    frames nothing goes into an event but that they were analysed, whatever their faces show. So a face's own emotion
    counts, not its smoothed one, which earlier frames have a part in, and a frame with faces that carry an earlier
    frame's answer does not count.
    """

    def __init__(
        self, config: PrivacyConfig, labels: tuple[str, ...], abstain_below: float, emit: EmitAggregate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins without windows.

        Args:
            config: how long windows are, and how many faces make a group.
            labels: the classifier's.
            abstain_below: confidence below which a face counts as unsure.
            emit: takes the event of each window in which a frame counted.
            clock: monotonic seconds.
        """
        self._length_us, self._min_group = round(config.window * 1_000_000), config.min_group
        self._labels, self._abstain_below, self._emit, self._clock = labels, abstain_below, emit, clock
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Counts a frame; closes the window before where this is the first one of the next."""
        moment = Moment(frame.index, frame.captured_us, frame.arrived, frame.arrived_us)
        number = frame.captured_us // self._length_us
        with self._lock:
            window = self._windows.get(event.stream)
            if window is None or window.number != number:
                if window:
                    self._close(window)
                window = self._windows[event.stream] = _Window(
                    number, msgspec.structs.replace(event, faces=[]), self._clock(), moment)
            window.last, window.touched = moment, self._clock()
            window.frames += 1
            if self.is_group(event):
                window.counted += 1
                window.faces += len(event.faces)
                window.emotions.update(
                    face.emotion for face in event.faces if face.confidence >= self._abstain_below)

    def is_group(self, event: FrameEvent) -> bool:
        """Tells whether a frame counts."""
        return len(event.faces) >= self._min_group and not any(face.carried for face in event.faces)

    def close(self, stream: str) -> None:
        """Closes a stream's window: no frame of it will follow."""
        with self._lock:
            if window := self._windows.pop(stream, None):
                self._close(window)

    def close_old(self) -> None:
        """Closes the windows of streams that have gone silent."""
        longest = self._length_us / 1_000_000 + GRACE_SECONDS
        with self._lock:
            for stream, window in list(self._windows.items()):
                if self._clock() - window.touched > longest:
                    self._close(self._windows.pop(stream))

    def close_all(self) -> None:
        """Closes every window."""
        with self._lock:
            while self._windows:
                self._close(self._windows.popitem()[1])

    def _close(self, window: _Window) -> None:
        if not window.counted:
            return
        start_us, like = window.number * self._length_us, window.like
        end_us = min(start_us + self._length_us, LAST_US)
        last = replace(window.last, arrived=self._clock())      # nothing waited for Redis before
        self._emit(AggregateEvent(
            like.stream, rfc3339(start_us), rfc3339(end_us), window.frames, self._min_group,
            window.counted, window.faces, {label: window.emotions[label] for label in self._labels},
            window.faces - window.emotions.total(), like.labels, like.model, like.purpose), last)

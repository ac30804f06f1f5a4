"""What people may see of the daemon now: the newest of every stream, and the last minutes of its emotions."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

import msgspec

from emotiond import __version__
from emotiond.config import Config
from emotiond.config_values import Rectangle
from emotiond.events import AggregateEvent, Box, FrameEvent
from emotiond.frames import Frame
from emotiond.live.message import EventView, FaceView, HistoryEntry, Message, StreamView
from emotiond.palette import colour_of
from emotiond.picture import Picture
from emotiond.pipeline import Pipeline

HISTORY = 300           # entries of a stream's history: seconds, or windows
EVENTS_KEPT = 200       # newest events of all streams
MOST_EVENTS = 50        # in one message
MOST_FACES = 20         # of a frame in a message
BOXES_SECONDS = 0.25    # between boxes that are kept for a moment
NOW_SECONDS = 2.0       # after which a stream's last frame is not shown as now

_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Cursor:
    """What has been told: histories up to a monotonic time, and so many events; None, nothing yet."""

    changed: float = 0.0
    events: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The last frame of a stream, to be drawn: its picture and event, all boxes of the moment before, and masks."""

    picture: Picture
    event: FrameEvent
    boxes: tuple[Box, ...]
    masks: tuple[Rectangle, ...]


@dataclass(slots=True)
class _Stream:
    size: tuple[int, int] | None = None
    now: EventView | None = None
    window: AggregateEvent | None = None
    history: deque[HistoryEntry] = field(default_factory=lambda: deque[HistoryEntry](maxlen=HISTORY))
    shown: Shown | None = None
    boxes: deque[tuple[float, tuple[Box, ...]]] = field(default_factory=lambda: deque[tuple[float, tuple[Box, ...]]]())


class Board:
    """Takes every event and tells of it; for any thread."""

    def __init__(self, config: Config, pipeline: Pipeline, problem: Callable[[], str | None]) -> None:
        """Begins empty.

        Args:
            config: the configuration.
            pipeline: whose streams and counters are told.
            problem: tells why the daemon is not ready.
        """
        self._config, self._pipeline, self._problem = config, pipeline, problem
        self._labels = {label: index for index, label in enumerate(pipeline.model.labels)}
        self._streams: dict[str, _Stream] = {}
        self._events: deque[EventView] = deque(maxlen=EVENTS_KEPT)
        self._count = 0
        self._lock = threading.Lock()

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Takes the event of an analysed frame."""
        at = time.time()
        view = EventView(at, event.stream, event.frame, [
            FaceView(face.track_id, face.smoothed.emotion, face.smoothed.confidence, face.abstained)
            for face in event.faces[:MOST_FACES]], max(len(event.faces) - MOST_FACES, 0))
        with self._lock:
            stream = self._streams.setdefault(event.stream, _Stream())
            stream.now, stream.size = view, (event.width, event.height)
            if self._config.http.preview:
                stream.shown = Shown(
                    frame.picture, event, self._recent_boxes(stream, event, at), self.masks(event.stream) or ())
            if event.faces:
                counts = self._entry(stream, int(at))
                for face in event.faces:
                    counts[-1 if face.abstained else self._labels[face.smoothed.emotion]] += 1
                self._events.append(view)
                self._count += 1

    def _recent_boxes(self, stream: _Stream, event: FrameEvent, at: float) -> tuple[Box, ...]:
        """Returns the boxes of an event, and those of the moment before, of which a few are kept."""
        while stream.boxes and not at - NOW_SECONDS <= stream.boxes[0][0] <= at:     # old, or the clock went back
            stream.boxes.popleft()
        own = tuple(face.box for face in event.faces)
        recent = tuple(box for _, boxes in stream.boxes for box in boxes)
        if not stream.boxes or at - stream.boxes[-1][0] >= BOXES_SECONDS:
            stream.boxes.append((at, own))
        return own + recent

    def take_aggregate(self, event: AggregateEvent) -> None:
        """Takes the event of a window."""
        begin = int(datetime.fromisoformat(event.start).timestamp())
        with self._lock:
            stream = self._streams.setdefault(event.stream, _Stream())
            stream.window = event
            counts = self._entry(stream, begin)
            for label, count in event.emotions.items():
                counts[self._labels[label]] += count
            counts[-1] += event.unsure

    def _entry(self, stream: _Stream, begin: int) -> list[int]:
        """Returns the counts of the history's entry that begins so; a clock that went back begins it anew."""
        if stream.history and begin < stream.history[-1].begin - 1:
            stream.history.clear()
        if not stream.history or stream.history[-1].begin < begin:
            stream.history.append(HistoryEntry(begin, [0] * (len(self._labels) + 1), 0.0))
        stream.history[-1].changed = time.monotonic()
        return stream.history[-1].counts

    def shown(self, stream: str) -> Shown | None:
        """Returns a stream's last picture, where pictures are kept."""
        with self._lock:
            found = self._streams.get(stream)
            return found and found.shown

    def masks(self, stream: str) -> tuple[Rectangle, ...] | None:
        """Returns the parts of a stream's picture that are not to be looked at now; None where there is no stream."""
        reader = self._pipeline.readers.get(stream)
        return reader.config.masks if reader else None

    def names(self) -> set[str]:
        """Returns the names of all streams."""
        return set(self._pipeline.readers)

    def forget_gone(self) -> None:
        """Forgets the streams that have been removed."""
        with self._lock:
            for gone in self._streams.keys() - self._pipeline.readers.keys():
                del self._streams[gone]

    def message(self, cursor: Cursor) -> bytes:
        """Returns what is new since the cursor, as the JSON of a `Message`, and moves it on."""
        config, model = self._config, self._pipeline.model
        aggregate = config.privacy.mode == "aggregate"
        self.forget_gone()
        with self._lock:
            now, at = time.monotonic(), time.time()
            views = self._views(cursor, at)
            new = len(self._events) if cursor.events is None else self._count - cursor.events
            events = list(self._events)[-new:][-MOST_EVENTS:] if new else []
            cursor.changed, cursor.events = now, self._count
        return _encoder.encode(Message(
            now, at, config.instance, __version__, model.model_id, list(self._labels),
            [colour_of(label) for label in (*self._labels, None)], config.privacy.mode,
            config.privacy.window if aggregate else 1.0, HISTORY, config.http.preview, self._problem(),
            config.responsible_use.purpose, views, events))

    def _views(self, cursor: Cursor, at: float) -> dict[str, StreamView]:
        readers, ledger = self._pipeline.readers, self._pipeline.ledger.snapshot()
        views: dict[str, StreamView] = {}
        for name, reader in readers.items():
            frames, counts = ledger.get(name), self._pipeline.metrics.counts.get(name)
            of = self._streams.get(name, _Stream())
            if frames and counts:  # else it is just being removed
                changed = takewhile(lambda entry: entry.changed >= cursor.changed, reversed(of.history))
                is_new = of.now is not None and at - of.now.at < NOW_SECONDS
                views[name] = StreamView(
                    str(reader.state), reader.live, reader.error, frames.read, frames.analyzed,
                    {str(reason): count for reason, count in frames.dropped.items() if count}, counts.published,
                    sum(counts.latencies), counts.seconds, of.size, of.now if is_new else None,
                    of.window, list(changed)[::-1])
        return views

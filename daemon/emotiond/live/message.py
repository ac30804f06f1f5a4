"""What the live page and `emotiond top` are told: one JSON object, twice a second."""

import msgspec

from emotiond.events import AggregateEvent


class FaceView(msgspec.Struct, frozen=True, array_like=True):
    """A face.

    Attributes:
        track_id: of its track.
        emotion: smoothed.
        confidence: of that.
        unsure: whether the classifier abstained.
    """

    track_id: int
    emotion: str
    confidence: float
    unsure: bool


class EventView(msgspec.Struct, frozen=True, array_like=True):
    """An event of a frame.

    Attributes:
        at: when it came, seconds since the epoch by the host's clock.
        stream: whose it is.
        frame: its number.
        faces: the best ones.
        more: faces beyond those.
    """

    at: float
    stream: str
    frame: int
    faces: list[FaceView]
    more: int


class HistoryEntry(msgspec.Struct, array_like=True):
    """Faces of a second, or of a window under `privacy.mode: aggregate`.

    Attributes:
        begin: seconds since the epoch.
        counts: faces of all frames by label, and behind these the unsure ones.
        changed: monotonic seconds.
    """

    begin: int
    counts: list[int]
    changed: float


class StreamView(msgspec.Struct, frozen=True):
    """A stream as it is now; counters are those of the metrics.

    Attributes:
        state: what it is doing.
        live: whether it is a camera.
        error: why it does not run.
        read: frames.
        analyzed: frames.
        dropped: frames by reason, where there are any.
        published: events.
        timed: those of them whose frames were read in this run.
        latency_seconds: of all those, from a frame's arrival to Redis' acknowledgement.
        size: pixels of the last frame, width and height.
        now: the last frame with its faces, while it is new.
        window: the last one, under `privacy.mode: aggregate`.
        history: what has changed since the message before.
    """

    state: str
    live: bool
    error: str | None
    read: int
    analyzed: int
    dropped: dict[str, int]
    published: int
    timed: int
    latency_seconds: float
    size: tuple[int, int] | None
    now: EventView | None
    window: AggregateEvent | None
    history: list[HistoryEntry]


class Message(msgspec.Struct, frozen=True):
    """The whole.

    Attributes:
        time: monotonic seconds, for rates.
        at: seconds since the epoch.
        instance: the daemon's name.
        version: emotiond's.
        model: the classifier's weights.
        labels: its labels.
        colors: `#rrggbb` of each, and behind these that of unsure faces.
        mode: `privacy.mode`.
        step: seconds of an entry of a history.
        span: entries that a history has at most.
        preview: whether there are pictures.
        problem: why the daemon is not ready.
        purpose: what emotions are read for.
        streams: name -> stream.
        events: the newest with faces since the message before, oldest first.
    """

    time: float
    at: float
    instance: str
    version: str
    model: str
    labels: list[str]
    colors: list[str]
    mode: str
    step: float
    span: int
    preview: bool
    problem: str | None
    purpose: str | None
    streams: dict[str, StreamView]
    events: list[EventView]

"""What subscribers read: the types of an event, its CloudEvents attributes and its entry id.

One Redis Stream entry for each analysed frame that has a face; its fields are CloudEvents 1.0 attributes,
flat, with the body as JSON in `data` (https://github.com/cloudevents/spec, contract in docs/events.md).
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

FRAME_TYPE, AGGREGATE_TYPE = "emotiond.frame.v1", "emotiond.aggregate.v1"
UP_TYPE, DOWN_TYPE, ENDED_TYPE = "emotiond.stream.up.v1", "emotiond.stream.down.v1", "emotiond.stream.ended.v1"
HEARTBEAT_TYPE = "emotiond.heartbeat.v1"
LAST_US = 253_402_300_799_999_999  # the end of the year 9999, the last that RFC 3339 can write


class Box(msgspec.Struct, frozen=True):
    """Pixels of the picture as displayed, clipped to it."""

    x: int
    y: int
    width: int
    height: int


class Smoothed(msgspec.Struct, frozen=True):
    """The track's moving average over time."""

    emotion: str
    confidence: float


class Face(msgspec.Struct, frozen=True, omit_defaults=True):
    """One face of a frame. `track_id` counts up in a run and says nothing about who a person is.

    `carried`: what was read in it is that of an earlier frame.
    """

    track_id: int
    box: Box
    score: float
    emotion: str
    confidence: float
    probabilities: dict[str, float]
    smoothed: Smoothed
    abstained: bool
    carried: bool = False


class FrameEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `emotiond.frame.v1`. `purpose`: what for, where the configuration says so."""

    stream: str
    frame: int
    pts: float | None
    clock: str
    width: int
    height: int
    labels: dict[str, str]
    faces: list[Face]
    model: str
    purpose: str | None = None


class AggregateEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `emotiond.aggregate.v1`: a window's faces, counted in the frames that had enough of them.

    Attributes:
        stream: its name.
        start: when the window begins, RFC 3339 in UTC.
        end: when it ends.
        frames: analysed in it.
        min_group: faces that a frame must have to be counted.
        counted: frames that had so many; of the others nothing is told.
        faces: in those, each frame's anew.
        emotions: how many of them showed each, without those that were unsure.
        unsure: how many were.
        labels: the stream's.
        model: name and version of the weights.
        purpose: what for, where the configuration says so.
    """

    stream: str
    start: str
    end: str
    frames: int
    min_group: int
    counted: int
    faces: int
    emotions: dict[str, int]
    unsure: int
    labels: dict[str, str]
    model: str
    purpose: str | None = None


class StatusEvent(msgspec.Struct, frozen=True):
    """Body of the events of a stream's life and of heartbeats (where `stream` is null)."""

    stream: str | None
    reason: str | None = None
    detail: str | None = None
    streams: dict[str, str] | None = None


Body = FrameEvent | AggregateEvent | StatusEvent
BODIES: dict[str, type[Body]] = {
    FRAME_TYPE: FrameEvent, AGGREGATE_TYPE: AggregateEvent, UP_TYPE: StatusEvent, DOWN_TYPE: StatusEvent,
    ENDED_TYPE: StatusEvent, HEARTBEAT_TYPE: StatusEvent,
}

EntryId = tuple[int, int]
"""An entry's id in its key, `<ms>-<n>`."""

_encoder = msgspec.json.Encoder()
_ID = re.compile("([0-9]{1,20})-([0-9]{1,20})")  # Redis counts both in 64 bits


def rfc3339(microseconds: int) -> str:
    """Formats microseconds since the epoch as RFC 3339 in UTC with six decimals."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_format_seconds(seconds)}.{rest:06d}Z"


@lru_cache(64)  # many frames share a second
def _format_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def frame_fields(event: FrameEvent, captured_us: int, instance: str) -> dict[str, bytes]:
    """Returns the fields of a frame event's entry."""
    identity = f"{event.stream}/{captured_us}/{event.frame}"
    return _fields(FRAME_TYPE, identity, event.stream, captured_us, instance, event)


def aggregate_fields(event: AggregateEvent, captured_us: int, frame: int, instance: str) -> dict[str, bytes]:
    """Returns the fields of an aggregate event's entry; it is dated and numbered as the last frame of its window."""
    identity = f"{event.stream}/{captured_us}/{frame}"
    return _fields(AGGREGATE_TYPE, identity, event.stream, captured_us, instance, event)


def status_fields(kind: str, event: StatusEvent, sequence: int, at_us: int, instance: str) -> dict[str, bytes]:
    """Returns the fields of a status event's entry; `sequence` counts up in a run."""
    identity = f"{event.stream or instance}/{at_us}/{sequence}"
    return _fields(kind, identity, event.stream or instance, at_us, instance, event)


def _fields(
    kind: str, identity: str, subject: str, at_us: int, instance: str, body: msgspec.Struct
) -> dict[str, bytes]:
    return {
        "specversion": b"1.0",
        "id": identity.encode(),
        "source": f"/emotiond/{instance}".encode(),
        "type": kind.encode(),
        "subject": subject.encode(),
        "time": rfc3339(at_us).encode(),
        "datacontenttype": b"application/json",
        "data": _encoder.encode(body),
    }


def to_json_line(fields: dict[str, bytes]) -> bytes:
    """Returns an entry as one line of JSON: a CloudEvent in structured mode."""
    attributes: dict[str, Any] = {key: value.decode() for key, value in fields.items() if key != "data"}
    return _encoder.encode(attributes | {"data": msgspec.Raw(fields["data"])}) + b"\n"


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema of the bodies, generated from the types above."""
    (frame, aggregate, status), components = msgspec.json.schema_components(
        (FrameEvent, AggregateEvent, StatusEvent), ref_template="#/$defs/{name}")
    # else every other body would be one too
    components["StatusEvent"]["not"] = {"anyOf": [{"required": ["frame"]}, {"required": ["start"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bodies of emotiond's events",
        "oneOf": [frame, aggregate, status],
        "$defs": components,
    }


class EntryIds:
    """Rising ids of one key: `<ms>-<n>`, the capture time unless that would not rise, then the last one plus one.

    A camera's clock further than `far_ms` from the host's is not used for ids.
    """

    far_ms = 60_000

    def __init__(self) -> None:
        self.last: EntryId = (0, 0)

    def next(self, captured_us: int, now_us: int | None = None) -> EntryId:
        """Returns the next id; `now_us` is the host's clock at arrival, None where `captured_us` is no clock's."""
        ms = captured_us // 1000
        if now_us is not None and abs(ms - now_us // 1000) > self.far_ms:
            ms = now_us // 1000
        ms_last, n = self.last
        self.last = (ms, 0) if ms > ms_last else (ms_last, n + 1)
        return self.last

    def rise_above(self, other: EntryId) -> None:
        """Makes the next id higher than `other`."""
        self.last = max(self.last, other)


def format_id(entry_id: EntryId) -> str:
    """Formats an entry id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"


def parse_id(text: bytes | str) -> EntryId:
    """Parses `<ms>-<n>`.

    Raises:
        ValueError: it is no entry id.
    """
    match = _ID.fullmatch(text.decode() if isinstance(text, bytes) else text)
    if not match:
        raise ValueError("is no entry id")
    return int(match[1]), int(match[2])


if __name__ == "__main__":  # docs/events.schema.json
    import json
    print(json.dumps(json_schema(), indent=2))

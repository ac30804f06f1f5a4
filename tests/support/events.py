"""What a judge reads in Redis: entries with their ids, attributes and bodies, and whether a run is whole."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from redis.cluster import RedisCluster

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """One entry of a key.

    Attributes:
        id: ms and n.
        fields: as they stand there.
    """

    id: tuple[int, int]
    fields: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        """The event's data."""
        return json.loads(self.fields["data"])

    @property
    def event(self) -> dict[str, Any]:
        """The whole event, as a line of JSON holds it."""
        return {**self.fields, "data": self.body}

    @property
    def frame(self) -> int:
        """Index of the event's frame."""
        return self.body["frame"]

    @property
    def time(self) -> datetime:
        """The event's time."""
        return datetime.fromisoformat(self.fields["time"])

    @property
    def captured_ms(self) -> int:
        """The event's time in whole milliseconds since the epoch."""
        return (self.time - _EPOCH) // timedelta(milliseconds=1)


def read_entries(
    client: redis.Redis | RedisCluster, stream: str, low: str | int = "-", high: str | int = "+"
) -> list[Entry]:
    """Returns the entries of `emotions:<stream>` between two ids, in order."""
    found: Any = client.xrange(f"emotions:{stream}", low, high)
    return [parse_entry(entry_id, fields) for entry_id, fields in found]


def read_status(client: redis.Redis, stream: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Returns (short type such as "up", body) of the status events of a stream, or of all."""
    entries = read_entries(client, "status")
    events = [(e.fields["type"].removeprefix("emotiond.").removeprefix("stream.").partition(".")[0], e.body)
              for e in entries]
    return [(kind, body) for kind, body in events if stream is None or body["stream"] == stream]


def parse_entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Makes an entry of what redis-py returns for it."""
    ms, _, n = entry_id.decode().partition("-")
    return Entry((int(ms), int(n)), {key.decode(): value.decode() for key, value in fields.items()})


def assert_whole(entries: list[Entry], first: int | None = 0) -> None:
    """Asserts that every frame from `first` on (where None: from the first there) has one event, in order."""
    frames = [entry.frame for entry in entries]
    assert frames, "no events"
    begin = frames[0] if first is None else first
    expected = list(range(begin, begin + len(frames)))
    assert frames == expected, _difference(frames, expected)
    assert len({entry.fields["id"] for entry in entries}) == len(entries)


def _difference(frames: list[int], expected: list[int]) -> str:
    at = next(i for i, (is_, should) in enumerate(zip(frames, expected, strict=True)) if is_ != should)
    twice = sorted({frame for frame in frames if frames.count(frame) > 1})
    missing = sorted(set(range(expected[0], max(frames) + 1)) - set(frames))
    return f"frames around the fault: {frames[max(at - 3, 0):at + 4]}; twice: {twice[:20]}; missing: {missing[:20]}"

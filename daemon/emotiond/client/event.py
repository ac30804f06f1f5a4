"""The event that a subscriber gets."""

from datetime import datetime

import msgspec

from emotiond.client.entries import StoredEntry
from emotiond.events import BODIES, Body, Face, FrameEvent


class Event(msgspec.Struct, frozen=True):
    """A CloudEvent, with its body as `data`.

    Attributes:
        id: unique together with `source`; the same where an event comes again.
        source: the daemon that saw it, /emotiond/<instance>.
        type: such as emotiond.frame.v1.
        time: in UTC, to the microsecond; a frame's capture time.
        stream: its name; empty in heartbeats.
        data: the body.
        key: where it stands in Redis.
        entry_id: its id there, `<ms>-<n>`: a subscription may start after it.
        redelivered: the group has given it out before, so it may have been processed.
    """

    id: str
    source: str
    type: str
    time: datetime
    stream: str
    data: Body
    key: str
    entry_id: str
    redelivered: bool = False

    @property
    def faces(self) -> list[Face]:
        """The frame's faces, best score first; none in other events."""
        return self.data.faces if isinstance(self.data, FrameEvent) else []


_DECODERS = {name.encode(): msgspec.json.Decoder(body) for name, body in BODIES.items()}


def make_event(entry: StoredEntry) -> Event | None:
    """Returns the event of an entry; None where it is no event, or of a type that is not known here."""
    fields = entry.fields
    try:
        data = _DECODERS[fields["type"]].decode(fields["data"])
        event_id, source, kind, moment = (fields[name].decode() for name in ("id", "source", "type", "time"))
        time = datetime.fromisoformat(moment)
    except (KeyError, ValueError, RecursionError, msgspec.DecodeError):
        return None
    if time.tzinfo is None:
        return None
    return Event(event_id, source, kind, time, data.stream or "", data, entry.key, entry.id, entry.redelivered)

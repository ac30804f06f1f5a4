"""Event decoding: `emotiond tail` shows an entry or passes over it, whatever another writer put into the key.

So does the client.
"""

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any, cast

from emotiond.client.entries import read_entries
from emotiond.client.event import make_event
from emotiond.commands import tail
from emotiond.events import Box, Face, FrameEvent, Smoothed, frame_fields
from tests.fuzz.inputs import Inputs, alphabet

FACE = Face(7, Box(812, 240, 96, 121), 0.93, "happy", 0.88, {"happy": 0.88}, Smoothed("happy", 0.83), False)
EVENT = FrameEvent("lobby", 1234, 41.133, "rtcp", 1920, 1080, {"site": "hq"}, [FACE], "emotionnet-1.0.0")
FIELDS = {name.encode(): value for name, value in frame_fields(EVENT, 1_769_860_800_250_001, "edge-1").items()}
NAMES = (*FIELDS, b"", b"subject\xff", b"x\n")
JSON = alphabet('{}[]":,0123456789.-eE+ \\u/"nulltruefalse\n\té\x1b\x00')
PARTS = (b"null", b"1e999", b"-1", b"9" * 400, b"9" * 5000, b"NaN", b'"\\ud800"', b'"\\u001b[2J\\n"', b'"\xff"',
         b"[" * 100, b"[" * 2000, b'{"a":' * 2000, b"{}", b"0.5", b"\n")


@dataclass(frozen=True)
class Case:
    """An entry's fields, and how they are shown."""

    fields: dict[bytes, bytes]
    as_json: bool


def draw(inputs: Inputs) -> Case:
    """Changes an event's fields here and there."""
    fields, as_json = dict(FIELDS), inputs.flag()
    for _ in range(1 + inputs.below(4)):
        name = inputs.choose((b"data", inputs.choose(NAMES)))
        match inputs.below(5):
            case 0:
                fields.pop(name, None)
            case 1:
                fields[name] = inputs.text(40).encode(errors="surrogatepass")
            case 2:
                fields[name] = inputs.bytes(40)
            case _:
                value = fields.get(name, b"")
                at, size = inputs.below(len(value) + 1), inputs.below(12)
                part = inputs.choose((*PARTS, inputs.text(20, JSON).encode()))
                fields[name] = value[:at] + part + value[at + size:]
    return Case(fields, as_json)


class Client:
    """A Redis that holds one entry."""

    def __init__(self, fields: dict[bytes, bytes]) -> None:
        """Takes its fields."""
        self._fields = fields

    def xread(self, streams: object, **_: object) -> Any:
        """Returns it."""
        return [(b"emotions:lobby", [(b"1769860800250-0", self._fields)])]


def check(case: Case) -> None:
    """Reads the entry, makes an event of it and shows it."""
    entry, = read_entries(cast(Any, Client(case.fields)), {"emotions:lobby": "0"}, 0)
    event = make_event(entry)
    assert event is None or (event.time.tzinfo and event.type.encode() == case.fields[b"type"])
    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding="utf-8")
    with contextlib.redirect_stdout(out):
        shown = tail._print(entry.fields, case.as_json)
    out.flush()
    text = buffer.getvalue().decode()
    if not shown:
        assert not text, f"{text!r} of an entry that was passed over"
    elif case.as_json:
        assert text.count("\n") == 1, f"{text!r} is not one line"
        assert json.loads(text).keys() == entry.fields.keys()
    else:
        assert all(line.isprintable() for line in text.split("\n")), f"{text!r} has control characters"

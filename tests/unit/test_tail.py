"""`emotiond tail` shows events, and passes over what other writers put beside them."""

import json
import re
from typing import Any

import msgspec
import pytest

from emotiond.commands import tail
from emotiond.events import FRAME_TYPE, Box, Face, FrameEvent, Smoothed, aggregate_fields, frame_fields
from tests.unit.test_events import AT_US, WINDOW

FACE = Face(7, Box(812, 240, 96, 121), 0.93, "happy", 0.88, {"happy": 0.88}, Smoothed("happy", 0.83), False)
EVENT = FrameEvent("lobby", 1234, 41.133, "rtcp", 1920, 1080, {}, [FACE], "emotionnet-1.0.0")
FIELDS = frame_fields(EVENT, 1_769_860_800_250_001, "edge-1")
ROW = ("2026-01-31T12:00:00.250001Z lobby               1234     7      812,240 96x121 happy      0.88  happy 0.83\n")


def shown(capfd: pytest.CaptureFixture[str], fields: dict[str, bytes], as_json: bool) -> str | None:
    """Returns what is printed, None where the entry is passed over."""
    printed = tail._print(fields, as_json)
    out = capfd.readouterr().out
    assert printed or not out
    return out if printed else None


def test_a_frames_event_is_a_line_for_each_face_or_one_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(capfd, FIELDS, as_json=False) == ROW
    line = shown(capfd, FIELDS, as_json=True) or ""
    assert line.count("\n") == 1
    assert json.loads(line)["data"] == msgspec.json.decode(FIELDS["data"])
    assert json.loads(line)["type"] == FRAME_TYPE


def test_a_windows_event_is_a_line_too(capfd: pytest.CaptureFixture[str]) -> None:
    row = shown(capfd, aggregate_fields(WINDOW, AT_US, 899, "edge-1"), as_json=False) or ""

    assert re.split(r"\s+", row.strip(), maxsplit=2) == [
        WINDOW.start, "lobby", f"to {WINDOW.end}: 1702 faces in 310 frames with 5 or more: angry 12, fear 3, "
                               "happy 801, neutral 640, sad 44, surprise 61, unsure 141"]


@pytest.mark.parametrize("changed", [
    {"data": b""}, {"data": b"no json"}, {"data": b'{"a":"\xff"}'}, {"data": b"[" * 100_000}, {"data": b'{"a":1} {}'},
    {"subject": b"\xff"}, {"time": b"\xff"}])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_entry_that_is_no_event_is_passed_over(
    changed: dict[str, bytes], as_json: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    if changed.keys() == {"subject"} and not as_json:
        changed = {"data": b"{}"}     # the table has no other attributes

    assert shown(capfd, FIELDS | changed, as_json) is None


def test_a_body_of_several_lines_is_printed_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    body: Any = {"a": [1, 2], "b": "x"}

    line = shown(capfd, FIELDS | {"data": json.dumps(body, indent=2).encode()}, as_json=True) or ""

    assert line.count("\n") == 1
    assert json.loads(line)["data"] == body


def test_no_entry_commands_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    event = msgspec.structs.replace(EVENT, stream="\x1b[2J\n")

    row = shown(capfd, FIELDS | {"data": msgspec.json.encode(event)}, as_json=False)

    assert row == ROW.replace("lobby           ", r"\x1b[2J\n           ")

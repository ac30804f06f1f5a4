"""What subscribers read: fields, bodies, the published schema, entry ids, and that docs/events.md tells the truth."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from emotiond import events
from emotiond.events import (
    AGGREGATE_TYPE,
    DOWN_TYPE,
    ENDED_TYPE,
    FRAME_TYPE,
    HEARTBEAT_TYPE,
    UP_TYPE,
    AggregateEvent,
    Box,
    EntryIds,
    Face,
    FrameEvent,
    Smoothed,
    StatusEvent,
    aggregate_fields,
    format_id,
    frame_fields,
    json_schema,
    parse_id,
    rfc3339,
    status_fields,
    to_json_line,
)
from emotionnet.weights import LABELS, load_info
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/events.md").read_text()
VALIDATOR = Draft202012Validator(json_schema())
AT_US = 1_769_860_800_250_001      # 2026-01-31T12:00:00.250001Z
LAST_US = 253_402_300_799_999_999      # the last microsecond of the year 9999

PROBABILITIES = {
    "angry": 0.01, "disgust": 0.0, "fear": 0.01, "happy": 0.88, "neutral": 0.07, "sad": 0.02, "surprise": 0.01}
FACE = Face(7, Box(812, 240, 96, 121), 0.93, "happy", 0.88, PROBABILITIES, Smoothed("happy", 0.83), False)
EVENT = FrameEvent("lobby", 1234, 41.133, "rtcp", 1920, 1080, {"site": "hq", "floor": "2"}, [FACE], "emotionnet-1.0.0")
WINDOW = AggregateEvent(
    "lobby", "2026-01-31T12:00:00.000000Z", "2026-01-31T12:01:00.000000Z", 900, 5, 310, 1702,
    {"angry": 12, "disgust": 0, "fear": 3, "happy": 801, "neutral": 640, "sad": 44, "surprise": 61}, 141,
    {"site": "hq", "floor": "2"}, "emotionnet-1.0.0", "counting smiles")
STATUS = {
    UP_TYPE: StatusEvent("lobby"),
    DOWN_TYPE: StatusEvent("lobby", "stall", "nothing came for 10 s"),
    ENDED_TYPE: StatusEvent("lobby", "eof"),
    HEARTBEAT_TYPE: StatusEvent(None, streams={"lobby": "running", "door": "backoff"}),
}


def test_a_frames_fields_are_cloudevents_attributes() -> None:
    fields = frame_fields(EVENT, AT_US, "edge-1")

    assert msgspec.json.decode(fields.pop("data"), type=FrameEvent) == EVENT
    assert fields == {
        "specversion": b"1.0", "id": b"lobby/1769860800250001/1234", "source": b"/emotiond/edge-1",
        "type": b"emotiond.frame.v1", "subject": b"lobby", "time": b"2026-01-31T12:00:00.250001Z",
        "datacontenttype": b"application/json"}


@pytest.mark.parametrize("kind", STATUS)
def test_a_status_events_fields_are_cloudevents_attributes(kind: str) -> None:
    event = STATUS[kind]
    fields = status_fields(kind, event, 3, AT_US, "edge-1")

    subject = event.stream or "edge-1"
    assert msgspec.json.decode(fields["data"], type=StatusEvent) == event
    assert fields["type"] == kind.encode()
    assert fields["subject"] == subject.encode()
    assert fields["id"] == f"{subject}/{AT_US}/3".encode()


@given(st.integers(0, LAST_US))
@example(0)
@example(LAST_US)
def test_times_are_rfc_3339_to_the_microsecond(microseconds: int) -> None:
    text = rfc3339(microseconds)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert datetime.fromisoformat(text) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def test_a_json_line_is_a_cloudevent_in_structured_mode() -> None:
    line = to_json_line(frame_fields(EVENT, AT_US, "edge-1"))

    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    event = JSONFormat().read(CloudEvent, line)
    assert event.get_type() == FRAME_TYPE
    assert event.get_data() == json.loads(msgspec.json.encode(EVENT))


def test_the_published_schema_is_the_codes() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "emotiond.events"], capture_output=True, text=True, timeout=60, check=True,
        env={"PYTHONPATH": ":".join(str(ROOT / folder) for folder in ("daemon", "models"))}).stdout

    assert printed == (ROOT / "docs/events.schema.json").read_text(), (
        "write it anew: python -m emotiond.events > docs/events.schema.json")


@pytest.mark.parametrize("event", [
    EVENT, msgspec.structs.replace(EVENT, faces=[], pts=None, labels={}), *STATUS.values()], ids=repr)
def test_every_event_conforms_to_the_schema(event: FrameEvent | StatusEvent) -> None:
    VALIDATOR.validate(json.loads(msgspec.json.encode(event)))


def broken(**changes: Any) -> dict[str, Any]:
    return json.loads(msgspec.json.encode(EVENT)) | changes


@pytest.mark.parametrize("body", [
    {}, [], {"frame": 1}, broken(frame="1"), broken(faces=None), broken(faces=[{}]), broken(labels={"floor": 2}),
    {key: value for key, value in broken().items() if key != "model"}, {"stream": "lobby", "reason": 3}])
def test_the_schema_refuses_what_is_no_event(body: Any) -> None:
    assert not VALIDATOR.is_valid(body)


def test_the_schema_lets_keys_be_added() -> None:
    VALIDATOR.validate(broken(new={"key": 1}))
    VALIDATOR.validate({"stream": "lobby", "new": 1})


MOMENT = st.integers(0, 4_000_000_000_000_000)


@given(st.lists(st.tuples(MOMENT, st.none() | MOMENT)))
@example([(0, None), (0, None)])
@example([(5_000_000, 5_000_000), (4_000_000, 4_000_000), (4_000_001, 4_000_001), (6_000_000, 6_000_000)])
def test_entry_ids_always_rise(times: list[tuple[int, int | None]]) -> None:
    ids = EntryIds()

    given_out = [ids.next(captured, now) for captured, now in times]

    assert all(entry_id > (0, 0) for entry_id in given_out)      # Redis refuses 0-0
    assert all(after > before for before, after in pairwise(given_out))


@given(st.lists(st.tuples(MOMENT, st.integers(-59_000_000, 59_000_000)), max_size=20))
def test_an_id_is_the_capture_time_wherever_that_rises(times: list[tuple[int, int]]) -> None:
    ids, last = EntryIds(), (0, 0)

    for captured_us, skew in times:
        entry_id = ids.next(captured_us, captured_us + skew)

        rises = captured_us // 1000 > last[0]
        assert entry_id == ((captured_us // 1000, 0) if rises else (last[0], last[1] + 1))
        last = entry_id


@given(st.lists(st.tuples(st.booleans(), st.integers(61_000_000, 10**15)), min_size=1, max_size=20))
def test_a_far_clock_is_not_used_for_ids(skews: list[tuple[bool, int]]) -> None:
    ids, now_us = EntryIds(), 2 * 10**15

    for ahead, skew in skews:
        now_us += 40_000
        entry_id = ids.next(now_us + (skew if ahead else -skew), now_us)

        assert entry_id == (now_us // 1000, 0)


def test_a_clock_that_is_far_only_for_a_moment_does_not_push_later_ids_away() -> None:
    ids = EntryIds()
    now = 2 * 10**15
    for captured, at in ((now, now), (now + 10**12, now + 40_000), (now + 80_000, now + 80_000)):
        last = ids.next(captured, at)

    assert last == ((now + 80_000) // 1000, 0)


@given(st.tuples(st.integers(0, 10**13), st.integers(0, 10**6)), st.lists(MOMENT, min_size=1))
def test_ids_rise_above_those_of_another_writer(other: tuple[int, int], times: list[int]) -> None:
    ids = EntryIds()
    ids.next(times[0])
    ids.rise_above(other)

    assert all(ids.next(time) > other for time in times)


@given(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)))
def test_ids_are_written_as_redis_writes_them(entry_id: tuple[int, int]) -> None:
    text = format_id(entry_id)

    assert re.fullmatch(r"\d+-\d+", text)
    assert parse_id(text) == parse_id(text.encode()) == entry_id


@pytest.mark.parametrize("text", [
    "", "-", "5", "5-", "-5", "5--5", "+5-5", " 5-5", "5-5\n", "1_0-5", "\u0663-0", b"\xff-0", "9" * 21 + "-0", "0x5-0",
    "5-5-5"])
def test_what_redis_never_writes_is_no_id(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"is no entry id|can't decode"):
        parse_id(text)


# docs/events.md

def table(title: str) -> list[list[str]]:
    """Returns the names in code in the first column of the page's table below a title, row by row."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in section.splitlines() if row.startswith("| `")]


def properties(model: str) -> set[str]:
    return set(json_schema()["$defs"][model]["properties"])


def test_the_page_lists_every_field_and_every_key() -> None:
    keys = list(chain(*table("Body of `emotiond.frame.v1`")))

    assert list(chain(*table("Fields of an entry"))) == list(frame_fields(EVENT, AT_US, "edge-1"))
    assert len(keys) == len(set(keys))
    assert set(keys) == properties("FrameEvent") | properties("Face")
    assert [kind for kind, in table("The status key")] == list(STATUS)
    assert all(f"`{key}`" in PAGE.split("## The status key")[1] for key in properties("StatusEvent"))


def test_the_pages_body_is_one_of_the_built_in_model() -> None:
    body = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])

    VALIDATOR.validate(body)
    assert msgspec.convert(body, FrameEvent) == EVENT
    assert tuple(body["faces"][0]["probabilities"]) == LABELS == load_info().labels


def test_the_page_tells_of_windows_what_is_in_them() -> None:
    body = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])

    VALIDATOR.validate(body)
    assert msgspec.convert(body, AggregateEvent) == WINDOW
    assert sum(WINDOW.emotions.values()) + WINDOW.unsure == WINDOW.faces
    assert set(chain(*table("Body of `emotiond.aggregate.v1`"))) == properties("AggregateEvent")
    fields = aggregate_fields(WINDOW, AT_US, 899, "edge-1")
    assert fields.keys() == frame_fields(EVENT, AT_US, "edge-1").keys()
    assert (fields["type"], fields["id"]) == (AGGREGATE_TYPE.encode(), f"lobby/{AT_US}/899".encode())


def test_no_body_is_taken_for_another_one() -> None:
    for body in (EVENT, WINDOW, *STATUS.values()):
        VALIDATOR.validate(msgspec.to_builtins(body))       # fits exactly one


class EnoughError(Exception):
    """Ends the page's endless loop."""


def test_the_pages_code_reads_entries_and_makes_cloudevents_of_them(redis_server: RedisServer) -> None:
    subscribing, reading, making = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    writer = redis.Redis(port=redis_server.port)
    stored: Any = frame_fields(EVENT, AT_US, "edge-1")
    writer.xadd("emotions:lobby", stored, id=format_id(EntryIds().next(AT_US)))
    writer.close()
    handled: list[Any] = []

    def handle(body: Any) -> None:
        handled.append(body)
        raise EnoughError

    names: dict[str, Any] = {"handle": handle}
    local = reading.replace("redis.Redis(", f"redis.Redis(port={redis_server.port}, ").replace('"$"', '"0"')
    with pytest.raises(EnoughError):
        exec(local, names)
    names["client"].close()
    exec(making, names)

    event: CloudEvent = names["event"]
    assert handled == [json.loads(stored["data"])] == [event.get_data()]
    with pytest.raises(EnoughError):
        exec(subscribing.replace('6379/0", "lobby"', f'{redis_server.port}/0", "lobby", start="first"'), names)
    assert handled[1] == EVENT
    assert event.get_time() == datetime.fromisoformat("2026-01-31T12:00:00.250001+00:00")
    assert (event.get_type(), event.get_subject(), event.get_id()) == (
        FRAME_TYPE, "lobby", f"lobby/{AT_US}/1234")


def test_the_pages_range_is_a_minute() -> None:
    low, high = map(int, re.findall(r"XRANGE emotions:lobby (\d+) (\d+)", PAGE)[0])

    assert high - low == 60_000
    assert events.rfc3339(low * 1000) == "2026-01-31T12:00:00.000000Z"

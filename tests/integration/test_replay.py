"""`emotiond replay`: recordings and pictures through the daemon's own way, judged by what it leaves behind."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from emotiond.events import json_schema
from tests.conftest import require
from tests.support.commands import Ended, call, run, table_rows
from tests.support.events import read_entries
from tests.support.redis_server import RedisServer

CLIPS = ("one_woman_20s_360p.mp4", "no_face_negative.mp4", "face_then_none_hevc.mov", "group7_classroom_720p.mp4",
         "street_5plus_1080p.mp4", "intel_two_people_headpose.mp4")
AGAIN = ("face_then_none_hevc", "intel_two_people_headpose")      # cheap, and with several faces
START = "2026-01-31T12:00:00.250Z"
START_MS = round(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000) + 250


pytestmark = pytest.mark.timeout(600)      # 1,200 frames take 20 s on two quiet cores, and minutes on busy ones


@dataclass(frozen=True)
class Run:
    """What a replay of the clips left: its end, its events as lines, and a Redis that got them too."""

    ended: Ended
    lines: list[bytes]
    redis: RedisServer

    def events(self, stream: str) -> list[dict[str, Any]]:
        return [event for line in self.lines if (event := json.loads(line))["subject"] == stream]

    def frames(self, stream: str) -> int:
        return int(table_rows(self.ended.out)[stream]["frames"])

    def faces(self, stream: str) -> list[int]:
        return [len(event["data"]["faces"]) for event in self.events(stream)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Iterator[Run]:
    require("redis-server")
    folder = tmp_path_factory.mktemp("clips")
    with RedisServer(folder / "redis") as redis:
        ended = run("replay", *(data_dir / "clips" / name for name in CLIPS), "--start-time", START, "--workers", "2",
                    "--events", folder / "events.jsonl", "--redis", redis.url, deadline_s=500)
        yield Run(ended, (folder / "events.jsonl").read_bytes().splitlines(keepends=True), redis)


def events_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_clips_are_replayed_without_complaint(clips: Run) -> None:
    assert (clips.ended.code, clips.ended.err) == (0, "")
    assert list(table_rows(clips.ended.out)) == [name.partition(".")[0] for name in CLIPS]


def test_one_face_is_found_in_nearly_every_frame_of_the_woman(clips: Run) -> None:
    assert clips.frames("one_woman_20s_360p") == 472
    assert clips.faces("one_woman_20s_360p").count(1) >= 0.95 * 472


def test_a_clip_without_a_face_yields_no_event(clips: Run) -> None:
    assert clips.frames("no_face_negative") == 95
    assert not clips.events("no_face_negative")


def test_faces_end_where_the_cartoon_title_begins(clips: Run) -> None:
    seen = [event["data"]["frame"] for event in clips.events("face_then_none_hevc")]

    assert clips.frames("face_then_none_hevc") == 169
    assert 65 <= len(seen) <= 80
    assert seen == list(range(len(seen)))


@pytest.mark.parametrize(("stream", "frames", "average"), [
    ("group7_classroom_720p", 329, 4.5), ("street_5plus_1080p", 105, 5.0)])
def test_groups_are_found_whole(stream: str, frames: int, average: float, clips: Run) -> None:
    assert clips.frames(stream) == frames
    assert sum(clips.faces(stream)) / frames >= average


def test_every_line_is_a_cloudevent_that_conforms_to_the_schema(clips: Run) -> None:
    validator: Any = jsonschema.Draft202012Validator(json_schema())

    for line in clips.lines:
        event = JSONFormat().read(CloudEvent, line)
        data: Any = event.get_data()
        validator.validate(data)
        assert event.get_type() == "emotiond.frame.v1"
        assert event.get_source() == "/emotiond/replay"
        assert event.get_id().startswith(f"{event.get_subject()}/")
        assert data["faces"]
    assert len({json.loads(line)["id"] for line in clips.lines}) == len(clips.lines)


def test_boxes_lie_in_the_picture_and_probabilities_add_up(clips: Run) -> None:
    for event in map(json.loads, clips.lines):
        for face in event["data"]["faces"]:
            box, probabilities = face["box"], face["probabilities"]
            assert 0 <= box["x"] < box["x"] + box["width"] <= event["data"]["width"]
            assert 0 <= box["y"] < box["y"] + box["height"] <= event["data"]["height"]
            assert sum(probabilities.values()) == pytest.approx(1, abs=0.001)
            assert face["confidence"] == probabilities[face["emotion"]] == max(probabilities.values())


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_replay_is_byte_identical_with_any_number_of_workers(
    workers: str, clips: Run, data_dir: Path, tmp_path: Path
) -> None:
    files = [next((data_dir / "clips").glob(f"{name}.*")) for name in AGAIN]

    ended = run("replay", *files, "--start-time", START, "--workers", workers, "--events", tmp_path / "events.jsonl")

    assert ended.code == 0
    assert (tmp_path / "events.jsonl").read_bytes() == b"".join(
        line for line in clips.lines if json.loads(line)["subject"] in AGAIN)


def test_a_replay_that_follows_faces_is_byte_identical_too_and_finds_the_same_ones(
    clips: Run, data_dir: Path, tmp_path: Path
) -> None:
    found: list[bytes] = []
    (tmp_path / "follow.yaml").write_text("detector: {interval: 3}\nclassifier: {interval: 3}\n")
    for workers in ("1", "3"):
        file = tmp_path / f"events{workers}.jsonl"
        ended = run("replay", data_dir / "clips" / "group7_classroom_720p.mp4", "--start-time", START,
                    "--workers", workers, "--events", file, "-c", tmp_path / "follow.yaml")
        assert ended.code == 0
        found.append(file.read_bytes())

    assert found[0] == found[1]
    bodies = [json.loads(line)["data"] for line in found[0].splitlines()]
    faces = [len(body["faces"]) for body in bodies]
    kept = sum(face.get("carried", False) for body in bodies for face in body["faces"])
    assert kept == pytest.approx(sum(faces) * 2 / 3, rel=.02)
    answers: dict[int, dict[str, float]] = {}
    for body in bodies:
        for face in body["faces"]:
            assert not face.get("carried") or face["probabilities"] == answers[face["track_id"]]
            answers[face["track_id"]] = face["probabilities"]
    assert sum(faces) == pytest.approx(sum(clips.faces("group7_classroom_720p")), rel=.02)
    assert found[0] != b"".join(line for line in clips.lines if json.loads(line)["subject"] == "group7_classroom_720p")


def test_redis_has_the_same_events_under_rising_ids(clips: Run) -> None:
    streams = {event["subject"] for event in map(json.loads, clips.lines)}
    assert len(streams) == 5

    for stream in streams:
        entries = read_entries(clips.redis.client, stream)
        assert [entry.event for entry in entries] == clips.events(stream)
        assert all(before.id < after.id for before, after in pairwise(entries))
        assert all(entry.id == (entry.captured_ms, 0) for entry in entries)


def test_xrange_finds_events_by_their_capture_time(clips: Run) -> None:
    events = clips.events("one_woman_20s_360p")
    begin = events[0]["data"]["pts"]

    found = read_entries(clips.redis.client, "one_woman_20s_360p", START_MS + 5000, START_MS + 5999)

    expected = [event for event in events if 5.0 <= event["data"]["pts"] - begin < 6.0]
    assert len(expected) > 20
    assert [entry.event for entry in found] == expected


def test_replaying_again_into_the_same_key_goes_on_above_the_old_ids(clips: Run, data_dir: Path) -> None:
    stream = "intel_two_people_headpose"
    before = read_entries(clips.redis.client, stream)

    ended = call("replay", data_dir / "clips" / f"{stream}.mp4", "--start-time", START, "--redis", clips.redis.url)

    after = read_entries(clips.redis.client, stream)
    assert (ended.code, ended.err) == (0, "")
    assert after[:len(before)] == before
    assert [entry.fields for entry in after[len(before):]] == [entry.fields for entry in before]
    assert all(earlier.id < later.id for earlier, later in pairwise(after))


def test_as_if_live_drops_are_counted_and_nothing_is_missing(data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "emotiond.yaml"
    config.write_text("publish_empty: true\n")

    ended = run("replay", data_dir / "clips" / "one_woman_20s_360p.mp4", "--live", "--speed", "max", "--workers", "1",
                "-c", config, "--events", tmp_path / "events.jsonl")

    row = table_rows(ended.out)["one_woman_20s_360p"]
    analyzed = [event["data"]["frame"] for event in events_in(tmp_path / "events.jsonl")]
    assert ended.code == 0
    assert int(row["frames"]) == 472
    assert 0 < int(row["dropped"]) == 472 - len(analyzed)
    assert analyzed == sorted(set(analyzed))

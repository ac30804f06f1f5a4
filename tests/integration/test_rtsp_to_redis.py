"""Cameras behind a real RTSP server, seen by a real daemon, their events judged in a real Redis."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import psutil
import pytest
from cloudevents.core.v1.event import CloudEvent

from emotiond.events import json_schema
from tests.support.daemon import Daemon
from tests.support.events import Entry, read_entries, read_status
from tests.support.redis_server import RedisServer
from tests.support.rtsp import Mount, RtspServer
from tests.support.videos import write_camera_copy
from tests.support.waiting import poll

PASSWORD = "p@ss/w:d%41&hunter2"      # %41 is no A: it stands for itself
WRONG_PASSWORD = "hunter2-nobodys-own"
REDIS_PASSWORD = "redis@own/hunter2"
TOKEN = "hunter2-in-a-query"
SECRETS = [form for secret in (PASSWORD, WRONG_PASSWORD, REDIS_PASSWORD, TOKEN) for form in (secret, quote(secret, ""))]

WOMAN = ("woman-tcp", "woman-udp", "url-password", "password-file")
SEEN = (*WOMAN, "group")
ENOUGH = 35      # events of each stream by the camera's own clock


@dataclass(frozen=True)
class Run:
    """A daemon that sees the cameras, and its Redis."""

    daemon: Daemon
    redis: RedisServer

    def entries(self, stream: str) -> list[Entry]:
        return read_entries(self.redis.client, stream)

    def enough(self, stream: str) -> bool:
        """Whether there are enough events by the camera's own clock."""
        return sum(entry.body["clock"] == "rtcp" for entry in self.entries(stream)) >= ENOUGH


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, require_server: Callable[[str], None]
) -> Iterator[Run]:
    """Returns when every camera that can be seen was seen for a while."""
    require_server("rtsp-server")
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("cameras")
    secret = folder / "camera-password"
    secret.write_text(PASSWORD + "\n")
    # At rates that two busy cores hold for all; copies have the key frames that who joins later needs.
    original = data_dir / "clips" / "one_woman_20s_360p.mp4"
    woman = write_camera_copy(original, folder / "woman.mp4", fps=5)
    group = write_camera_copy(data_dir / "clips" / "group7_classroom_720p.mp4", folder / "group.mp4", fps=4)
    with (
        RedisServer(folder / "redis", password=REDIS_PASSWORD) as redis,
        RtspServer(folder / "open", {
            "/as-it-is": Mount(original, fps=5), "/woman": woman, "/group": group}) as everybodys,
        RtspServer(folder / "digest", {"/woman": woman}, user="ada", password=PASSWORD) as guarded,
        Daemon(folder, {
            "woman-tcp": {"source": everybodys.url("/as-it-is"), "labels": {"site": "hq", "floor": "2"}},
            "woman-udp": {"source": everybodys.url("/woman"), "transport": "udp"},
            "group": {"source": everybodys.url("/group")},
            "url-password": {"source": guarded.url("/woman")},
            "password-file": {
                "source": guarded.url("/woman", user=""), "username": "ada", "password_file": str(secret)},
            "wrong-password": {"source": guarded.url("/woman", password=WRONG_PASSWORD)},
            "unknown-path": {"source": everybodys.url("/cellar") + f"?token={TOKEN}"},
        }, redis.url) as daemon,
    ):
        run = Run(daemon, redis)
        poll(lambda: all(map(run.enough, SEEN)), 90, every_s=0.2, message=lambda: str(
            {stream: len(run.entries(stream)) for stream in SEEN}) + daemon.output())
        yield run


@pytest.mark.parametrize("stream", SEEN)
def test_events_conform_to_the_published_schema_and_the_cloudevents_sdk(run: Run, stream: str) -> None:
    validator: Any = jsonschema.Draft202012Validator(json_schema())

    for entry in run.entries(stream):
        validator.validate(entry.body)
        attributes: dict[str, Any] = {name: value for name, value in entry.fields.items() if name != "data"}
        attributes["time"] = datetime.fromisoformat(attributes["time"])
        event = CloudEvent(attributes, entry.fields["data"])
        assert event.get_type() == "emotiond.frame.v1"
        assert event.get_source() == "/emotiond/test"
        assert event.get_subject() == stream
        assert event.get_datacontenttype() == "application/json"
        captured_us = round((entry.time - datetime.fromtimestamp(0, UTC)).total_seconds() * 1e6)
        assert event.get_id() == f"{stream}/{captured_us}/{entry.frame}"


def test_status_events_conform_to_the_published_schema(run: Run) -> None:
    validator: Any = jsonschema.Draft202012Validator(json_schema())
    bodies = [body for _, body in read_status(run.redis.client)]

    assert len(bodies) >= len(SEEN)
    for body in bodies:
        validator.validate(body)


def test_the_published_schema_refuses_what_is_no_event(run: Run) -> None:
    validator: Any = jsonschema.Draft202012Validator(json_schema())
    body = run.entries("woman-tcp")[0].body

    assert not validator.is_valid(body | {"frame": "first"})
    assert not validator.is_valid({name: value for name, value in body.items() if name != "faces"})
    assert not validator.is_valid(body | {"faces": [{**body["faces"][0], "emotion": 1}]})


@pytest.mark.parametrize("stream", SEEN)
def test_events_are_found_by_capture_time(run: Run, stream: str) -> None:
    # Right after the change of clocks the ids must still pass the last arrival; from then on they are the time.
    first, *wanted, last = run.entries(stream)[-15:]
    assert all(entry.id == (entry.captured_ms, 0) for entry in wanted)

    found = read_entries(run.redis.client, stream, first.captured_ms + 1, last.captured_ms - 1)

    assert found == wanted


@pytest.mark.parametrize("stream", SEEN)
def test_capture_time_is_the_cameras_after_its_first_report(run: Run, stream: str) -> None:
    entries = run.entries(stream)
    clocks = [clock for clock, _ in groupby(entry.body["clock"] for entry in entries)]

    assert clocks in (["arrival", "rtcp"], ["rtcp"])
    timed = [entry for entry in entries if entry.body["clock"] == "rtcp"]
    for before, after in pairwise(timed):
        passed = (after.time - before.time).total_seconds()
        assert passed == pytest.approx(after.body["pts"] - before.body["pts"], abs=0.1)
    assert abs((datetime.now(UTC) - run.entries(stream)[-1].time).total_seconds()) < 60


@pytest.mark.parametrize("stream", SEEN)
def test_entry_ids_rise_with_the_frames(run: Run, stream: str) -> None:
    entries = run.entries(stream)

    for before, after in pairwise(entries):
        assert before.id < after.id
        assert before.frame < after.frame
    assert len({entry.fields["id"] for entry in entries}) == len(entries)


@pytest.mark.parametrize("stream", WOMAN)
def test_one_woman_is_one_face(run: Run, stream: str) -> None:
    entries = run.entries(stream)
    scrape = run.daemon.scrape()

    assert scrape("events_total", stream=stream) >= 0.9 * scrape("frames_analyzed_total", stream=stream)
    assert sum(len(entry.body["faces"]) == 1 for entry in entries) >= 0.9 * len(entries)
    assert {(entry.body["width"], entry.body["height"]) for entry in entries} == {(640, 360)}
    for face in (face for entry in entries for face in entry.body["faces"]):
        box = face["box"]
        assert box["x"] >= 0 <= box["y"]
        assert box["x"] + box["width"] <= 640
        assert box["y"] + box["height"] <= 360
        assert list(face["probabilities"]) == ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert face["confidence"] == face["probabilities"][face["emotion"]] == max(face["probabilities"].values())


def test_a_group_is_several_faces(run: Run) -> None:
    faces = [len(entry.body["faces"]) for entry in run.entries("group")]

    assert sum(faces) >= 4 * len(faces)
    assert max(faces) <= 9


def test_a_streams_labels_are_in_its_events_alone(run: Run) -> None:
    assert {str(entry.body["labels"]) for entry in run.entries("woman-tcp")} == {"{'site': 'hq', 'floor': '2'}"}
    assert {str(entry.body["labels"]) for entry in run.entries("woman-udp")} == {"{}"}


@pytest.mark.parametrize(("stream", "state", "outcome"), [
    ("wrong-password", "auth_failed", "auth"), ("unknown-path", "not_found", "not_found")])
def test_a_camera_that_refuses_is_told_apart_and_harms_nobody(run: Run, stream: str, state: str, outcome: str) -> None:
    scrape = run.daemon.scrape()
    down = [body for kind, body in read_status(run.redis.client, stream) if kind == "down"]

    assert run.daemon.streams()[stream]["state"] == state
    assert run.daemon.streams()[stream]["error"]
    assert scrape("stream_state", stream=stream, state=state) == 1
    assert scrape("stream_connects_total", stream=stream, outcome=outcome) >= 1
    assert scrape("stream_connects_total", stream=stream) == scrape(
        "stream_connects_total", stream=stream, outcome=outcome)
    assert scrape("stream_up", stream=stream) == 0
    assert [body["reason"] for body in down] == [outcome]
    assert run.daemon.get("/readyz").status == 200


def test_no_secret_is_in_any_output(run: Run) -> None:
    client = run.redis.client
    command: list[str] = psutil.Process(run.daemon.child.pid).cmdline()
    outputs = {
        "log": run.daemon.log.read_text(),
        "command": " ".join(command),
        **{page: run.daemon.get(page).text for page in ("/metrics", "/streams", "/healthz", "/readyz", "/none")},
        **{key.decode(): str([entry.fields for entry in read_entries(client, key.decode().partition(":")[2])])
           for key in client.scan_iter("*")},
    }

    assert len(outputs) == 2 + 5 + len(SEEN) + 1
    assert "wrong-password" in outputs["/streams"]
    for output, text in outputs.items():
        for secret in SECRETS:
            assert secret not in text, f"{secret} in {output}"

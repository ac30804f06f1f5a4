"""A daemon that counts: what it tells of groups, and that it tells nothing of a single face."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from emotiond.events import AggregateEvent
from emotionnet.weights import LABELS
from tests.integration.conftest import FPS
from tests.support.commands import run, table_rows
from tests.support.daemon import Daemon, Scrape, endless, write_config
from tests.support.events import read_entries, read_status
from tests.support.live import watch
from tests.support.pictures import Place, face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll

COUNTING = {"mode": "aggregate", "window": 2, "min_group": 5}
PURPOSE = "counting smiles at the fair"
SECONDS = 2


def places(count: int) -> list[Place]:
    return [(20 + 200 * (index % 3), 10 + 170 * (index // 3), 160) for index in range(count)]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six faces in each frame."""
    frames = face_frames(SECONDS * FPS, 640, 360, lambda _: places(6))
    return write_video(tmp_path_factory.mktemp("group") / "group.mp4", frames, fps=FPS)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four faces in each frame."""
    frames = face_frames(SECONDS * FPS, 640, 360, lambda _: places(4))
    return write_video(tmp_path_factory.mktemp("few") / "few.mp4", frames, fps=FPS)


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, group: Path, few: Path, server: RedisServer,
) -> Iterator[Daemon]:
    server.client.flushall()
    streams = {"fair": endless(group, FPS), "desk": endless(few, FPS)}
    with Daemon(tmp_path_factory.mktemp("counting"), streams, server.url, privacy=COUNTING, publish_empty=True,
                responsible_use={"purpose": PURPOSE}, log={"level": "debug"}) as daemon:
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="fair") >= 2, "two windows")
        daemon.wait_for(lambda scrape: scrape("frames_analyzed_total", stream="desk") > 3 * SECONDS * FPS, "frames")
        yield daemon


def emotions_counted(scrape: Scrape, stream: str) -> float:
    return scrape("faces_classified_total", stream=stream)


def test_a_group_is_counted(daemon: Daemon, server: RedisServer) -> None:
    entries = read_entries(server.client, "fair")
    events = [msgspec.convert(entry.body, AggregateEvent) for entry in entries]

    assert {entry.fields["type"] for entry in entries} == {"emotiond.aggregate.v1"}
    for event in events:
        assert (event.min_group, event.model.partition("-")[0], event.purpose) == (5, "emotionnet", PURPOSE)
        assert 0 < event.counted <= event.frames <= SECONDS * (FPS + 2)
        assert 5 * event.counted <= event.faces <= 6 * event.counted
        assert sum(event.emotions.values()) + event.unsure == event.faces
        assert tuple(event.emotions) == LABELS
    starts = [event.start for event in events]
    assert starts == sorted(set(starts))
    scrape = daemon.wait_for(lambda scrape: emotions_counted(scrape, "fair") > 0, "counts")
    assert emotions_counted(scrape, "fair") <= scrape("faces_detected_total", stream="fair")


def test_a_daemon_that_counts_tells_nothing_of_a_single_face(daemon: Daemon, server: RedisServer) -> None:
    """Of four people nothing is to be found out: all outputs say that frames were analysed, and no more."""
    scrape = daemon.scrape()
    assert scrape("frames_analyzed_total", stream="desk") > 3 * SECONDS * FPS
    assert scrape("faces_detected_total", stream="desk") == 0
    assert emotions_counted(scrape, "desk") == 0
    assert read_entries(server.client, "desk") == []
    assert scrape("events_total", stream="desk") == 0

    with watch(daemon.port) as messages:
        told = [next(messages) for _ in range(3)]
    for message in told:
        desk = message["streams"]["desk"]
        assert (desk["now"], desk["window"], desk["history"], message["events"]) == (None, None, [], [])
        assert message["streams"]["fair"]["now"] is None
    others = [daemon.get("/streams").text, daemon.log.read_text(), json.dumps(read_status(server.client))]
    names = re.compile("|".join(LABELS))
    assert not any(names.search(text) for text in others)
    keys = {key.decode() for key in server.client.scan_iter("*")}
    assert keys == {"emotions:fair", "emotions:status"}


def test_the_counts_of_a_daemon_that_stops_are_told(tmp_path: Path, group: Path, server: RedisServer) -> None:
    with Daemon(tmp_path, {"stops": {"source": str(group)}}, server.url,
                privacy={**COUNTING, "window": "1h"}) as daemon:
        daemon.wait_for(lambda scrape: scrape("frames_analyzed_total", stream="stops") == SECONDS * FPS, "the clip")
        assert daemon.end() == 0

    counted = [entry.body["counted"] for entry in read_entries(server.client, "stops")]
    assert sum(counted) == SECONDS * FPS
    assert len(counted) <= 2      # an hour may have begun meanwhile


def test_a_stream_that_is_over_is_told_of_without_waiting_for_more(
    tmp_path: Path, group: Path, server: RedisServer,
) -> None:
    with Daemon(tmp_path, {"ends": {"source": str(group)}}, server.url, privacy=COUNTING):
        poll(lambda: sum(entry.body["counted"] for entry in read_entries(server.client, "ends")) == SECONDS * FPS, 30,
             "the last window was not told")


def test_a_replay_counts_as_well(tmp_path: Path, group: Path, few: Path) -> None:
    config = write_config(tmp_path / "counting.yaml", {"privacy": COUNTING})

    ended = run("replay", group, few, "-c", config, "--events", tmp_path / "events.jsonl",
                "--start-time", "2026-01-31T12:00:00Z")

    assert ended.code == 0, ended.err
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["type"], event["subject"], event["data"]["counted"]) for event in events] == [
        ("emotiond.aggregate.v1", "group", SECONDS * FPS)]
    assert not re.search("|".join(LABELS), ended.out + ended.err)
    assert table_rows(ended.out)["few"]["frames"] == str(SECONDS * FPS)

    refused = run("replay", few, "-c", config, "--annotate", tmp_path / "few-annotated.mp4")
    assert (refused.code, len(refused.lines)) == (2, 1)
    assert "privacy.mode is aggregate" in refused.err
    assert not (tmp_path / "few-annotated.mp4").exists()


@pytest.mark.parametrize("purpose", [None, PURPOSE])
def test_the_start_reminds_of_responsible_use_until_a_purpose_is_given(
    purpose: str | None, tmp_path: Path, clip: Path, server: RedisServer,
) -> None:
    use = {"purpose": purpose} if purpose else {}
    server.client.delete("emotions:door")
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url, responsible_use=use) as daemon:
        body = poll(lambda: read_entries(server.client, "door"), 30, daemon.output)[0].body

        reminders = [entry for entry in daemon.log_entries() if entry["level"] == "warning"]
        assert len(reminders) == (0 if purpose else 2)
        assert any("Article 5" in entry["message"] for entry in reminders) == (purpose is None)
        assert daemon.log_entries("runs")[0].get("purpose") == purpose
    assert body.get("purpose") == purpose

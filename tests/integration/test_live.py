"""The live page's files, its messages and its pictures, from real daemons."""

import contextlib
import http.client
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import cv2
import numpy as np
import pytest

from emotiond.live.board import HISTORY, MOST_EVENTS
from emotiond.live.pages import MOST_WATCHERS
from emotionnet.weights import LABELS
from tests.integration.conftest import FPS
from tests.support.daemon import Daemon, endless, send
from tests.support.events import read_entries
from tests.support.live import RefusedError, watch
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll
from yunet.detector import load_detector

TOKEN = "hunter2-open-sesame"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, clip: Path, server: RedisServer) -> Iterator[Daemon]:
    """One camera that runs and one that is not there."""
    folder = tmp_path_factory.mktemp("live")
    streams = {"door": endless(clip, FPS), "yard": {"source": f"rtsp://127.0.0.1:{free_port()}/"}}
    with Daemon(folder, streams, server.url, http={"preview": True}) as daemon:
        daemon.wait_until_ready()
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") > 5, "events")
        yield daemon


def test_the_page_is_whole_and_asks_nothing_of_others(daemon: Daemon) -> None:
    page = daemon.get("/")
    assert (page.status, page.kind) == (200, "text/html; charset=utf-8")
    for file, kind in (("live.css", "text/css"), ("live.js", "text/javascript"), ("card.js", "text/javascript"),
                       ("chart.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = daemon.get(f"/{file}")
        assert answer.status == 200
        assert answer.kind.startswith(kind)
        assert "//" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert "//" not in page.text


def test_a_message_tells_of_every_stream(daemon: Daemon) -> None:
    message = json.loads(daemon.get("/live").text)

    assert (message["instance"], message["labels"], message["mode"]) == ("test", list(LABELS), "frames")
    assert len(message["colors"]) == len(LABELS) + 1
    door, yard = message["streams"]["door"], message["streams"]["yard"]
    assert (door["state"], door["error"], door["size"]) == ("running", None, [320, 240])
    assert door["read"] >= door["analyzed"] >= door["published"] >= door["timed"] > 0
    assert 0 < door["latency_seconds"] / door["timed"] < 5
    at, stream, _, faces, more = door["now"]
    assert (abs(at - time.time()) < 10, stream, len(faces), more) == (True, "door", 1, 0)
    assert faces[0][1] in LABELS
    assert yard["state"] in ("backoff", "connecting", "not_found")
    assert "127.0.0.1" in yard["error"]
    assert yard["now"] is None
    assert len(message["events"]) <= MOST_EVENTS
    assert len(door["history"]) <= HISTORY


def test_messages_come_twice_a_second_and_tell_what_is_new(daemon: Daemon, server: RedisServer) -> None:
    with watch(daemon.port) as messages:
        first = next(messages)
        seen = {event[2] for event in first["events"]}
        begin = time.monotonic()
        later = [next(messages) for _ in range(6)]
        seconds = time.monotonic() - begin

    assert 2 < seconds < 6
    frames = [event[2] for message in later for event in message["events"]]
    assert frames == list(range(frames[0], frames[0] + len(frames)))     # each once, none left out
    assert not seen & set(frames)
    assert all(len(message["streams"]["door"]["history"]) <= 3 for message in later)
    histories = [message["streams"]["door"]["history"] for message in (first, *later)]
    counted = {begin: sum(counts) for history in histories for begin, counts, _ in history}
    at = sorted(counted)[-2]      # a whole second
    assert counted[at] in range(FPS - 4, FPS + 5)
    stored = {event.frame for event in read_entries(server.client, "door")}
    assert set(frames[:-FPS]) <= stored


def test_an_event_is_told_within_a_second(daemon: Daemon) -> None:
    with watch(daemon.port) as messages:
        next(messages)
        late = [time.time() - event[0] for _ in range(4) for event in next(messages)["events"]]

    assert late
    assert max(late) < 1


def test_no_more_pages_than_there_is_room_for_and_each_place_is_given_back(daemon: Daemon) -> None:
    def take_all() -> bool:
        """Tells whether there was room for so many, and then for no more."""
        try:
            with ExitStack() as stack:
                for _ in range(MOST_WATCHERS):
                    next(stack.enter_context(watch(daemon.port)))
                refused = send(daemon.port, "GET", "/live", None, {"Accept": "text/event-stream"})
        except RefusedError:      # a place is free again when the daemon has noticed that its page is gone
            return False
        assert (refused.status, refused.text) == (503, "too many pages are open; close one\n")
        return True

    for _ in range(2):
        poll(take_all, 30, "no room for all, or no place was given back", every_s=0.5)


def test_from_elsewhere_the_token_is_wanted(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    (tmp_path / "token").write_text(TOKEN)
    http = {"token_file": str(tmp_path / "token"), "preview": True}
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url, http=http) as daemon:
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") > 0, "events")
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        for path, method in itertools.product(("/live", "/streams/door/picture"), ("GET", "HEAD")):
            for headers in ({}, {"X-Forwarded-For": "10.8.0.7"}, {"Authorization": "Bearer wrong"}):
                assert send(daemon.port, method, path, None, headers).status == 401
        assert send(daemon.port, "GET", "/live", None, bearer).status == 200
        assert send(daemon.port, "HEAD", "/streams/door/picture", None, bearer).status == 200
        assert send(daemon.port, "GET", "/streams", None, {"X-Forwarded-For": "10.8.0.7"}).status == 401
        assert send(daemon.port, "GET", "/streams", None, {}).status == 200
        assert send(daemon.port, "POST", "/streams/door/picture", b"", bearer).status == 405


def test_from_elsewhere_without_a_token_there_is_no_look(daemon: Daemon) -> None:
    for path in ("/live", "/streams/door/picture"):
        for headers in ({"X-Forwarded-For": "10.8.0.7"}, {"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            refused = send(daemon.port, "GET", path, None, headers)
            assert (refused.status, "http.token_file" in refused.text) == (403, True)


def test_every_answer_forbids_what_a_browser_could_be_made_to_do(daemon: Daemon) -> None:
    for path in ("/", "/live", "/metrics", "/nothing"):
        with contextlib.suppress(HTTPError), urlopen(f"http://127.0.0.1:{daemon.port}{path}", timeout=10) as reply:
            headers = reply.headers
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert (headers["X-Content-Type-Options"], headers["Cross-Origin-Resource-Policy"]) == (
                "nosniff", "same-origin")


def picture_of(port: int, stream: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/streams/{stream}/picture")
        reply = connection.getresponse()
        body = reply.read()
        assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg"), body
        return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    finally:
        connection.close()


def faces_in(picture: Any) -> list[float]:
    return load_detector(score=0.3).detect([np.ascontiguousarray(picture.transpose(2, 0, 1))])[0].scores.tolist()


def test_a_picture_shows_the_scene_and_nobody_in_it(daemon: Daemon) -> None:
    picture = picture_of(daemon.port, "door")

    assert picture.shape == (240, 320, 3)
    assert faces_in(picture) == []
    assert send(daemon.port, "GET", "/streams/yard/picture", None, {}).status == 404
    assert send(daemon.port, "GET", "/streams/nobody/picture", None, {}).status == 404


def test_a_picture_shows_faces_only_where_the_configuration_says_so_and_masks_never(
    tmp_path: Path, clip: Path, server: RedisServer,
) -> None:
    streams = {"plain": endless(clip, FPS), "masked": {**endless(clip, FPS), "masks": [[0.0, 0.0, 0.1, 1.0]]}}
    with Daemon(tmp_path, streams, server.url, http={"preview": True}, privacy={"blur_preview": False}) as daemon:
        daemon.wait_for(lambda scrape: all(
            scrape("events_published_total", stream=name) > 0 for name in streams), "events of both")

        assert faces_in(picture_of(daemon.port, "plain"))
        assert picture_of(daemon.port, "masked")[:, :28].max() < 24
        assert picture_of(daemon.port, "plain")[:, :28].max() > 24


def test_without_preview_there_is_no_picture_and_none_is_kept(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url) as daemon:
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") > 0, "events")

        answer = send(daemon.port, "GET", "/streams/door/picture", None, {})
        assert (answer.status, "http.preview" in answer.text) == (404, True)
        assert not json.loads(daemon.get("/live").text)["preview"]


def test_a_daemon_that_stops_ends_its_pages_at_once(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url) as daemon:
        daemon.wait_until_ready()
        with watch(daemon.port, deadline_s=30) as messages:
            next(messages)
            assert daemon.end() == 0
            ended = list(messages)

    assert ended == [] or ended[-1]["problem"] == "stopping"

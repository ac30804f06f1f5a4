"""Streams that come and go over HTTP."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emotiond.shard import shard_of
from tests.integration.conftest import FPS
from tests.support.daemon import Answer, Daemon, endless, send
from tests.support.events import read_entries
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

PASSWORD, TOKEN = "hunter2secret", "hunter2-open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Scene:
    """A daemon that takes streams over HTTP, beside one of its configuration."""

    def __init__(self, folder: Path, clip: Path, server: RedisServer, **sections: Any) -> None:
        server.client.flushall()
        self.sections = sections
        (folder / "token").write_text(TOKEN)
        self.folder, self.server, self.file = folder, server, folder / "streams.json"
        self.daemon = self.make({"door": endless(clip, FPS)})
        self.camera = endless(clip, FPS)

    def make(self, streams: dict[str, Any]) -> Daemon:
        return Daemon(self.folder, streams, self.server.url, http={
            "token_file": str(self.folder / "token"), "streams_file": str(self.file)}, **self.sections)

    def add(self, body: object) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return send(self.daemon.port, "POST", "/streams", content, BEARER)

    def remove(self, name: str) -> Answer:
        return send(self.daemon.port, "DELETE", f"/streams/{name}", None, BEARER)

    def wait_for_events(self, stream: str) -> None:
        poll(lambda: len(read_entries(self.server.client, stream)) >= 3, 30, self.daemon.output)


@pytest.fixture
def scene(tmp_path: Path, clip: Path, server: RedisServer) -> Iterator[Scene]:
    scene = Scene(tmp_path, clip, server)
    with scene.daemon:
        scene.daemon.wait_until_ready()
        yield scene


def test_a_stream_comes_changes_outlives_a_kill_and_goes(scene: Scene, clip: Path) -> None:
    answer = scene.add({"hall": scene.camera, "yard": {**scene.camera, "labels": {"site": "hq"}}})
    assert (answer.status, json.loads(answer.text)["added"]) == (200, ["hall", "yard"])
    scene.wait_for_events("hall")
    scene.wait_for_events("yard")
    assert os.stat(scene.file).st_mode & 0o777 == 0o600

    changed = scene.add({"hall": {**scene.camera, "labels": {"floor": "2"}}})
    assert json.loads(changed.text) == {"added": [], "removed": [], "changed": ["hall"], "at_restart": []}
    poll(lambda: read_entries(scene.server.client, "hall")[-1].body["labels"] == {"floor": "2"}, 30,
         scene.daemon.output)
    assert scene.daemon.scrape()("stream_connects_total", stream="yard", outcome="ok") == 1

    scene.daemon.kill()
    with scene.make({"door": scene.camera}) as scene.daemon:
        scene.daemon.wait_until_ready()
        assert {name: stream["origin"] for name, stream in scene.daemon.streams().items()} == {
            "door": "file", "hall": "http", "yard": "http"}

        assert json.loads(scene.remove("hall").text)["removed"] == ["hall"]
        poll(lambda: set(scene.daemon.streams()) == {"door", "yard"}, 30, scene.daemon.output)
        assert json.loads(scene.file.read_text())["streams"].keys() == {"yard"}
        assert scene.daemon.end() == 0


@pytest.mark.parametrize(("body", "status", "sentence"), [
    (b"{", 422, "the body is no JSON object of streams"),
    (b"[]", 422, "the body is no JSON object of streams"),
    (b"{}", 422, "the body is no JSON object of streams"),
    (b"[" * 50_000, 422, "the body is no JSON object of streams"),
    ({"hall": {"sauce": f"rtsp://user:{PASSWORD}@camera/"}}, 422, "did you mean source?"),
    ({"status": {"source": "/dev/video0"}}, 422, "streams.status"),
    ({"hall": {"source": "gopher://camera/"}}, 422, "streams.hall.source"),
    ({"door": {"source": "/dev/video0"}}, 422, "streams.door: is in"),
    ({"hall": {"source": "rtsp://c/", "username": "u", "password_file": "/nowhere"}}, 422, "/nowhere cannot be read"),
    (b" " * 70_000, 413, "at most 65536 bytes"),
], ids=["half", "a list", "none", "deep", "misspelt", "a reserved name", "no source", "the configuration's",
        "no secret", "large"])
def test_what_is_refused_changes_nothing(shared: Scene, body: object, status: int, sentence: str) -> None:
    answer = shared.add(body)

    assert answer.status == status
    assert sentence in answer.text
    assert PASSWORD not in answer.text + shared.daemon.output(1000)
    assert not shared.file.exists()     # not for a moment: a daemon killed just then would not start again
    assert set(shared.daemon.streams()) == {"door"}
    assert shared.daemon.scrape()("config_last_reload_successful") == 1     # 0 is an alert


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, clip: Path, server: RedisServer) -> Iterator[Scene]:
    """One daemon for all that is refused."""
    scene = Scene(tmp_path_factory.mktemp("fleet"), clip, server)
    with scene.daemon:
        scene.daemon.wait_until_ready()
        yield scene


def test_a_stream_whose_secret_is_lost_can_be_removed_and_the_others_changed_after(scene: Scene) -> None:
    secret = scene.folder / "camera"
    secret.write_text(PASSWORD)
    answer = scene.add({"hall": scene.camera, "yard": {
        **scene.camera, "username": "viewer", "password_file": str(secret)}})
    assert answer.status == 200, answer
    secret.unlink()

    refused = scene.remove("hall")
    assert (refused.status, "streams.yard.password_file" in refused.text) == (422, True)
    assert scene.remove("yard").status == scene.remove("hall").status == 200


def test_only_what_was_added_is_removed_and_only_with_the_token(shared: Scene) -> None:
    assert shared.remove("door").status == 404
    assert "remove those of the configuration there" in shared.remove("hall").text
    for method, path in (("POST", "/streams"), ("DELETE", "/streams/door")):
        assert send(shared.daemon.port, method, path, b"{}", {}).status == 401
    assert send(shared.daemon.port, "PUT", "/streams", None, BEARER).status == 501
    assert send(shared.daemon.port, "DELETE", "/streams/", None, BEARER).status == 404
    assert shared.daemon.get("/streams/door").status == 405


def test_a_file_that_cannot_be_written_and_one_that_is_broken(shared: Scene) -> None:
    shared.file.unlink(missing_ok=True)
    shared.file.mkdir()
    assert "cannot be" in shared.add({"hall": shared.camera}).text
    shared.file.rmdir()
    shared.file.write_text("{")
    answer = shared.add({"hall": shared.camera})
    assert answer.status == 422
    assert str(shared.file) in answer.text
    assert shared.file.read_text() == "{"
    shared.file.unlink()


def test_all_shards_are_told_and_each_runs_its_own(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    camera = endless(clip, FPS)
    names = {f"camera-{number}" for number in range(8)}
    with contextlib.ExitStack() as stack:
        shards: list[Scene] = []
        for index in range(2):
            (tmp_path / str(index)).mkdir()
            shard = Scene(tmp_path / str(index), clip, server, shard={"index": index, "count": 2})
            stack.enter_context(shard.daemon).wait_until_ready()
            shards.append(shard)

        for shard in shards:
            assert shard.add({name: camera for name in names}).status == 200
        own = [set(shard.daemon.streams()) - {"door"} for shard in shards]
        assert own == [{name for name in names if shard_of(name, 2) == index} for index in range(2)]
        for name in names:
            shards[0].wait_for_events(name)

        gone = min(own[1])
        assert [json.loads(shard.remove(gone).text)["removed"] for shard in shards] == [[], [gone]]
        poll(lambda: gone not in shards[1].daemon.streams(), 30, shards[1].daemon.output)
        assert all(gone not in json.loads(shard.file.read_text())["streams"] for shard in shards)


def test_without_a_file_nothing_is_added(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url) as daemon:
        daemon.wait_until_ready()
        answer = send(daemon.port, "POST", "/streams", b'{"hall": {"source": "/dev/video0"}}', {})
        assert (answer.status, answer.text) == (404, "http.streams_file names no file to keep streams in\n")

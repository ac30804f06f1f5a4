"""A new configuration while the daemon runs: by signal and over HTTP, and who may ask for it."""

import json
import signal
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry

from emotiond import web
from emotiond.access import is_loopback
from emotiond.config_file import make_config
from emotiond.reload import AGAIN_SECONDS, FileWatch
from emotiond.web import WebServer
from tests.support.daemon import Answer, Daemon, endless, get_page, send
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.live import make_pages
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import free_port, poll

FPS = 10
TOKEN = "hunter2-open-sesame"


class Scene:
    """A daemon whose configuration can be rewritten."""

    def __init__(self, daemon: Daemon, server: RedisServer, folder: Path) -> None:
        self.daemon, self.server = daemon, server
        self.file = folder / "emotiond.yaml"

    def rewrite(self, change: Callable[[dict[str, Any]], object]) -> None:
        content = yaml.safe_load(self.file.read_text())
        change(content)
        self.file.write_text(yaml.safe_dump(content))

    def post(self, path: str = "/-/reload", **headers: str) -> Answer:
        return post(self.daemon.port, path, **headers)

    def entries(self, stream: str) -> list[Entry]:
        return read_entries(self.server.client, stream)

    def wait_for_events(self, stream: str) -> None:
        self.daemon.wait_for(lambda scrape: scrape("events_published_total", stream=stream) >= 3, f"events of {stream}")


def tracks(entries: list[Entry]) -> list[int]:
    return [face["track_id"] for entry in entries for face in entry.body["faces"]]


def post(port: int, path: str = "/-/reload", **headers: str) -> Answer:
    return send(port, "POST", path, None, {name.replace("_", "-"): value for name, value in headers.items()})


OpenScene = Callable[..., AbstractContextManager[Scene]]


@pytest.fixture
def open_scene(tmp_path: Path, server: RedisServer) -> OpenScene:
    @contextmanager
    def make(streams: dict[str, Any], **sections: Any) -> Generator[Scene]:
        server.client.flushall()
        with Daemon(tmp_path, streams, server.url, **sections) as daemon:
            daemon.wait_until_ready()
            yield Scene(daemon, server, tmp_path)

    return make


def test_streams_come_go_and_change_and_the_others_notice_nothing(
    open_scene: OpenScene, tmp_path_factory: pytest.TempPathFactory
) -> None:
    away = [np.zeros((240, 320, 3), np.uint8)] * 25  # for longer than a track lives
    visits = [*face_frames(5, 320, 240), *away]
    camera = endless(write_video(tmp_path_factory.mktemp("visits") / "visits.mp4", visits, fps=FPS), FPS)
    with open_scene({"stays": camera, "goes": camera, "changes": camera}, publish_empty=True) as scene:
        for stream in ("stays", "goes", "changes"):
            scene.wait_for_events(stream)
        poll(lambda: 2 in tracks(scene.entries("changes")), 60, scene.daemon.output)
        before = scene.daemon.scrape()

        scene.rewrite(lambda content: (
            content["streams"].pop("goes"), content["streams"].update(comes=camera),
            content["streams"]["changes"].update(labels={"site": "hq"})))
        scene.daemon.child.send_signal(signal.SIGHUP)

        poll(lambda: set(scene.daemon.streams()) == {"stays", "comes", "changes"}, 30, scene.daemon.output)
        scene.wait_for_events("comes")
        poll(lambda: scene.entries("changes")[-1].body["labels"] == {"site": "hq"}, 30, scene.daemon.output)
        after = scene.daemon.scrape()
        assert 'stream="goes"' not in after.text
        for stream in ("stays", "changes"):  # counts go on
            assert after("events_published_total", stream=stream) >= before("events_published_total", stream=stream)
        assert after("stream_connects_total", stream="stays", outcome="ok") == 1
        assert after("config_last_reload_successful") == 1
        assert after("config_last_reload_success_timestamp_seconds") > before(
            "config_last_reload_success_timestamp_seconds")
        assert scene.daemon.end() == 0
        for stream in ("stays", "goes", "changes", "comes"):
            entries = scene.entries(stream)
            assert_whole(entries)
            assert tracks(entries) == sorted(tracks(entries))  # ids go on too
        told = {stream: [(kind, body["reason"]) for kind, body in read_status(scene.server.client, stream)]
                for stream in ("stays", "goes", "changes")}
        assert told == {"stays": [("up", None)], "goes": [("up", None), ("ended", "removed")],
                        "changes": [("up", None), ("down", "changed"), ("up", None)]}


def test_a_wrong_file_changes_nothing_and_says_so(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}) as scene:
        scene.rewrite(lambda content: content["streams"].update(hall={"sauce": "rtsp://user:hunter2secret@camera/"}))

        answer = scene.post()

        assert answer.status == 422
        assert "did you mean source?" in answer.text
        assert "hunter2secret" not in answer.text
        assert "did you mean source?" in scene.daemon.log_entries("not taken over")[0]["message"]
        assert set(scene.daemon.streams()) == {"door"}
        assert scene.daemon.scrape()("config_last_reload_successful") == 0
        scene.wait_for_events("door")

        scene.rewrite(lambda content: content["streams"].pop("hall"))
        assert scene.post().status == 200
        assert scene.daemon.scrape()("config_last_reload_successful") == 1
        assert scene.daemon.scrape()("stream_connects_total", stream="door", outcome="ok") == 1


def test_a_removed_streams_events_leave_before_its_series_do(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"goes": endless(clip, FPS), "stays": endless(clip, FPS)}) as scene:
        scene.wait_for_events("goes")
        scene.server.freeze()
        try:
            scene.daemon.wait_for(lambda scrape: scrape("events_total", stream="goes")
                                  > scrape("events_published_total", stream="goes"), "events that wait")
            scene.rewrite(lambda content: content["streams"].pop("goes"))

            changes = json.loads(scene.post().text)

            assert changes == {"added": [], "removed": ["goes"], "changed": [], "at_restart": []}
            poll(lambda: scene.daemon.streams()["goes"]["state"] == "ended", 20, scene.daemon.output)
            produced = scene.daemon.wait_for(
                lambda scrape: scrape("events_total", stream="goes") == scrape("frames_analyzed_total", stream="goes"),
                "all events in the spool")("events_total", stream="goes")
        finally:
            scene.server.thaw()
        poll(lambda: "goes" not in scene.daemon.streams(), 30, scene.daemon.output)
        assert 'stream="goes"' not in scene.daemon.scrape().text
        entries = scene.entries("goes")
        assert_whole(entries)
        assert len(entries) == produced


def test_the_same_file_touches_nothing_and_other_keys_wait_for_a_restart(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}) as scene:
        assert json.loads(scene.post().text) == {"added": [], "removed": [], "changed": [], "at_restart": []}

        scene.rewrite(lambda content: content.update(detector={"score": 0.7}, publish_empty=True))

        for _ in range(2):  # it stays so until the restart
            assert json.loads(scene.post().text)["at_restart"] == ["publish_empty", "detector.score"]
        assert scene.daemon.scrape()("stream_connects_total", stream="door", outcome="ok") == 1


def test_a_dead_camera_is_replaced_and_a_stream_comes_back_right_after_it_went(
    open_scene: OpenScene, clip: Path
) -> None:
    dead = {"source": f"rtsp://127.0.0.1:{free_port()}/none"}
    with open_scene({"door": dead, "hall": endless(clip, FPS)}) as scene:
        scene.wait_for_events("hall")
        scene.rewrite(lambda content: (content["streams"].update(door=endless(clip, FPS)),
                                       content["streams"].pop("hall")))
        scene.post()
        scene.rewrite(lambda content: content["streams"].update(hall=endless(clip, FPS)))
        scene.post()

        scene.wait_for_events("door")
        poll(lambda: scene.daemon.streams().get("hall", {}).get("state") == "running", 30, scene.daemon.output)
        assert scene.daemon.end() == 0
        frames = [entry.frame for entry in scene.entries("hall")]
        begins = [index for index, frame in enumerate(frames) if frame == 0]
        assert len(begins) in (1, 2)  # it went on, or had gone and came anew
        for begin, end in zip(begins, [*begins[1:], len(frames)], strict=True):
            assert frames[begin:end] == list(range(end - begin))


def test_only_this_machines_programs_may_post_where_there_is_no_token(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}) as scene:
        port = scene.daemon.port
        assert post(port).status == 200
        for header in ("Origin", "Sec_Fetch_Site", "X_Forwarded_For", "Forwarded"):
            answer = post(port, **{header: "http://elsewhere.example"})
            assert answer.status == 403
            assert "http.token_file" in answer.text


@pytest.mark.parametrize(("address", "is_here"), [
    ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.7", False),
    ("::ffff:10.0.0.7", False), ("fe80::1%eth0", False), ("2001:db8::1", False)])
def test_this_machine_is_known_by_its_loopback_address(address: str, is_here: bool) -> None:
    assert is_loopback(address) == is_here


def test_a_token_opens_post_from_anywhere_and_nothing_else_does(
    open_scene: OpenScene, clip: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text(f"{TOKEN}\n")
    with open_scene({"door": endless(clip, FPS)}, http={"token_file": str(secret)}) as scene:
        port = scene.daemon.port
        for told in ("", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "é", "Bearer é"):
            answer = post(port, Authorization=told)
            assert answer.status == 401
            assert TOKEN not in answer.text
        assert post(port, Authorization=f"Bearer {TOKEN}", Origin="http://elsewhere.example").status == 200

        secret.write_text("another-token-0815\n")  # takes effect at once
        assert post(port, Authorization=f"Bearer {TOKEN}").status == 401
        assert post(port, Authorization="Bearer another-token-0815").status == 200
        secret.unlink()
        assert post(port, Authorization="Bearer another-token-0815").status == 503
        assert scene.daemon.get("/readyz").status == 200
        assert TOKEN not in scene.daemon.output(10_000)


def test_what_names_cameras_wants_the_token_from_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    unused: Any = None
    config = make_config({"http": {"listen": "127.0.0.1:0", "token_file": str(tmp_path / "token")}})
    server = WebServer(
        config.http, CollectorRegistry(), lambda: None, lambda: None, lambda: {"door": {}}, unused, unused,
        make_pages())
    thread = Thread(target=server.run)
    thread.start()
    try:
        assert get_page(server.port, "/streams").status == 200

        monkeypatch.setattr(web, "is_from_here", lambda address, headers: False)

        assert get_page(server.port, "/streams").status == 401
        assert get_page(server.port, "/metrics").status == 200
        assert send(server.port, "GET", "/streams", None, {"Authorization": f"Bearer {TOKEN}"}).text == '{"door":{}}'
    finally:
        server.close()
        thread.join()


def test_a_file_that_changes_is_read_where_it_is_watched(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}, watch_config=True) as scene:
        scene.wait_for_events("door")
        right = scene.file.read_text()

        scene.file.write_text("streams: [")
        scene.daemon.wait_for(lambda scrape: scrape("config_last_reload_successful") == 0, "a wrong file is seen")
        other = scene.file.with_name("other.yaml")      # a link, as Kubernetes changes it
        other.write_text(right.replace("door:", "hall:"))
        scene.file.unlink()
        scene.file.symlink_to(other)
        poll(lambda: set(scene.daemon.streams()) == {"hall"}, 30, scene.daemon.output)
        scene.wait_for_events("hall")

        assert len(scene.daemon.log_entries("configuration taken over")) == 1
        assert len(scene.daemon.log_entries("configuration not taken over")) == 1


def test_a_watched_file_is_tried_again_while_it_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "emotiond.yaml"
    file.write_text("one")
    watch = FileWatch(file)
    assert not watch.is_due(taken=True)
    file.write_text("two")
    assert watch.is_due(taken=True)
    assert not watch.is_due(taken=False)

    later = time.monotonic() + AGAIN_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: later)

    assert not watch.is_due(taken=True)
    assert watch.is_due(taken=False)
    assert not watch.is_due(taken=False)
    file.unlink()
    assert not watch.is_due(taken=False)


def test_a_name_in_host_is_refused_and_a_body_is_passed_over(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}) as scene:
        for host, status in (("evil.example", 403), ("127.0.0.1:9470", 200), ("[::1]:9470", 200), ("LocalHost", 200)):
            assert scene.post(Host=host).status == status
        scene.rewrite(lambda content: content.update(classifier={"weights": "/nowhere"}))
        answer = scene.post(Content_Length="9" * 5000)
        assert answer.status == 422
        assert "classifier.weights" in answer.text


def test_a_path_answers_its_own_method_alone(open_scene: OpenScene, clip: Path) -> None:
    with open_scene({"door": endless(clip, FPS)}) as scene:
        assert scene.daemon.get("/-/reload").status == 405
        assert scene.post("/metrics").status == 405
        assert scene.post("/-/anything").status == 404
        assert "POST /-/reload" in scene.post("/-/anything").text
        assert scene.post(Content_Length="x").status == 200

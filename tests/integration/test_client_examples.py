"""The examples of docs/examples and the code of docs/client.md, run on events that the daemon's own parts wrote."""

import asyncio
import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions

import emotiond.client
from tests.conftest import require
from tests.support.commands import call
from tests.support.daemon import with_path
from tests.support.events import read_entries
from tests.support.javascript import start_node
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll
from tests.support.writer import Writer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
PORTRAIT = ROOT / "daemon/emotiond/demo/portrait.mp4"
AT_US = 1_769_860_800_000_000      # 2026-01-31T12:00:00Z


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[RedisServer]:
    """A Redis with the events of the demo's clip."""
    require_server("redis-server")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        ended = call("replay", PORTRAIT, "--redis", server.url, "--start-time", "2026-01-31T12:00:00Z")
        assert (ended.code, ended.err) == (0, "")
        yield server


def example(name: str, *arguments: str | Path) -> list[str]:
    return [*with_path(), sys.executable, str(EXAMPLES / name), *map(str, arguments)]


@contextlib.contextmanager
def running(command: list[str]) -> "Generator[subprocess.Popen[str]]":
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    """A page that takes POSTs, all but the first, and what it got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if len(got) > 1 else 503)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", got
        server.shutdown()
        thread.join()


def test_the_alert_is_given_once_when_a_stream_was_sad_for_a_minute_without_a_gap(
    redis_server: RedisServer, hook: tuple[str, list[Any]]
) -> None:
    with running(example("alert.py", redis_server.url, hook[0])) as child, Writer(redis_server.url) as writer:
        poll(lambda: redis_server.client.info("clients")["connected_clients"] > 2, 30, "it does not read")
        writer.put("happy", 90, at_us=AT_US, apart_us=1_000_000)
        writer.put("brief", 50, at_us=AT_US, apart_us=1_000_000, emotion="sad")
        writer.put("unsure", 90, at_us=AT_US, apart_us=1_000_000, emotion="sad", abstained=True)
        writer.put("gone", 40, at_us=AT_US, apart_us=1_000_000, emotion="sad")
        writer.put("gone", 40, at_us=AT_US + 60_000_000, apart_us=1_000_000, emotion="sad")
        writer.put("sad", 90, at_us=AT_US, apart_us=1_000_000, emotion="sad")
        writer.put("sad", 90, at_us=AT_US + 90_000_000, apart_us=1_000_000)
        writer.put("sad", 90, at_us=AT_US + 180_000_000, apart_us=1_000_000, emotion="sad")
        poll(lambda: len(hook[1]) == 2, 30, lambda: f"{hook[1]}")
        assert child.stdout
        printed = [json.loads(child.stdout.readline()) for _ in range(2)]

    assert printed == hook[1]
    assert [(alert["stream"], alert["time"]) for alert in printed] == [
        ("sad", "2026-01-31T12:01:00+00:00"), ("sad", "2026-01-31T12:03:36+00:00")]
    assert printed[0]["share"] == 1


def test_the_database_has_each_face_once_however_often_it_was_begun(replayed: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "faces.db"
    stored = read_entries(replayed.client, "portrait")
    faces = [(entry.fields["id"], face["emotion"]) for entry in stored for face in entry.body["faces"]]

    def rows() -> int:
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(file)) as database:
            return database.execute("SELECT count(*) FROM faces").fetchone()[0]
        return 0

    def groups() -> Any:
        return replayed.client.xinfo_groups("emotions:portrait")

    with running(example("to_sqlite.py", replayed.url, file)):
        poll(lambda: rows() > 20, 30, "no rows")      # and then it is killed
    with running(example("to_sqlite.py", replayed.url, file)):
        pass
    replayed.client.xgroup_destroy("emotions:portrait", "sqlite")      # everything comes again
    with running(example("to_sqlite.py", replayed.url, file)) as child:
        poll(lambda: [(group["lag"], group["pending"]) for group in groups()] == [(0, 0)], 30, "it does not read")
        child.terminate()
        assert child.wait(20) == 0

    with contextlib.closing(sqlite3.connect(file)) as database:
        assert sorted(database.execute("SELECT event, emotion FROM faces")) == sorted(faces)
    assert replayed.client.xpending("emotions:portrait", "sqlite")["pending"] == 0


def test_the_data_frame_has_a_row_for_each_face(replayed: RedisServer) -> None:
    ended = subprocess.run(example("to_dataframe.py", replayed.url, "portrait"), capture_output=True, text=True,
                           timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    titles, _, *rows = ended.stdout.splitlines()
    assert "happy" in titles
    assert rows[0].split()[:3] == ["portrait", "2026-01-31", "12:00:00+00:00"]
    shares = [float(share) for share in rows[0].split()[3:]]
    assert len(shares) == len(titles.split()) - 1
    assert abs(sum(shares) - 1) < 0.05


def test_a_redis_without_faces_gives_an_empty_data_frame_and_a_sentence(redis_server: RedisServer) -> None:
    ended = subprocess.run(example("to_dataframe.py", redis_server.url), capture_output=True, text=True, timeout=60,
                           check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Redis keeps no faces of these streams; is a daemon writing there?\n"


def test_the_subscriber_in_javascript_gets_every_event_though_redis_goes_and_comes_back_empty(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    require("node modules")
    with RedisServer(tmp_path / "redis", persistence="aof", options={"appendfsync": "always"}) as server, Writer(
            server.url) as writer:
        server.client.xgroup_create("emotions:lobby", "javascript", "0", mkstream=True)
        child = start_node(EXAMPLES / "subscribe.mjs", [server.url, "lobby"], tmp_path)
        lines: list[str] = []
        assert child.stdout
        thread = threading.Thread(target=lines.extend, args=[child.stdout])
        thread.start()
        try:
            for away_s in (0, 3):
                writer.keep_on("lobby")
                poll(lambda: pending(server) > 0, 20, "it reads nothing", every_s=0)      # in the midst of a batch
                server.kill()
                time.sleep(away_s)
                server.start()
                writer.rest()
                writer.wait()
                poll(lambda: child.poll() is not None or caught_up(server), 30, "some are left")
                assert child.poll() is None
            stored = read_entries(server.client, "lobby")
            server.client.flushall()
            writer.put("lobby", 20, emotion="sad")
            writer.wait()
            poll(lambda: child.poll() is not None or caught_up(server), 30, "it does not go on")
            stored += read_entries(server.client, "lobby")
        finally:
            child.terminate()
            child.wait(20)
            thread.join()
            child.communicate()

    assert child.returncode == 0
    assert {tuple(line.split()) for line in lines} == {
        (entry.fields["time"], "lobby", entry.body["faces"][0]["emotion"]) for entry in stored}


def caught_up(server: RedisServer) -> bool:
    """Whether everything was given out and acknowledged."""
    with contextlib.suppress(redis.exceptions.ResponseError):      # there is no key yet, or no group
        stream: Any = server.client.xinfo_stream("emotions:lobby")
        groups: Any = server.client.xinfo_groups("emotions:lobby")
        return [(each["last-delivered-id"], each["pending"]) for each in groups] == [(stream["last-generated-id"], 0)]
    return False


def pending(server: RedisServer) -> int:
    found: Any = server.client.xpending("emotions:lobby", "javascript")
    return found["pending"]


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class EnoughError(Exception):
    """Ends the page's endless loops."""


def test_the_pages_code_does_what_it_says(redis_server: RedisServer) -> None:
    three_lines, hour, group, asynchronous = (
        block.replace("redis://localhost:6379/0", redis_server.url) for block in blocks())
    handled: list[Any] = []

    def handle(event: Any) -> None:
        handled.append(event)
        raise EnoughError

    async def handle_async(event: Any) -> None:
        handle(event)

    with Writer(redis_server.url) as writer:
        first = writer.put("lobby", 5)
        writer.wait()
        names: dict[str, Any] = {"subscribe": emotiond.client.subscribe, "handle": handle}
        exec(hour, names)
        assert names["happy"] == 5

        def keep_writing() -> None:
            while not over.wait(0.05):
                writer.put("lobby")

        over = threading.Event()
        thread = threading.Thread(target=keep_writing)
        thread.start()
        try:
            for code in (three_lines.replace("[face", "handle(event) or [face"), group):
                with pytest.raises(EnoughError):
                    exec(code, names)
            scope: dict[str, Any] = names | {"handle": handle_async}
            exec(asynchronous, scope)
            with pytest.raises(EnoughError):
                asyncio.run(scope["watch"]())
        finally:
            over.set()
            thread.join()

    assert len(handled) == 3
    assert not {event.id for event in handled} & set(first)
    assert "from emotiond.client import subscribe" in three_lines
    assert len(three_lines.strip().splitlines()) <= 4

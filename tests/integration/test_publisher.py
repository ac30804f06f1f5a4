"""The publisher alone, against a real Redis: whose entries are whose, and which key may hold up what."""

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from emotiond import publisher, store
from emotiond.client.entries import read_entries
from emotiond.config import HttpConfig, RedisConfig
from emotiond.events import UP_TYPE, StatusEvent
from emotiond.fleet import Fleet
from emotiond.frames import FrameLedger
from emotiond.metrics import Metrics
from emotiond.publisher import Publisher
from emotiond.reload import Changes
from emotiond.spool import Spool
from emotiond.store import Store, connect
from emotiond.web import WebServer, join_address
from tests.support.live import make_pages
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]
CAPTURED_US = 1_700_000_000_040_000
ID = "1700000000040-0"


@dataclass
class Line:
    """A spool and its publisher."""

    server: RedisServer
    spool_file: Path
    url: str = ""
    max_age: float | None = None
    metrics: Metrics = field(default_factory=lambda: Metrics(FrameLedger(), ["happy"]))

    def __post_init__(self) -> None:
        self.spool = Spool(self.spool_file, 1 << 20, 60, self.metrics)
        self.url = self.url or self.server.url
        config = RedisConfig(url=self.url, max_age=self.max_age)
        self.publisher = Publisher(Store(config, self.url), self.url, config, self.spool, self.metrics, "test")
        for stream in ("door", "lobby"):
            self.spool.add_stream(stream)
            self.metrics.add_stream(stream)
        self.thread = threading.Thread(target=self.publisher.run)

    def end(self) -> None:
        if self.thread.is_alive():
            self.publisher.stop()
            self.thread.join(10)
        assert not self.thread.is_alive()
        self.spool.commit()
        self.spool.close()

    def put(self, stream: str, captured_us: int = CAPTURED_US) -> None:
        self.spool.put(stream, {"source": b"/emotiond/test", "data": b"{}"}, captured_us, time.monotonic(), captured_us)
        self.spool.commit()

    def counter(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"emotiond_{name}", labels)


@pytest.fixture
def make_line(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., Line]]:
    """Makes lines to the same Redis."""
    made: list[Line] = []

    def make(name: str = "spool.db") -> Line:
        made.append(Line(redis_server, tmp_path / name))
        return made[-1]

    yield make
    made[-1].end()


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    return make_line()


def numbers(server: RedisServer, key: str = "emotions:door") -> list[int]:
    """Returns what is in a key: the numbers of our entries, in order."""
    found: Any = server.client.xrange(key)
    return [int(fields[b"data"]) for _, fields in found if b"data" in fields]


def put_numbers(line: Line, first: int, end: int) -> None:
    for number in range(first, end):
        line.spool.put("door", {"source": b"/emotiond/test", "data": b"%d" % number}, CAPTURED_US + 1000 * number,
                       time.monotonic(), CAPTURED_US)
    line.spool.commit()


def wait_until_sent(line: Line) -> None:
    poll(lambda: line.spool.figures()[0] == 0, 10, "events wait")


def send_without_noting(make_line: Callable[..., Line], folder: Path, events: int) -> None:
    """Sends numbered events, and leaves the spool as it was before in `before.db`: as a kill right then would."""
    line = make_line()
    put_numbers(line, 0, events)
    line.spool.close()
    shutil.copy(folder / "spool.db", folder / "before.db")
    line = make_line()
    line.thread.start()
    wait_until_sent(line)
    line.end()


def test_what_an_earlier_run_sent_without_noting_it_is_not_sent_again(
    make_line: Callable[..., Line], redis_server: RedisServer, tmp_path: Path
) -> None:
    send_without_noting(make_line, tmp_path, 350)

    second = make_line("before.db")
    put_numbers(second, 350, 360)
    second.thread.start()
    wait_until_sent(second)

    assert numbers(redis_server) == list(range(360))
    assert second.counter("events_resent_total", reason="lost_reply") == 350


def test_what_an_earlier_run_sent_is_found_below_another_writers_entry(
    make_line: Callable[..., Line], redis_server: RedisServer, tmp_path: Path
) -> None:
    send_without_noting(make_line, tmp_path, 150)
    redis_server.client.xadd("emotions:door", {"type": "foreign"}, id="1800000000000-0")

    second = make_line("before.db")
    put_numbers(second, 150, 160)
    second.thread.start()
    wait_until_sent(second)

    assert numbers(redis_server) == list(range(160))


@pytest.mark.parametrize("restarted", [False, True])
def test_what_redis_lost_after_acknowledging_it_is_sent_again(
    make_line: Callable[..., Line], redis_server: RedisServer, restarted: bool
) -> None:
    line = make_line()
    line.thread.start()
    put_numbers(line, 0, 30)
    wait_until_sent(line)
    client = redis_server.client
    if restarted:
        line.end()
    kept: Any = client.xrange("emotions:door", count=10)
    pipe = client.pipeline(transaction=True)      # as a replica that fell behind, or a backup, would have it
    pipe.delete("emotions:door")
    for entry_id, fields in kept:
        pipe.xadd("emotions:door", fields, id=entry_id)
    pipe.execute()
    if restarted:
        line = make_line()
        line.thread.start()

    put_numbers(line, 30, 33)
    wait_until_sent(line)

    assert numbers(redis_server) == list(range(33))
    assert line.counter("events_resent_total", reason="rewind") == 20


def test_a_quiet_streams_loss_is_noticed_when_redis_answers_again(
    make_line: Callable[..., Line], redis_server: RedisServer
) -> None:
    line = make_line()
    line.thread.start()
    put_numbers(line, 0, 30)
    wait_until_sent(line)
    client = redis_server.client
    kept: Any = client.xrange("emotions:door", count=10)
    client.delete("emotions:door")
    for entry_id, fields in kept:
        client.xadd("emotions:door", fields, id=entry_id)

    client.client_kill_filter(_type="normal", skipme=True)      # as a failover would; the stream has nothing new
    line.put("lobby")

    poll(lambda: numbers(redis_server) == list(range(30)), 10, "what was lost was not sent again")
    assert line.counter("events_resent_total", reason="rewind") == 20


def test_a_quiet_streams_loss_is_noticed_by_the_next_run_however_late(
    make_line: Callable[..., Line], redis_server: RedisServer
) -> None:
    line = make_line()
    line.thread.start()
    put_numbers(line, 0, 30)
    wait_until_sent(line)
    line.end()
    kept: Any = redis_server.client.xrange("emotions:door", count=10)
    redis_server.client.delete("emotions:door")
    for entry_id, fields in kept:
        redis_server.client.xadd("emotions:door", fields, id=entry_id)

    line = make_line()
    line.spool._keep_seconds = 0.0
    line.spool.expires = False      # as the publisher's thread does first
    line.spool.commit()
    line.thread.start()

    poll(lambda: numbers(redis_server) == list(range(30)), 10, "what was lost was not sent again")


def test_nothing_kept_expires_while_redis_is_away(line: Line, redis_server: RedisServer) -> None:
    line.thread.start()
    put_numbers(line, 0, 3)
    wait_until_sent(line)
    poll(lambda: line.spool.expires, 10, "nothing expires while Redis answers")

    redis_server.kill()
    put_numbers(line, 3, 4)
    poll(lambda: not line.publisher.connected, 10, "the outage was not seen")

    assert not line.spool.expires


def test_an_id_beyond_all_others_makes_its_key_alone_unusable(line: Line, redis_server: RedisServer) -> None:
    redis_server.client.xadd("emotions:door", {"x": "y"}, id="9999999999999999999-1")
    line.thread.start()
    put_numbers(line, 0, 3)
    line.put("lobby")
    poll(lambda: redis_server.client.xlen("emotions:lobby") == 1, 10, "the other stream waits")
    poll(lambda: (line.counter("redis_errors_total", kind="other") or 0) >= 1, 10, "not counted")
    assert line.thread.is_alive()

    redis_server.client.delete("emotions:door")

    poll(lambda: redis_server.client.xlen("emotions:door") == 3, 20, "the stream does not go on")


def test_a_backlog_goes_out_beside_a_busy_other_writer(line: Line, redis_server: RedisServer) -> None:
    for first in range(0, 3000, 500):
        put_numbers(line, first, first + 500)
    stop = threading.Event()

    def write() -> None:
        client = connect(RedisConfig(), redis_server.url)
        while not stop.wait(0.02):
            client.xadd("emotions:door", {"type": "foreign"})
        client.close()

    other = threading.Thread(target=write)
    other.start()
    try:
        line.thread.start()
        poll(lambda: line.spool.figures()[0] == 0, 20, "the backlog stays")
    finally:
        stop.set()
        other.join()

    assert numbers(redis_server) == list(range(3000))


@pytest.mark.parametrize("removed", ["deleted", "trimmed"])
def test_what_a_consumer_removed_before_the_reply_was_lost_does_not_come_again(
    make_line: Callable[..., Line], redis_server: RedisServer, tmp_path: Path, removed: str
) -> None:
    send_without_noting(make_line, tmp_path, 150)
    entries: Any = redis_server.client.xrange("emotions:door")
    if removed == "deleted":
        redis_server.client.xdel("emotions:door", *(entry_id for entry_id, _ in entries))
    else:
        redis_server.client.xtrim("emotions:door", maxlen=0)

    second = make_line("before.db")
    put_numbers(second, 150, 153)
    second.thread.start()
    wait_until_sent(second)

    assert numbers(redis_server) == [150, 151, 152]


def test_another_instance_name_makes_no_stranger_of_what_was_sent(
    make_line: Callable[..., Line], redis_server: RedisServer, tmp_path: Path
) -> None:
    send_without_noting(make_line, tmp_path, 20)

    second = make_line("before.db")
    second.publisher._status._instance = "renamed"
    second.thread.start()
    wait_until_sent(second)

    assert numbers(redis_server) == list(range(20))


def test_entries_with_another_number_of_fields_are_sent_whole(line: Line, redis_server: RedisServer) -> None:
    put_numbers(line, 0, 3)
    for number in range(3, 6):
        line.spool.put("door", {"source": b"/emotiond/test", "new": b"field", "data": b"%d" % number},
                       CAPTURED_US + 1000 * number, time.monotonic(), CAPTURED_US)
    line.spool.commit()
    line.thread.start()
    wait_until_sent(line)

    found: Any = redis_server.client.xrange("emotions:door")
    assert [len(fields) for _, fields in found] == [2, 2, 2, 3, 3, 3]
    assert numbers(redis_server) == list(range(6))


def test_a_key_that_was_deleted_is_not_filled_again_by_the_next_run(
    make_line: Callable[..., Line], redis_server: RedisServer
) -> None:
    line = make_line()
    line.thread.start()
    put_numbers(line, 0, 30)
    wait_until_sent(line)
    line.end()
    redis_server.client.delete("emotions:door")

    line = make_line()
    line.thread.start()
    put_numbers(line, 30, 33)
    wait_until_sent(line)

    assert numbers(redis_server) == [30, 31, 32]


def test_another_writers_entry_of_the_same_id_is_not_taken_for_a_lost_reply(line: Line) -> None:
    line.thread.start()
    line.put("door", CAPTURED_US - 1_000_000)
    poll(lambda: line.server.client.xlen("emotions:door") == 1, 10, "the first event did not come")
    line.server.client.xadd("emotions:door", {"type": "foreign"}, id=ID)
    line.put("door")
    poll(lambda: line.server.client.xlen("emotions:door") == 3, 10, "ours was lost")
    assert [entry.id for entry in read_entries(line.server.client, {"emotions:door": ID}, 1)] == ["1700000000040-1"]
    assert line.counter("events_published_total", stream="door") == 2
    assert line.counter("events_resent_total", reason="lost_reply") == 0


def test_a_connection_that_redis_closed_while_it_was_idle_is_no_failure(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "IDLE_SECONDS", 0.0)     # every connection has been idle for long
    line.thread.start()
    for count in (1, 2, 3):
        line.put("door")
        poll(lambda count=count: line.server.client.xlen("emotions:door") == count, 10, "an event did not come")
        wait_until_sent(line)
        line.server.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    assert line.publisher.connected
    assert not line.counter("redis_errors_total", kind="connection")


def test_a_status_key_that_refuses_holds_up_no_event(line: Line) -> None:
    line.server.client.set("emotions:status", "not a stream")
    line.thread.start()
    line.publisher.publish_status(UP_TYPE, StatusEvent("door"))
    for index in range(500):
        line.put("door", CAPTURED_US + index * 1000)
    poll(lambda: line.server.client.xlen("emotions:door") == 500, 10, "events wait for the status key")
    assert line.publisher.connected
    assert (line.counter("redis_errors_total", kind="other") or 0) >= 1


def test_a_key_that_refuses_costs_no_core_and_its_events_come_once_it_is_mended(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[float] = []
    pending = line.spool.pending
    monkeypatch.setattr(line.spool, "pending", lambda most: (rounds.append(time.monotonic()), pending(most))[1])
    line.server.client.set("emotions:door", "not a stream")
    line.thread.start()
    line.put("door")
    poll(lambda: (line.counter("redis_errors_total", kind="other") or 0) >= 1, 10, "the refusal was not counted")
    before = len(rounds)
    line.put("lobby")
    poll(lambda: line.server.client.xlen("emotions:lobby") == 1, 10, "another stream waits for the key")
    poll(lambda: len(rounds) >= before + 5, 10, "nobody looks any more")
    assert len(rounds) < 200   # a loop without a pause makes as many in a millisecond
    line.server.client.delete("emotions:door")
    poll(lambda: line.server.client.exists("emotions:door") and line.server.client.xlen("emotions:door") == 1, 20,
         "the event was lost")


def test_user_name_and_password_file_go_before_the_urls(tmp_path: Path, require_server: object) -> None:
    require_server("redis-server")  # pyright: ignore[reportCallIssue]
    with RedisServer(tmp_path / "redis", password="hunter2-right") as server:
        (tmp_path / "secret").write_text("hunter2-right\n")
        url = f"redis://nobody:hunter2-wrong@127.0.0.1:{server.port}/0"
        client = connect(RedisConfig(url=url, username="default", password_file=tmp_path / "secret"), url)
        assert client.ping()


def test_the_rights_that_the_runbook_gives_are_enough_and_each_is_needed(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TRIM_SECONDS", 0.1)
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    user = re.findall(r"`ACL SETUSER (emotiond .*?)`", page)[0].split()
    url = redis_server.url.replace("127.0.0.1", "emotiond:PASSWORD@127.0.0.1")
    for missing in (None, *(word for word in user if word.startswith("+"))):
        redis_server.client.flushall()
        redis_server.client.execute_command("ACL", "DELUSER", "emotiond")
        redis_server.client.execute_command("ACL", "SETUSER", *(word for word in user if word != missing))
        line = Line(redis_server, tmp_path / f"{missing}.db", url=url, max_age=3600.0)
        line.publisher.publish_status(UP_TYPE, StatusEvent("door"))
        now_us = time.time_ns() // 1000
        line.put("door", now_us)
        line.thread.start()

        def refusals(line: Line = line) -> float:
            return sum(line.counter("redis_errors_total", kind=kind) or 0 for kind in ("noperm", "other"))

        try:
            poll(lambda line=line: line.spool.figures()[0] == 0 or refusals(), 10, f"{missing}: nothing happens")
            redis_server.client.xadd("emotions:door", {"type": "foreign"})
            line.put("door", now_us)  # below that one, so that it looks for what is there
            if missing:
                poll(lambda: refusals(), 10, f"nothing is refused without {missing}")
            else:
                wait_until_sent(line)
                poll(lambda: "cmdstat_xtrim" in redis_server.client.info("commandstats"), 10, "nothing is trimmed")
                assert (redis_server.client.xlen("emotions:door"), refusals()) == (3, 0)
        finally:
            line.end()


def test_http_listens_on_ipv6_too() -> None:
    server = WebServer(HttpConfig(listen="[::1]:0"), CollectorRegistry(), lambda: None, lambda: None, dict, dict,
                       Fleet(lambda: None, bool, lambda: Changes([], [], [], [])), make_pages())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with urlopen(f"http://{join_address('::1', server.port)}/healthz", timeout=5) as answer:
            assert answer.status == 200
    finally:
        server.close()
        thread.join(5)

"""Sources faster than the analyzers: every frame is accounted for at any moment, and across a stop."""

import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support.daemon import Daemon, Scrape
from tests.support.events import read_entries
from tests.support.redis_server import RedisServer

FLOOD = "lavfi:testsrc2=size=1280x720:rate=200"


@contextmanager
def scraping(daemon: Daemon) -> Generator[list[str]]:
    """Reads /metrics again and again until the daemon answers no more; yields the list of the pages."""
    pages: list[str] = []
    over = Event()

    def scrape() -> None:
        while not over.is_set():
            try:
                pages.append(daemon.get("/metrics").text)
            except (OSError, HTTPException):      # it stopped
                return

    thread = Thread(target=scrape)
    thread.start()
    try:
        yield pages
    finally:
        over.set()
        thread.join(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_frames_read_are_analysed_dropped_or_in_flight_at_any_moment_and_after_a_stop(
    number: signal.Signals, tmp_path: Path, redis_server: RedisServer
) -> None:
    with Daemon(tmp_path, {
        "flood": {"source": FLOOD},
        "flood-again": {"source": FLOOD},
        "rare": {"source": FLOOD, "max_fps": 2},
        "patient": {"source": "lavfi:testsrc2=size=640x360:rate=25", "live": False},
    }, redis_server.url, publish_empty=True) as daemon:
        daemon.wait_until_ready()
        with scraping(daemon) as pages:
            daemon.wait_for(lambda scrape: all(
                scrape("frames_dropped_total", stream=stream, reason="newer_frame") > 100
                for stream in ("flood", "flood-again")) and len(pages) > 20, "overload", deadline_s=60)
            begin = time.monotonic()
            code = daemon.end(number)
            lasted = time.monotonic() - begin

    scrapes = [Scrape(page) for page in pages]
    for scrape in scrapes:
        scrape.assert_frames_add_up()
        assert all(scrape("frames_in_flight", stream=stream) <= 64 for stream in daemon.names)      # bounded
    final = scrapes[-1]
    assert final("frames_dropped_total", stream="patient") == final(
        "frames_dropped_total", stream="patient", reason="shutdown")
    assert final("frames_dropped_total", stream="rare", reason="max_fps") > 0
    assert final("stream_frames_read_total") > scrapes[0]("stream_frames_read_total")

    assert code == 0
    assert lasted < 25
    assert not daemon.log_entries("did not end in time")
    assert not daemon.log_entries("not delivered")
    stopped = daemon.log_entries("stopped")[0]
    assert stopped["frames_in_flight"] == 0
    assert stopped["frames_read"] == stopped["frames_analyzed"] + stopped["frames_dropped"]
    assert stopped["frames_read"] >= final("stream_frames_read_total")
    client = redis_server.client
    added = {stream: int(client.xinfo_stream(f"emotions:{stream}")["entries-added"]) for stream in daemon.names}
    assert sum(added.values()) == stopped["frames_analyzed"]      # all of them were published: publish_empty
    for stream, count in added.items():
        frames = [entry.frame for entry in read_entries(client, stream)]
        assert len(frames) == count
        assert frames == sorted(set(frames))
    patient = [entry.frame for entry in read_entries(client, "patient")]
    assert patient == list(range(len(patient)))

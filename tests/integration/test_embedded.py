"""`redis.url: embedded`: a server of the daemon's own, said loudly, that begins and ends with it."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, assert_whole, parse_entry, read_entries
from tests.support.pictures import face_frames
from tests.support.videos import write_video
from tests.support.waiting import listens, poll

FPS = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


def test_an_embedded_server_is_said_loudly_and_gets_everything_before_ctrl_c_ends_both(
    tmp_path: Path, clip: Path
) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, "embedded", own_group=True) as daemon:
        daemon.wait_until_ready()
        said = daemon.log_entries("embedded")
        url = re.search(r"redis://127\.0\.0\.1:\d+/0", str(said))
        assert url, said
        with redis.Redis.from_url(url[0], socket_timeout=30) as client:
            poll(lambda: len(read_entries(client, "door")) > FPS, 30, daemon.output)
            read_to_the_end = reader(client)
            os.killpg(daemon.child.pid, signal.SIGINT)      # as a terminal does: to everybody in the group
            entries = read_to_the_end()
        assert daemon.wait() == 0

    assert said[0]["level"] == "warning"
    assert "end" in said[0]["message"]      # that its data do
    assert_whole(entries)
    assert len(entries) == daemon.log_entries("stopped")[0]["frames_analyzed"]
    assert not listens(int(url[0].split(":")[2].split("/")[0]))


def test_a_forced_end_leaves_no_embedded_server_behind(tmp_path: Path, clip: Path) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, "embedded") as daemon:
        daemon.wait_until_ready()
        valkey, = psutil.Process(daemon.child.pid).children()
        valkey.suspend()      # so that the first signal cannot deliver everything
        try:
            daemon.child.send_signal(signal.SIGINT)
            poll(lambda: daemon.log_entries("stopping"), 10, daemon.output)

            assert daemon.end(signal.SIGINT) == 128 + signal.SIGINT
            assert not valkey.is_running()
        finally:
            if valkey.is_running():
                valkey.kill()


def reader(client: redis.Redis) -> Callable[[], list[Entry]]:
    """Begins to read a stream; what it returns reads on until the server is gone, and returns everything."""
    entries: list[Entry] = []

    def read() -> None:
        last = f"{entries[-1].id[0]}-{entries[-1].id[1]}" if entries else "0"
        reply: Any = client.xread({"emotions:door": last}, block=5000)
        entries.extend(parse_entry(entry_id, fields) for _, found in reply for entry_id, fields in found)

    def read_to_the_end() -> list[Entry]:
        while True:
            try:
                read()
            except redis.ConnectionError:
                return entries

    read()
    return read_to_the_end

"""The look for planted secrets finds them, wherever the product shows one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import leaks
from tests.support.commands import Ended
from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll

FOUND = "a planted secret is in "
CARELESS = "import emotiond.redact; emotiond.redact.redact = lambda text: text"
"""What a daemon executes first that redacts nothing."""


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what these tests look at out of the count of all."""
    monkeypatch.setattr(leaks, "LOOKED", leaks.LOOKED.copy())


@pytest.mark.parametrize("shown", [
    f"at {leaks.MARK}!", f"%68{leaks.MARK[1:]}", leaks.MARK.upper(), f"\x00{leaks.MARK}\xff".encode("latin-1")])
def test_a_secret_is_found_however_it_is_written(shown: str | bytes) -> None:
    with pytest.raises(AssertionError, match=f"{FOUND}a page: "):
        leaks.look("a page", shown)
    leaks.look("a page", "hunter, 2")


def test_a_secret_among_the_arguments_of_a_child_is_found() -> None:
    def keep_looking(pid: int) -> None:
        poll(lambda: leaks.look_at_arguments(pid), 30, "nothing found")

    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', 'hunter' '{leaks.MARK[-1]}'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as process:
        with pytest.raises(AssertionError, match=f"{FOUND}arguments"):
            keep_looking(process.pid)
        process.communicate()


def test_a_secret_in_an_output_of_a_command_is_found() -> None:
    for out, err in ((leaks.MARK, ""), ("", leaks.MARK)):
        with pytest.raises(AssertionError, match=f"{FOUND}commands' outputs"):
            Ended(0, out, err)


def test_a_secret_in_an_event_is_found(require_server: Callable[[str], None], tmp_path: Path) -> None:
    def publish() -> None:
        with RedisServer(tmp_path) as server:
            for number in range(100):
                server.client.xadd("emotions:door", {"data": f'{{"frame": {number}, "source": "of {leaks.MARK}"}}'})

    require_server("redis-server")

    with pytest.raises(AssertionError, match=f"{FOUND}Redis keys"):
        publish()


@pytest.mark.parametrize("kind", ["pages", "logs"])
def test_a_daemon_that_redacts_nothing_fails_its_test(kind: str, tmp_path: Path) -> None:
    camera = {"source": f"rtsp://viewer:{leaks.MARK}@127.0.0.1:{free_port()}/"}

    def go_on() -> None:
        with Daemon(tmp_path, {"door": camera}, f"redis://127.0.0.1:{free_port()}", before=CARELESS) as daemon:
            if kind == "pages":
                daemon.get("/streams")
            poll(lambda: leaks.MARK in daemon.log.read_text(), 30, daemon.output)

    with pytest.raises(AssertionError, match=f"{FOUND}{kind}"):
        go_on()


def test_servers_ask_for_no_secret_that_would_not_be_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"holds {leaks.MARK}"):
        RedisServer(tmp_path, password="another")

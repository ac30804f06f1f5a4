"""`emotiond top`: the streams in a terminal, from a daemon and from Redis."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emotionnet.weights import LABELS
from tests.integration.conftest import FPS
from tests.support.commands import run
from tests.support.daemon import Daemon, endless
from tests.support.redis_server import RedisServer
from tests.support.terminal import Terminal
from tests.support.waiting import free_port

FACE = re.compile(rf"\d+ ({'|'.join(LABELS)}) \d+%|\d+ unsure")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, clip: Path, server: RedisServer) -> Iterator[Daemon]:
    streams = {"door": endless(clip, FPS), "yard": {"source": f"rtsp://127.0.0.1:{free_port()}/"}}
    with Daemon(tmp_path_factory.mktemp("top"), streams, server.url) as daemon:
        daemon.wait_for(lambda scrape: scrape("events_published_total", stream="door") > 5, "events")
        yield daemon


def columns(text: str) -> dict[str, list[str]]:
    """Returns the cells of each stream's line, which lie two blanks apart."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 4}


def test_once_it_prints_every_stream_and_ends(daemon: Daemon) -> None:
    ended = run("top", f"http://127.0.0.1:{daemon.port}", "--once")

    assert (ended.code, ended.err) == (0, "")
    rows = columns(ended.out)
    assert "1 of 2 streams run" in ended.out
    state, rate, dropped, latency, faces = rows["door"][:5]
    assert (state, dropped) == ("running", "0%")
    assert re.fullmatch(r"\d+\.\d/s", rate)
    assert re.fullmatch(r"\d+ ms", latency)
    assert FACE.fullmatch(faces)
    assert rows["yard"][0] in ("backoff", "connecting", "not found")
    assert "\x1b" not in ended.out


@pytest.mark.parametrize("plain", [False, True], ids=["colours", "no colours"])
def test_in_a_terminal_of_80_by_24_it_goes_on_until_ctrl_c(
    daemon: Daemon, plain: bool, tmp_path: Path, require_server: Callable[[str], None],
) -> None:
    require_server("tmux")
    env = {"NO_COLOR": "1"} if plain else {}
    with Terminal(tmp_path, "top", f"127.0.0.1:{daemon.port}", columns=80, lines=24, env=env) as terminal:
        first = terminal.wait_for(lambda text: FACE.search(text) is not None and "/s" in text)
        terminal.wait_for(lambda text: text != first)
        assert ("\x1b[32mrunning" in terminal.text(colours=True)) is not plain
        lines = terminal.text().splitlines()
        terminal.press("C-c")
        assert terminal.code() == 130

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("door") for line in lines)
    assert any(line.startswith("yard") and "rtsp:" in line for line in lines)


def test_from_redis_it_shows_the_events(daemon: Daemon, server: RedisServer) -> None:
    ended = run("top", "--redis", server.url, "--once")

    assert (ended.code, ended.err) == (0, "")
    assert FACE.search(ended.out)
    rate = float(columns(ended.out)["door"][1].removesuffix("/s"))
    assert 1 < rate < 2 * FPS


def test_who_is_not_there_or_refuses_is_one_sentence(tmp_path: Path, clip: Path, server: RedisServer) -> None:
    port = free_port()
    for arguments, code, said in (
            ((f"http://127.0.0.1:{port}",), 69, f"http://127.0.0.1:{port}: cannot be read"),
            (("ftp://door",), 78, "ftp://door: is no daemon's address"),
            (("--token-file", tmp_path / "none"), 78, "--token-file: "),
            (("--redis", f"redis://127.0.0.1:{port}/0"), 69, f"Redis at redis://127.0.0.1:{port}/0")):
        ended = run("top", *arguments, "--once")
        assert (ended.code, len(ended.lines)) == (code, 1), ended
        assert said in ended.err

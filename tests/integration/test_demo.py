"""`emotiond demo`: what a newcomer sees first, and what is left of it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from tests.support.commands import Ended, run, run_in_terminal

MARK = "DEMO_UNDER_TEST"
MOST_SECONDS = 60


def marked(value: str) -> Iterator[str]:
    """Yields the command lines of the processes that have this value in their environment."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == value:
                yield " ".join(process.cmdline())
        except psutil.Error:
            continue


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, float, Path, list[str]]:
    """How it ended, its seconds, its home and folder for temporary files, and the processes that it left."""
    folder, value = tmp_path_factory.mktemp("demo"), uuid4().hex
    begin = time.monotonic()
    ended = run("demo", env={"TMPDIR": str(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(folder), MARK: value})
    return ended, time.monotonic() - begin, folder, list(marked(value))


def test_the_demo_ends_well_within_a_minute(demo: tuple[Ended, float, Path, list[str]]) -> None:
    ended, seconds, _, _ = demo

    assert (ended.code, ended.err) == (0, "")
    assert seconds < MOST_SECONDS


def test_the_demo_prints_events_read_back_from_redis(demo: tuple[Ended, float, Path, list[str]]) -> None:
    rows = [line for line in demo[0].out.splitlines() if re.search(r"\d+\.\d\d s +\d{13}-\d+ ", line)]

    assert len(rows) >= 15
    assert sum("happy" in row for row in rows) >= 0.8 * len(rows)
    assert "…" not in demo[0].out


def test_a_smiling_portrait_is_happy(demo: tuple[Ended, float, Path, list[str]]) -> None:
    summary = " ".join(demo[0].out.split())      # its lines may be wrapped anywhere
    analysed, events, without = (
        int(re.search(pattern, summary)[1]) for pattern in (      # pyright: ignore[reportOptionalSubscript]
            r"(\d+) frames analysed", r"(\d+) events", r"(\d+) frames without a face"))
    emotions = dict(re.findall(r"(\w+) (\d+)\b", summary.partition("Emotions read back:")[2]))

    assert analysed == 180
    assert events + without == analysed
    assert without >= 20      # the portrait is away for almost two seconds
    assert int(emotions["happy"]) >= 0.8 * events


def test_the_demo_leaves_no_process_and_no_file(demo: tuple[Ended, float, Path, list[str]]) -> None:
    _, _, folder, left = demo

    assert not left
    assert not list(folder.iterdir())      # onnxruntime keeps its telemetry in both, unless it is told not to


@pytest.mark.parametrize("columns", [80, 120])
def test_the_demo_fits_a_terminal(columns: int) -> None:
    ended = run_in_terminal("demo", "--speed", "max", columns=columns)

    assert ended.code == 0
    lines = ended.out.replace("\r", "\n").splitlines()
    assert re.search(r"\d{13}-\d+ ", ended.out)
    assert "…" not in ended.out
    assert max(map(len, lines)) <= columns

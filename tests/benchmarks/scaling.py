"""How many frames a second one core and two cores analyse, of one file and of several at once."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES, Mode, options
from tests.benchmarks.setting import WARM_FRAMES, Setting, run_alone, take_turns

TITLE = "One core and two"
ABOUT = """\
Recordings as fast as they go, from the file to Redis, on the first core alone with one analyzer and on two cores
with two. Redis runs beside them. With one file, one thread decodes for both analyzers; events come out in the order
of the frames all the same. The last row is what this machine has to give: a plain loop on one core, and two that know
nothing of each other on two."""
TABLE = "Frames a second, 640x360 with one face"
LOOPS = "two plain loops"
COMPARED = ("full", "tracking, answers kept")
FILES = {"one file": 1, "eight files at once": 8}
ONE, TWO, DAEMONS = "1 core", "2 cores", "2 cores, two daemons with four files and one analyzer each"
SPEED_UP, DAEMONS_SPEED_UP = "speed-up", "two daemons' speed-up"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures both modes with one and eight files."""
    setting.note_clips(sheet)
    if len(os.sched_getaffinity(0)) < 2:
        sheet.lacks("Two cores: this machine has one.")
        return
    clip = next(iter(setting.clips.values()))
    rows = {f"{files}, {mode}": (FILES[files], MODES[mode]) for files, mode in product(FILES, COMPARED)}
    with setting.redis() as url:
        for row in take_turns(min(setting.rounds, 3), [*rows, LOOPS]):
            if row == LOOPS:
                add_rates(sheet, row, *plain_loops(setting.short(clip, 15 if setting.quick else 300)))
                continue
            count, mode = rows[row]
            file = setting.short(clip, (15 if setting.quick else 75) * (1 if count > 1 else 4))

            compare(sheet, row, count, partial(analyze, file, setting.short(clip, WARM_FRAMES), url, mode))


def compare(sheet: Sheet, row: str, count: int, run: Callable[..., float]) -> None:
    """Adds a row: one core, two, and of several files two daemons on two cores; `run` is `analyze` with its files."""
    one = run(count, cores=1, workers=1)
    add_rates(sheet, row, one, run(count, cores=2, workers=2))
    if count > 1:
        both = at_once(partial(run, count // 2, cores=2, workers=1))
        sheet.add(TABLE, row, DAEMONS, both, "frames/s")
        sheet.add(TABLE, row, DAEMONS_SPEED_UP, both / one)


def analyze(
    file: Path, warm: Path, url: str, mode: Mode, streams: int, *, cores: int, workers: int,
    python: Path | str = sys.executable,
) -> float:
    """Returns the frames a second of one daemon that analyses a file so many times at once."""
    return rate(run_alone("pipeline", file, "--warm", warm, "--url", url, *options(mode), "--streams", streams,
                          "--workers", workers, cores=cores, python=python))


def add_rates(sheet: Sheet, row: str, one: float, two: float) -> None:
    """Adds frames a second on one core and on two, and their ratio."""
    sheet.add(TABLE, row, ONE, one, "frames/s")
    sheet.add(TABLE, row, TWO, two, "frames/s")
    sheet.add(TABLE, row, SPEED_UP, two / one)


def plain_loops(file: Path) -> tuple[float, float]:
    """Returns the frames a second of one plain loop on one core, and of two at the same time on two."""
    return rate(run_alone("plain", file, cores=1)), at_once(lambda: rate(run_alone("plain", file, cores=2)))


def at_once(run: Callable[[], float]) -> float:
    """Runs two processes at the same time and returns the sum of their frames a second."""
    with ThreadPoolExecutor(2) as pool:
        return sum(future.result() for future in [pool.submit(run) for _ in range(2)])


def rate(run: dict[str, float]) -> float:
    """Returns frames a second of a run."""
    return run["frames"] / run["seconds"]

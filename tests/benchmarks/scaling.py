"""How many frames a second one core and two cores analyse, of one file and of several at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES, options
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
ONE, TWO = "1 core", "2 cores"


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
            rates = [rate(run_alone(
                "pipeline", file, "--warm", setting.short(clip, WARM_FRAMES), "--url", url, *options(mode),
                "--streams", count, "--workers", cores, cores=cores)) for cores in (1, 2)]
            add_rates(sheet, row, *rates)


def add_rates(sheet: Sheet, row: str, one: float, two: float) -> None:
    """Adds frames a second on one core and on two, and their ratio."""
    sheet.add(TABLE, row, ONE, one, "frames/s")
    sheet.add(TABLE, row, TWO, two, "frames/s")
    sheet.add(TABLE, row, "speed-up", two / one)


def plain_loops(file: Path) -> tuple[float, float]:
    """Returns the frames a second of one plain loop on one core, and of two at the same time on two."""
    one = rate(run_alone("plain", file, cores=1))
    with ThreadPoolExecutor(2) as pool:
        return one, sum(pool.map(lambda _: rate(run_alone("plain", file, cores=2)), range(2)))


def rate(run: dict[str, float]) -> float:
    """Returns frames a second of a run."""
    return run["frames"] / run["seconds"]

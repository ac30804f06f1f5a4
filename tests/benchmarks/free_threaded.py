"""Two cores without Python's lock: `python -m tests.benchmarks.free_threaded PYTHON`, a free-threaded 3.14 or newer.

It needs `pip install av onnxruntime numpy msgspec hiredis redis pydantic-settings prometheus-client pyyaml rich psutil
pillow`. OpenCV has no wheel for such interpreters: Pillow cuts out the faces. hiredis does not say that it can do
without the lock, so that the lock is taken away by PYTHON_GIL=0. With and without is the same interpreter.
"""

import argparse
import os
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

from rich.console import Console

from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES
from tests.benchmarks.scaling import COMPARED, FILES, analyze, at_once
from tests.benchmarks.setting import ROOT, WARM_FRAMES, Setting, take_turns
from tests.benchmarks.tables import grids, terminal

TABLE = "Frames a second, 640x360 with one face"
LOCKS = {"with the lock": "1", "without": "0"}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        str(ROOT / folder) for folder in ("tests/benchmarks/alone/by_pillow", "daemon", "models"))
    rows = {f"{files}, {mode}, {lock}": (FILES[files], MODES[mode], LOCKS[lock])
            for files, mode, lock in product(FILES, COMPARED, LOCKS)}
    sheet = Sheet()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(False, Path(folder))
        clip = next(iter(setting.clips.values()))
        warm = setting.short(clip, WARM_FRAMES)
        with setting.redis() as url:
            for row in take_turns(arguments.rounds, rows):
                count, mode, os.environ["PYTHON_GIL"] = rows[row]
                file = setting.short(clip, 75 if count > 1 else 300)
                run = partial(analyze, file, warm, url, mode, python=arguments.python)
                one, two = run(count, cores=1, workers=1), run(count, cores=2, workers=2)
                sheet.add(TABLE, row, "1 core", one, "frames/s")
                sheet.add(TABLE, row, "2 cores", two, "frames/s")
                sheet.add(TABLE, row, "speed-up", two / one)
                if count > 1:
                    both = at_once(partial(run, count // 2, cores=2, workers=1))
                    sheet.add(TABLE, row, "two processes", both, "frames/s")
                    sheet.add(TABLE, row, "their speed-up", both / one)
    console = Console(width=150)
    for grid in grids(sheet.figures()):
        console.print(terminal(grid))


if __name__ == "__main__":
    main()

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
from tests.benchmarks.scaling import COMPARED, FILES, analyze, compare
from tests.benchmarks.setting import ROOT, WARM_FRAMES, Setting, take_turns
from tests.benchmarks.tables import grids, terminal

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
                compare(sheet, row, count, partial(analyze, file, warm, url, mode, python=arguments.python))
    console = Console(width=150)
    for grid in grids(sheet.figures()):
        console.print(terminal(grid))


if __name__ == "__main__":
    main()

"""`make bench`: figures of this machine, measured here and now with the real parts, printed as tables.

With ARGS="--write" they become a page: docs/benchmarks.md with its plots, and docs/benchmarks.json with every round.
Needs Redis and GStreamer's RTSP server for the live figures and the peers' environment for theirs; says so where they
are missing.
"""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.benchmarks import figures, page, plots
from tests.benchmarks.figures import Measured, Results, Sheet
from tests.benchmarks.parts import PARTS
from tests.benchmarks.setting import ROOT, Others, Setting, commit, machine, now
from tests.benchmarks.tables import grids, spread, terminal

DOCS = ROOT / "docs"
MOST_OF_OTHERS = 2.0  # % of the machine that may go to other programs unsaid
PAGE_WIDTH = 150     # characters of a line where there is no terminal


def main(words: list[str] | None = None) -> None:
    """Measures, prints, and writes what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, frames and seconds")
    parser.add_argument("--write", action="store_true", help="write the page, its plots and the raw figures")
    parser.add_argument("--render", action="store_true", help="write the page from the raw figures alone")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="FOLDER", help="instead of docs/")
    arguments = parser.parse_args(words)
    console = Console()
    if not console.is_terminal:
        console.width = PAGE_WIDTH
    file = arguments.into / "benchmarks.json"
    kept = figures.read(file)
    if arguments.render and kept is None:
        parser.error(f"{file} is not there: measure with --write first")
    results = kept or Results(machine())
    if not arguments.render:
        if results.machine != machine():      # figures of two machines do not stand on one page
            results = Results(machine())
        console.print(*results.machine.values(), sep="; ")
        for name in arguments.parts or PARTS:
            results.parts[name] = measure(name, quick=arguments.quick)
            show(console, name, results.parts[name])
            if arguments.write:
                arguments.into.mkdir(parents=True, exist_ok=True)
                figures.write(file, results)      # at once: a later part may fail
    if arguments.write or arguments.render:
        drawn = plots.draw(results, arguments.into / "images")
        (arguments.into / "benchmarks.md").write_text(page.render(results, drawn, arguments.into), encoding="utf-8")


def measure(name: str, *, quick: bool) -> Measured:
    """Runs one part."""
    command = f"python -m tests.benchmarks {name}{' --quick' if quick else ''}"
    begin, sheet, date, others = time.monotonic(), Sheet(), now(), Others()
    with tempfile.TemporaryDirectory(prefix="emotiond-bench-") as folder:
        PARTS[name].measure(Setting(quick, Path(folder)), sheet)
    if others.share() > MOST_OF_OTHERS:
        sheet.lacks(f"Alone on the machine: other programs took {others.share():.0f} % of it meanwhile.")
    return Measured(command, commit(), date, round(time.monotonic() - begin, 1), sheet.figures(), tuple(sheet.missing))


def show(console: Console, name: str, measured: Measured) -> None:
    """Prints a part's tables."""
    console.rule(f"{PARTS[name].title} ({measured.command}, {measured.seconds:.0f} s)", align="left")
    for grid in grids(measured.figures):
        console.print(terminal(grid))
    for sentence in (*measured.missing, spread(measured.figures)):
        if sentence:
            console.print(sentence, style="dim")


if __name__ == "__main__":
    main()

"""Runs the parts of a page of benchmarks: measures, prints, and writes what is asked for."""

import argparse
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.benchmarks import figures, page, plots
from tests.benchmarks.figures import Measured, Results, Sheet
from tests.benchmarks.page import Document
from tests.benchmarks.parts import Part
from tests.benchmarks.setting import ROOT, Others, Setting, commit, machine, now
from tests.benchmarks.tables import grids, spread, terminal

DOCS = ROOT / "docs"
MOST_OF_OTHERS = 2.0  # % of the machine that may go to other programs unsaid
PAGE_WIDTH = 150     # characters of a line where there is no terminal


def run(document: Document, about: str | None, words: list[str] | None = None) -> None:
    """Does what a command line asks for.

    Args:
        document: the page.
        about: what `--help` says.
        words: the command line; this process' own by default.
    """
    parser = argparse.ArgumentParser(prog=document.command, description=about)
    parser.add_argument("parts", nargs="*", choices=[[], *document.parts], metavar="PART",
                        help=f"of {', '.join(document.parts)}; all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, frames and seconds")
    parser.add_argument("--write", action="store_true", help="write the page, its plots and the raw figures")
    parser.add_argument("--render", action="store_true", help="write the page from the raw figures alone")
    parser.add_argument("--into", type=Path, default=DOCS, metavar="FOLDER", help="instead of docs/")
    if document.devices:
        parser.add_argument("--device", choices=document.devices, default=document.devices[0], help="(%(default)s)")
    arguments = parser.parse_args(words)
    console = Console()
    if not console.is_terminal:
        console.width = PAGE_WIDTH
    file = arguments.into / f"{document.name}.json"
    kept = figures.read(file)
    if arguments.render and kept is None:
        parser.error(f"{file} is not there: measure with --write first")
    device = arguments.device if document.devices else "cpu"
    if device.startswith("cuda") and not arguments.render and not has_gpu():
        parser.error("there is no GPU that torch can use; --device torch:cpu runs the same code in small")
    here = machine("cpu" if arguments.render else device)
    results = kept or Results(here)
    if not arguments.render:
        if results.machine != here:      # figures of two machines do not stand on one page
            results = Results(here)
        console.print(*results.machine.values(), sep="; ")
        for name in arguments.parts or document.parts:
            words = [document.command, name, *(["--quick"] if arguments.quick else []),
                     *([f"--device {device}"] if document.devices and device != document.devices[0] else [])]
            results.parts[name] = measure(document.parts[name], " ".join(words), quick=arguments.quick, device=device)
            show(console, document.parts[name], results.parts[name])
            if arguments.write:
                arguments.into.mkdir(parents=True, exist_ok=True)
                figures.write(file, results)      # at once: a later part may fail
    if arguments.write or arguments.render:
        drawn = plots.draw(results, arguments.into / "images") if document is page.BENCHMARKS else {}
        text = page.render(results, drawn, arguments.into, document)
        (arguments.into / f"{document.name}.md").write_text(text, encoding="utf-8")


def has_gpu() -> bool:
    """Tells whether torch can use a GPU."""
    import torch
    return torch.cuda.is_available()


def measure(part: Part, command: str, *, quick: bool, device: str) -> Measured:
    """Runs one part."""
    begin, sheet, date, others = time.monotonic(), Sheet(), now(), Others()
    with tempfile.TemporaryDirectory(prefix="emotiond-bench-") as folder:
        part.measure(Setting(quick, Path(folder), device), sheet)
    if others.share() > MOST_OF_OTHERS:
        sheet.lacks(f"Alone on the machine: other programs took {others.share():.0f} % of it meanwhile.")
    return Measured(command, commit(), date, round(time.monotonic() - begin, 1), sheet.figures(), tuple(sheet.missing))


def show(console: Console, part: Part, measured: Measured) -> None:
    """Prints a part's tables."""
    console.rule(f"{part.title} ({measured.command}, {measured.seconds:.0f} s)", align="left")
    for grid in grids(measured.figures):
        console.print(terminal(grid))
    for sentence in (*measured.missing, spread(measured.figures)):
        if sentence:
            console.print(sentence, style="dim")

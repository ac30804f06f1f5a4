"""docs/benchmarks.md and docs/benchmarks-gpu.md, made from results alone."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import aims
from tests.benchmarks.figures import Measured, Results
from tests.benchmarks.parts import PARTS, Part
from tests.benchmarks.tables import grids, markdown, spread


@dataclass(frozen=True)
class Document:
    """A page of benchmarks.

    Attributes:
        name: of its files in docs/, without their endings.
        command: that measures it, a part's name left out.
        intro: its beginning, in Markdown.
        parts: its sections.
        aims: makes the section on what was aimed at; empty where there is none.
        devices: what it can be measured on, the usual one first; empty where there is no choice.
    """

    name: str
    command: str
    intro: str
    parts: Mapping[str, Part]
    aims: Callable[[Mapping[str, Measured]], str]
    devices: tuple[str, ...] = ()


INTRO = """\
# Benchmarks

What emotiond costs and how much a machine holds, stage by stage and as a whole, beside what else does the same in
Python. Every figure was measured on the machine below by the command under its table, by the processor's time where it
says *processor time* and by the clock elsewhere; only EmotionNet's accuracy is what its weights' files say.
Ratios travel to other machines, milliseconds do not.

```sh
make bench                          # measures everything here and prints it; about an hour
make bench ARGS=--write             # and writes this page, its plots and benchmarks.json, which holds every round
make bench ARGS="stages --quick"    # single parts, or a few minutes for all
```

The clips are real recordings that are not part of the project; without them the demo's portrait stands in."""
NOT_HERE = "Not measured."
BENCHMARKS = Document("benchmarks", "python -m tests.benchmarks", INTRO, PARTS, aims.section)


def render(results: Results, plots: Mapping[str, Path], folder: Path, document: Document = BENCHMARKS) -> str:
    """Returns the page.

    Args:
        results: what was measured.
        plots: part -> its plot, where there is one.
        folder: in which the page lies.
        document: which page.
    """
    measured = results.parts.values()
    commits, dates = {part.commit for part in measured}, sorted(part.date for part in measured)
    about = {**results.machine, "measured": _span(dates), "commit": ", ".join(sorted(commits)) or "unknown"}
    machine = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in about.items())])
    sections = [_section(part, results.parts.get(name), plots.get(name), folder, several=len(commits) > 1)
                for name, part in document.parts.items()]
    reached = document.aims(results.parts)
    titles = [*(["Aims"] if reached else []), *(part.title for part in document.parts.values())]
    contents = " · ".join(f"[{title}](#{_anchor(title)})" for title in titles)
    return "\n\n".join(filter(None, [document.intro, machine, contents, reached, *sections])) + "\n"


def _section(part: Part, measured: Measured | None, plot: Path | None, folder: Path, *, several: bool) -> str:
    blocks = [f"## {part.title}", part.about]
    if measured is None:
        return "\n\n".join([*blocks, NOT_HERE])
    if plot:
        blocks.append(f"![{part.title}]({plot.relative_to(folder)})")
    for grid in grids(measured.figures):
        blocks += [markdown(grid), f"`{measured.command}`"]
    if missing := measured.missing:
        blocks.append("Not measured, or otherwise than described:\n\n" + "\n".join(f"- {each}" for each in missing))
    closing = [spread(measured.figures), f"Measured at {measured.commit}, {measured.date}." if several else ""]
    return "\n\n".join([*blocks, *([" ".join(filter(None, closing))] if any(closing) else [])])


def _span(dates: list[str]) -> str:
    return dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "never"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")

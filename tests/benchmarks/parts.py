"""The parts of a benchmark, in the order of the page: what each is called, says, measures and draws."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks import (
    accuracy,
    density,
    events,
    faces,
    latency,
    peers,
    scaling,
    stages,
    start,
    streams,
    tracking,
    whole,
)
from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import Setting


@dataclass(frozen=True)
class Part:
    """One section of the page.

    Attributes:
        title: its heading.
        about: what its figures mean, in Markdown.
        measure: fills a sheet.
    """

    title: str
    about: str
    measure: Callable[[Setting, Sheet], None]


PARTS = {
    module.__name__.rpartition(".")[2]: Part(module.TITLE, module.ABOUT, module.measure)
    for module in (stages, whole, tracking, scaling, density, latency, streams, faces, events, peers, accuracy, start)}
"""Name on the command line -> part."""

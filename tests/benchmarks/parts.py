"""The parts of a benchmark, in the order of the page: what each is called, says, measures and draws."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

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


def make_parts(*modules: ModuleType) -> dict[str, Part]:
    """Returns name on the command line -> part, of modules that have a title, what they mean and how to measure."""
    return {module.__name__.rpartition(".")[2]: Part(module.TITLE, module.ABOUT, module.measure) for module in modules}


PARTS = make_parts(
    stages, whole, tracking, scaling, density, latency, streams, faces, events, peers, accuracy, start)

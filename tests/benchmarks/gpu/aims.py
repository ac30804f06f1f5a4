"""What is aimed at on one GPU, an H100 or H200."""

from collections.abc import Callable, Mapping

from tests.benchmarks.aims import Aim, Cells
from tests.benchmarks.gpu import live, memory, networks

ABOUT = """\
What is aimed at on one H100 or H200. The number of streams was set after a figure published for DeepStream on one H100,
with a detector, a tracker and two classifiers; it is not measured beside ours."""


def _best(table: str, column: str, of: str = "") -> Callable[[Mapping[str, Cells]], list[float]]:
    """Reads the largest value of a column, of the rows that end so."""
    return lambda tables: [max(value for (row, name), value in tables[table].items()
                               if name == column and row.endswith(of))]


AIMS = (
    Aim("live streams of 1080p at 30 frames a second, of any number of daemons", "live", _best(live.HELD, "streams"),
        (148,)),
    Aim("of what the decoders alone decode, %", "live", _best(live.HELD, "of decoding alone"), (85,)),
    Aim("faces a second by EmotionNet alone, of 64 pixels", "networks",
        _best(networks.CLASSIFIER, "a second", "of 64 pixels"), (500_000,)),
    Aim("frames a second by YuNet alone, at 640x384", "networks", _best(networks.DETECTOR, "a second"), (10_000,)),
    Aim("growth of the device's memory under varying load, MB an hour", "memory",
        lambda tables: [value for (_, name), value in tables[memory.TABLE].items() if name == memory.GROWTH], (1,),
        at_most=True),
)

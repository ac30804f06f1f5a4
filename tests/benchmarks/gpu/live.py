"""How many live cameras one device holds, with one process and with several."""

import os
from collections import Counter
from pathlib import Path

from tests.benchmarks.cameras import streams_of, write_cameras
from tests.benchmarks.density import MOST_DROPPED, MOST_MS, holds, search
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.decoding import NotThereError, decoded_a_second, length
from tests.benchmarks.modes import Mode
from tests.benchmarks.setting import Setting
from tests.benchmarks.streams import Live, measure_live
from tests.conftest import PARTS

TITLE = "Live streams"
ABOUT = f"""\
Cameras of 1920x1080 at 30 frames a second (H.264), played at their own pace from files encoded beforehand, into so many
daemons (`shard.count`) that share the device, with one analyzer each or two (`compute.workers`), and a real Redis. A
number *is held* when fewer than {MOST_DROPPED} % of the frames are dropped and 95 % of the events are in Redis within
{MOST_MS:.0f} ms of the frame's arrival; the most streams held were so in two runs. Each daemon is one Python
interpreter, whose lock its threads share."""
TABLE = "Streams, and what became of their frames"
HELD = "The most streams held"
DAEMONS = {"1 daemon": (1, 1), "1 daemon, two analyzers": (1, 2), "2 daemons": (2, 1), "4 daemons": (4, 1),
           "8 daemons": (8, 1)}
"""In words -> daemons, analyzers of each."""
RATE, TRIALS, READERS = 30, 14, 16


def measure(setting: Setting, sheet: Sheet) -> None:
    """Looks for the most streams with each number of daemons."""
    setting.note_clips(sheet)
    if not PARTS["redis-server"].found():
        sheet.lacks(f"Live streams: {PARTS['redis-server'].mend}.")
        return
    files = write_cameras(list(setting.clips.values())[-1], setting.folder / "live", RATE, 1920, length(setting))
    alone = None
    try:
        alone = decoded_a_second(files, READERS, setting.device, 2.0 if setting.quick else 10.0)
        sheet.add(HELD, f"decoding alone, {READERS} files", "frames decoded", alone, "frames/s")
    except NotThereError as error:
        sheet.lacks(f"Decoding on the device: {error}.")
    cores = len(os.sched_getaffinity(0))
    for name, (shards, workers) in DAEMONS.items():
        if shards == 1 or (not setting.quick and 2 * shards <= cores):
            mode = {"compute": {"device": setting.device, "workers": workers}}
            _look(setting, sheet, name, files, shards, mode, alone)


def _look(
    setting: Setting, sheet: Sheet, name: str, files: list[Path], shards: int, mode: Mode, alone: float | None
) -> None:
    """Looks for the most streams with so many daemons; `alone` is how many frames the decoders decode a second."""
    held = Counter[int]()

    def run(count: int) -> Live:
        seconds, warm = (6, 6) if setting.quick else (20, 15)
        live = measure_live(setting.folder, dict(streams_of(files, count)), seconds, mode, warm, shards)
        row = f"{name}: {count}"
        sheet.add(TABLE, row, "frames analysed", live.frames / seconds, "frames/s")
        sheet.add(TABLE, row, "dropped", live.dropped, "%")
        sheet.add(TABLE, row, "95th percentile to Redis", live.p95_ms, "ms")
        sheet.add(TABLE, row, "cores busy", live.cores)
        sheet.add(TABLE, row, "held", holds(live), "yes or no")
        held[count] += holds(live)
        return live

    most = search(run, 1 if setting.quick else TRIALS, RATE, len(os.sched_getaffinity(0)))
    sheet.add(HELD, name, "streams", most)
    if alone:
        sheet.add(HELD, name, "of decoding alone", 100 * most * RATE / alone, "%")
    if most and held[most] < 2 and not setting.quick:
        sheet.lacks(f"The most streams, {name}: the tries were used up before {most} were held twice; it may be more.")

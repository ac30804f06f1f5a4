"""How many live cameras one device holds, with one process and with several."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.cameras import streams_of, write_cameras
from tests.benchmarks.density import MOST_DROPPED, MOST_MS, holds, search
from tests.benchmarks.figures import Sheet
from tests.benchmarks.gpu.decoding import count_until
from tests.benchmarks.setting import Setting
from tests.benchmarks.streams import Live, measure_live
from tests.conftest import PARTS

TITLE = "Live streams"
ABOUT = f"""\
Cameras of 1920x1080 at 30 frames a second (H.264), played at their own pace from files encoded beforehand, into so many
daemons (`shard.count`) that share the device, and a real Redis. A number *is held* when fewer than {MOST_DROPPED} % of
the frames are dropped and 95 % of the events are in Redis within {MOST_MS:.0f} ms of the frame's arrival; the most
streams held were so in two runs. Each daemon is one Python interpreter, whose lock its threads share."""
TABLE = "Streams, and what became of their frames"
HELD = "The most streams held"
RATE, SHARDS, TRIALS, READERS = 30, (1, 2, 4, 8), 14, 16


def measure(setting: Setting, sheet: Sheet) -> None:
    """Looks for the most streams with each number of daemons."""
    setting.note_clips(sheet)
    if not PARTS["redis-server"].found():
        sheet.lacks(f"Live streams: {PARTS['redis-server'].mend}.")
        return
    files = write_cameras(list(setting.clips.values())[-1], setting.folder / "live", RATE, width=1920)
    mode = {"compute": {"device": setting.device}}
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(READERS) as pool:
        begin, seconds = time.monotonic(), 2.0 if setting.quick else 10.0
        frames = pool.map(lambda place: count_until(files[place % len(files)], setting.device, begin + seconds),
                          range(READERS))
        alone = sum(frames) / seconds
    sheet.add(HELD, f"decoding alone, {READERS} files", "frames decoded", alone, "frames/s")
    for shards in SHARDS[:1] if setting.quick else [count for count in SHARDS if 2 * count <= cores] or SHARDS[:1]:
        name = "1 daemon" if shards == 1 else f"{shards} daemons"

        held = Counter[int]()

        def run(count: int, name: str = name, shards: int = shards, held: Counter[int] = held) -> Live:
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

        most = search(run, 1 if setting.quick else TRIALS, RATE, cores)
        sheet.add(HELD, name, "streams", most)
        sheet.add(HELD, name, "of decoding alone", 100 * most * RATE / alone, "%")
        if held[most] < 2:
            sheet.lacks(f"The most streams, {name}: the tries were used up before {most} were held twice; it may be "
                        "more.")

"""How many live cameras two cores hold."""

from collections import Counter
from collections.abc import Callable

from tests.benchmarks.cameras import streams_of, write_cameras
from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import LIVE, Mode
from tests.benchmarks.setting import Setting, on_cores
from tests.benchmarks.streams import Live, measure_live
from tests.conftest import PARTS

TITLE = "Live streams on two cores"
ABOUT = """\
Cameras of 640x360 at 15 frames a second with one face each, played at their own pace from files encoded beforehand
(H.264 without B-frames). Daemon, Redis and what measures share two cores. A number of streams *is held* when fewer
than 0.1 % of the frames are dropped and 95 % of the events are in Redis within 200 ms of the frame's arrival; the
most streams held were so in two runs."""
TABLE = "Streams, and what became of their frames"
HELD = "The most streams held"
CASES = {name: (mode, 1) for name, mode in LIVE.items()} | {      # two daemons with shard.count 2, on the same cores
    f"{name}, two shards": (LIVE[name], 2) for name in ("full", "tracking, answers kept")}
RATE = 15
FIRST, TRIALS = 4, 14
MOST_DROPPED, MOST_MS = 0.1, 200.0      # %, ms


def holds(live: Live) -> bool:
    """Tells whether no frame to speak of was lost or late."""
    return live.dropped < MOST_DROPPED and live.p95_ms < MOST_MS and live.frames > 0


def measure(setting: Setting, sheet: Sheet) -> None:
    """Looks for the most streams in each case."""
    setting.note_clips(sheet)
    if not PARTS["redis-server"].found():
        sheet.lacks(f"Live streams: {PARTS['redis-server'].mend}.")
        return
    if setting.quick:
        sheet.lacks("The most streams: a quick run tries few numbers, each once.")
    files = write_cameras(next(iter(setting.clips.values())), setting.folder / "live", RATE)
    with on_cores(2):
        for name, (mode, shards) in CASES.items():
            held = Counter[int]()

            def run(count: int, name: str = name, mode: Mode = mode, shards: int = shards,
                    held: Counter[int] = held) -> Live:
                seconds, warm = (6, 3) if setting.quick else (20, 8)
                live = measure_live(setting.folder, dict(streams_of(files, count)), seconds, mode, warm, shards)
                row = f"{name}: {count}"
                sheet.add(TABLE, row, "dropped", live.dropped, "%")
                sheet.add(TABLE, row, "95th percentile to Redis", live.p95_ms, "ms")
                sheet.add(TABLE, row, "cores busy", live.cores)
                sheet.add(TABLE, row, "processor time a frame", live.ms_a_frame, "ms")
                sheet.add(TABLE, row, "held", holds(live), "yes or no")
                held[count] += holds(live)
                return live

            most = search(run, 2 if setting.quick else TRIALS)
            sheet.add(HELD, name, "streams", most)
            if most and held[most] < 2 and not setting.quick:
                sheet.lacks(f"The most streams, {name}: the tries were used up before {most} were held twice; it may "
                            "be more.")


def search(run: Callable[[int], Live], trials: int, rate: int = RATE, cores: int = 2) -> int:
    """Returns the most streams, of so many frames a second, that were held in two runs; 0 for none.

    Where no runs are left, one run is enough. The first guess is what so many cores are enough for.
    """
    first = run(FIRST)
    passed, failed = Counter[int](), set[int]()
    count, held = max(int(0.88 * 1000 * cores / (rate * first.ms_a_frame)), 1), holds(first)
    (passed.update if held else failed.update)([FIRST])
    best = 0
    for _ in range(trials):
        (passed.update if holds(run(count)) else failed.update)([count])
        least_failed = min(failed, default=None)
        best = max((number for number in passed if least_failed is None or number < least_failed), default=0)
        if least_failed is None:
            count = best + max(best // 5, 1)      # what batches save is not in the first guess
        elif least_failed > best + 1:
            count = (best + least_failed) // 2
        elif best == 0 or passed[best] > 1:
            break
        else:
            count = best
    return best

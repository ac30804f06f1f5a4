"""What each stage of a frame's way costs by itself."""

from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import Setting, run_alone, take_turns

TITLE = "Stages alone"
ABOUT = """\
Each stage goes over the same frames by itself, on one thread, with the daemon's own functions: decoding with PyAV,
scaling to the detector's 640 pixels, YuNet, cutting out faces, EmotionNet on those of four frames at once, as where
several frames wait, making the event, and its way through the spool into Redis (at 100 events a second, all threads
of it). The least of the rounds counts: what else the machine does can only add."""
TABLE = "Processor time of each stage, ms a frame"
STAGES = ("decode", "scale", "detect", "crop", "classify", "encode", "publish")


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures every stage on every clip."""
    setting.note_clips(sheet)
    with setting.redis() as url:
        for clip in take_turns(setting.rounds, setting.clips):
            found = run_alone("stages", setting.short(setting.clips[clip], setting.frames), url, cores=1)
            sheet.add(TABLE, clip, "faces a frame", found["faces"])
            for stage in STAGES:
                sheet.add(TABLE, clip, stage, found[stage], "ms", least=True)
            sheet.add(TABLE, clip, "sum", total(found), "ms", least=True)


def total(found: dict[str, float]) -> float:
    """Returns the sum of all stages in ms."""
    return sum(found[stage] for stage in STAGES)

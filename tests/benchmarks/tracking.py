"""What the shortcuts of tracking mode and of 8 bits cost in accuracy."""

from tests.benchmarks.figures import Sheet
from tests.benchmarks.following import analyze, compare
from tests.benchmarks.modes import MODES
from tests.benchmarks.setting import Setting

TITLE = "What the shortcuts cost in accuracy"
ABOUT = """\
Each mode against the defaults on the same frames: how many of the defaults' faces are found (a box with an IoU of at
least .5), how many of these get the same emotion, in the frame and after smoothing (`smoothed.emotion`), and how many
faces are found that the defaults do not. What they save stands in the table above."""


def title(mode: str) -> str:
    """Returns the title of a mode's table."""
    return f"{mode}, against the defaults, %"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Compares each with the defaults on every clip, once: the same clip gives the same faces."""
    setting.note_clips(sheet)
    for clip, file in setting.clips.items():
        part = setting.short(file, setting.frames)
        reference, _ = analyze(part, MODES["full"])
        for name, mode in list(MODES.items())[1:]:
            table = title(name)
            got = compare(reference, analyze(part, mode)[0])
            sheet.add(table, clip, "the defaults' faces", got.faces)
            sheet.add(table, clip, "found", 100 * got.found / max(got.faces, 1), "%")
            sheet.add(table, clip, "the same emotion", 100 * got.same / max(got.found, 1), "%")
            sheet.add(table, clip, "smoothed", 100 * got.same_smoothed / max(got.found, 1), "%")
            sheet.add(table, clip, "others", 100 * got.new / max(got.faces, 1), "%")

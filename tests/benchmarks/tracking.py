"""What the shortcuts of tracking mode and of 8 bits cost in accuracy."""

from tests.benchmarks.figures import Sheet
from tests.benchmarks.following import analyze, compare
from tests.benchmarks.setting import Setting

TITLE = "What the shortcuts cost in accuracy"
ABOUT = """\
Tracking mode (`detector.interval: 3`) and 8 bits (`classifier.weights: builtin-int8`) against the defaults on the same
frames: how many of the defaults' faces are found (a box with an IoU of at least .5), how many of these get the same
emotion, and how many faces are found that the defaults do not. What they save stands in the table above."""
MODES = {"tracking": (3, "builtin"), "full, 8 bits": (1, "builtin-int8"), "tracking, 8 bits": (3, "builtin-int8")}


def measure(setting: Setting, sheet: Sheet) -> None:
    """Compares each with the defaults on every clip, once: the same clip gives the same faces."""
    setting.note_clips(sheet)
    for clip, file in setting.clips.items():
        part = setting.short(file, setting.frames)
        reference, _ = analyze(part, 1)
        for mode, (interval, weights) in MODES.items():
            table = f"{mode}, against the defaults, %"
            faces, again, same, new = compare(reference, analyze(part, interval, weights)[0])
            sheet.add(table, clip, "the defaults' faces", faces)
            sheet.add(table, clip, "found", 100 * again / max(faces, 1), "%")
            sheet.add(table, clip, "the same emotion", 100 * same / max(again, 1), "%")
            sheet.add(table, clip, "others", 100 * new / max(faces, 1), "%")

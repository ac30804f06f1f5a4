"""What `detector.interval` costs and saves: `python -m tests.benchmarks.following --intervals 1 2 3 5 CLIP...`.

Each clip goes through the daemon's own pipeline, on one analyzer, with each interval. Printed are the processor's
milliseconds for a frame (decoding included, one core's), the share of the faces of interval 1 that are found again (a
box with an IoU of at least .5), the share of these with the same emotion, and the faces that interval 1 does not have.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotiond.config_file import make_config
from emotiond.events import Face, FrameEvent
from emotiond.frames import Frame
from emotiond.pipeline import Pipeline
from emotiond.tracker import iou
from tests.conftest import DATA

CLIPS = ("one_woman_20s_360p.mp4", "group7_classroom_720p.mp4", "street_5plus_1080p.mp4")
SAME_FACE = 0.5      # IoU

Events = dict[int, list[Face]]


def analyze(clip: Path, interval: int, weights: str = "builtin") -> tuple[Events, float]:
    """Returns the faces of each frame, and the processor's seconds for a frame."""
    found: Events = {}

    def emit(event: FrameEvent, frame: Frame) -> None:
        found[event.frame] = event.faces

    config = make_config({
        "streams": {"clip": {"source": str(clip)}}, "publish_empty": True, "detector": {"interval": interval},
        "classifier": {"weights": weights},
        "compute": {"device": "cpu", "workers": 1}})
    pipeline = Pipeline(config, emit)
    pipeline.add_stream("clip", config.streams["clip"])
    pipeline.start()
    cpu = time.process_time()
    pipeline.read("clip").join()
    assert pipeline.finish(time.monotonic() + 600) == []
    return found, (time.process_time() - cpu) / len(found)


def compare(reference: Events, events: Events) -> tuple[int, int, int, int]:
    """Returns the faces of `reference`, those found again, those of these with the same emotion, and new ones."""
    faces = again = same = new = 0
    for frame, expected in reference.items():
        faces += len(expected)
        new += len(events[frame])
        if not expected or not events[frame]:
            continue
        overlaps = iou(_boxes(expected), _boxes(events[frame]))
        for face, row in zip(expected, overlaps, strict=True):
            best = int(row.argmax())
            if row[best] >= SAME_FACE:
                again += 1
                new -= 1
                same += events[frame][best].emotion == face.emotion
    return faces, again, same, new


def _boxes(faces: list[Face]) -> NDArray[np.float32]:
    return np.array([(face.box.x, face.box.y, face.box.width, face.box.height) for face in faces], np.float32)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, default=[DATA / "clips" / name for name in CLIPS])
    parser.add_argument("--intervals", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    for clip in arguments.clips:
        reference, _ = analyze(clip, 1)
        for interval in arguments.intervals:
            events, seconds = analyze(clip, interval)
            faces, again, same, new = compare(reference, events)
            print(f"{clip.stem:28} interval {interval}: {1000 * seconds:5.2f} ms a frame, {again / faces:6.1%} found, "
                  f"{same / max(again, 1):6.1%} the same emotion, {new / faces:5.1%} others", flush=True)


if __name__ == "__main__":
    main()

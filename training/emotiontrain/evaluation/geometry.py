"""Measures how YuNet's box lies on FER2013's pictures, so that the daemon cuts crops as the training pictures are cut.

Training pictures are set into empty frames and found again:

    python -m emotiontrain.evaluation.geometry ~/fer2013/train

The empty surround itself moves the boxes a little. Faces of videos, cut at margin 1.08 and shift_y -0.01 and measured
in the same way, read 1.136 / -0.028 at 96 px, 1.109 / -0.017 at 144 px and 1.118 / -0.008 at 192 px. FER2013 reads
1.134 / -0.030, 1.104 / -0.019 and 1.106 / -0.011, so its true geometry is margin 1.075 and shift_y -0.012.
"""

import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotionnet.preprocess import Grey, resize
from yunet.detector import Detector, load_detector

FRAME_HEIGHT, FRAME_WIDTH = 384, 640
EMPTY = 128
SIDES = (96, 144, 192)
"""Sides in pixels at which a picture stands in its frame; smaller ones are often not found."""

_BATCH = 8


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of one measure."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Returns the median and the quartiles."""
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Geometry:
    """Where a training picture's square lies about the box of the face found in it.

    Attributes:
        margin: side of the square over the geometric mean of the box's sides.
        shift_x: how far the square's centre lies right of the box's centre, as a fraction of the square's side.
        shift_y: how far it lies below, likewise.
        found: share of the pictures in which a face was found.
    """

    margin: Spread
    shift_x: Spread
    shift_y: Spread
    found: float


def measure_geometry(pictures: Sequence[Grey], side: int, detector: Detector | None = None, seed: int = 0) -> Geometry:
    """Sets pictures into empty frames, each at its own place, and compares the boxes found with the squares.

    Args:
        pictures: square grey faces as the classifier is trained on, (S, S) uint8.
        side: of the square in the frame, in pixels.
        detector: YuNet on the CPU if not given.
        seed: of the places.

    Returns:
        Medians and quartiles over the pictures in which a face was found; a box counts if its centre lies in
        the square, the best one of them.
    """
    detector = detector or load_detector()
    rng = np.random.default_rng(seed)
    rows: list[tuple[float, float, float]] = []
    for start in range(0, len(pictures), _BATCH):
        chunk = pictures[start:start + _BATCH]
        corners = rng.integers(0, (FRAME_WIDTH - side + 1, FRAME_HEIGHT - side + 1), (len(chunk), 2))
        frames = [set_into_frame([picture], corner[None], side) for picture, corner in zip(chunk, corners, strict=True)]
        found = detector.detect([np.broadcast_to(frame, (3, *frame.shape)) for frame in frames])
        for faces, corner in zip(found, corners, strict=True):
            best = face_inside(faces.boxes, corner, side)
            if best is not None:
                x, y, width, height = faces.boxes[best].tolist()
                offset = (corner + side / 2 - (x + width / 2, y + height / 2)) / side
                rows.append((side / math.sqrt(width * height), *offset.tolist()))
    measures = np.array(rows, np.float64).reshape(-1, 3)
    margin, shift_x, shift_y = (_spread(column) for column in measures.T)
    return Geometry(margin, shift_x, shift_y, len(rows) / len(pictures))


def set_into_frame(
    pictures: Sequence[Grey], corners: NDArray[np.int64], side: int, width: int = FRAME_WIDTH,
    height: int = FRAME_HEIGHT,
) -> Grey:
    """Returns an empty frame (height, width) with square pictures in it.

    Args:
        pictures: (S, S) each.
        corners: (len(pictures), 2) x and y of their top left corners.
        side: at which they stand in the frame, in pixels.
        width: of the frame.
        height: of the frame.
    """
    frame = np.full((height, width), EMPTY, np.uint8)
    for picture, (x, y) in zip(pictures, corners.tolist(), strict=True):
        frame[y:y + side, x:x + side] = resize(picture, side)
    return frame


def face_inside(boxes: NDArray[np.float32], corner: NDArray[np.int64], side: int) -> int | None:
    """Returns the first of the boxes (N, 4) whose centre lies in the square at `corner`, or None."""
    offsets = boxes[:, :2] + boxes[:, 2:] / 2 - corner - side / 2
    inside = np.flatnonzero((np.abs(offsets) < side / 2).all(axis=1))
    return int(inside[0]) if inside.size else None


def _spread(values: NDArray[np.float64]) -> Spread:
    if not values.size:
        return Spread(*[float("nan")] * 3)
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return Spread(median, low, high)


def _read_training_pictures(folder: Path, most: int) -> Iterator[Grey]:
    """Yields up to `most` pictures, drawn from all classes by chance; validation and test stay out."""
    files = sorted(folder.rglob("Training_*.jpg"))
    for file in random.Random(0).sample(files, min(most, len(files))):
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if picture is not None and picture.min() < picture.max():
            yield np.asarray(picture, np.uint8)


def main() -> None:
    """Prints the geometry at each of SIDES."""
    pictures = list(_read_training_pictures(Path(sys.argv[1]), 1500))
    for side in SIDES:
        geometry = measure_geometry(pictures, side)
        print(f"{side:4d} px  found {geometry.found:.1%}  margin {geometry.margin}  shift_y {geometry.shift_y}  "
              f"shift_x {geometry.shift_x}")


if __name__ == "__main__":
    main()

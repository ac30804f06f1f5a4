"""Accuracy on pictures that go through a frame: set in, found by the daemon's detector, cut out, classified.

The steps are those of the daemon's analysis of a frame: the detector sees the picture scaled down to the width that
the daemon gives it, boxes are scaled back and clipped, small ones are left out, and the crop is cut out of
limited-range luma, which is what video has, and expanded afterwards.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emotionnet.classifier import Classifier
from emotionnet.preprocess import Grey, InputSpec, crop_square, expand_range
from emotiontrain.data import Split
from emotiontrain.data.votes import majority
from emotiontrain.evaluation.geometry import face_inside, set_into_frame
from yunet.detector import Detector, load_detector

DETECTOR_WIDTH, MIN_FACE = 640, 24
"""The daemon's own defaults."""

BAR = 2.0
"""The most percentage points that the way through the frame should cost."""

_GAP = 1.25   # side of a picture's cell over the picture's: room for its place to vary, and empty surround


@dataclass(frozen=True)
class Scene:
    """Empty frames of one size, with pictures of one size in them; all in pixels."""

    side: int
    width: int = 640
    height: int = 384

    @property
    def name(self) -> str:
        """Side and frame, for example `96 px in 640 x 384`."""
        return f"{self.side} px in {self.width} x {self.height}"

    @property
    def grid(self) -> tuple[int, int]:
        """How many pictures stand beside and below each other."""
        cell = round(self.side * _GAP)
        return max(self.width // cell, 1), max(self.height // cell, 1)


SCENES = (Scene(96), Scene(144), Scene(192), *(Scene(side, 1280, 720) for side in (96, 192, 288)))
"""The larger frames reach the detector at half their size."""


@dataclass(frozen=True)
class Comparison:
    """The way through frames beside the direct one, on the same pictures.

    Attributes:
        pictures: in which a face was found.
        direct: accuracy of these pictures, classified whole.
        path: accuracy of what was cut out of the frames.
        points: `direct` less `path`, in percentage points.
        low: of the 95 % interval of `points`, from the differences picture by picture.
        high: likewise.
    """

    pictures: int
    direct: float
    path: float
    points: float
    low: float
    high: float


@dataclass(frozen=True)
class PathResult:
    """What one scene gave.

    Attributes:
        scene: which.
        found: share of the pictures in which a face was found.
        labels: against the labels; None where nothing was found.
        votes: against the clear majority of votes; None where there is none.
    """

    scene: Scene
    found: float
    labels: Comparison | None
    votes: Comparison | None


def measure_daemon_path(
    classifier: Classifier, split: Split, direct: NDArray[np.float32], scenes: Sequence[Scene] = SCENES,
    threads: int = 1, step: Callable[[], object] = lambda: None, seed: int = 0,
) -> list[PathResult]:
    """Measures every scene.

    Args:
        classifier: of the split's labels.
        split: with its votes, if it has them.
        direct: (N, C) probabilities of the pictures as they are.
        scenes: what to measure.
        threads: that look for faces.
        step: called after each scene.
        seed: of the pictures' places.
    """
    results: list[PathResult] = []
    for scene in scenes:
        index, crops = find_and_crop(split.pictures, scene, classifier.info.input, threads, seed)
        path = classifier.classify(crops).argmax(axis=1)
        chosen = split.select(index)
        against = (direct[index].argmax(axis=1), path)
        results.append(PathResult(
            scene, round(len(index) / max(len(split), 1), 4), _compare(*against, chosen.labels),
            None if chosen.votes is None else _compare(*against, majority(chosen.votes))))
        step()
    return results


def find_and_crop(
    pictures: NDArray[np.uint8], scene: Scene, spec: InputSpec, threads: int = 1, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Sets pictures (N, S, S) into frames, several in each, finds their faces and cuts the classifier's crops.

    Returns:
        Indices (M,) of the pictures in which a face was found, rising, and their crops (M, side, side).
    """
    columns, rows = scene.grid
    rng = np.random.default_rng(seed)
    frames = [np.arange(start, min(start + columns * rows, len(pictures)))
              for start in range(0, len(pictures), columns * rows)]
    corners = [_places(len(members), scene, rng) for members in frames]

    def work(share: int) -> list[tuple[int, Grey]]:
        detector = load_detector()
        found: list[tuple[int, Grey]] = []
        for members, places in zip(frames[share::threads], corners[share::threads], strict=True):
            frame = set_into_frame(list(pictures[members]), places, scene.side, scene.width, scene.height)
            crops = analyze(detector, frame, places, scene.side, spec)
            found += [(int(i), crop) for i, crop in zip(members, crops, strict=True) if crop is not None]
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = sorted((item for part in pool.map(work, range(threads)) for item in part), key=lambda item: item[0])
    crops = np.stack([crop for _, crop in found]) if found else np.zeros((0, spec.side, spec.side), np.uint8)
    return np.array([i for i, _ in found], np.int64), crops


def analyze(
    detector: Detector, frame: Grey, places: NDArray[np.int64], side: int, spec: InputSpec
) -> list[Grey | None]:
    """Finds faces in a full-range frame as the daemon does, and returns the crop of each place that has one."""
    limited = np.rint(frame * (219 / 255) + 16).astype(np.uint8)
    height, width = frame.shape
    factor = min(1.0, DETECTOR_WIDTH / width)
    small = expand_range(limited)
    if factor < 1:
        small = np.asarray(cv2.resize(small, (round(width * factor), round(height * factor)),
                                      interpolation=cv2.INTER_AREA), np.uint8)
    faces = detector.detect([np.broadcast_to(small, (3, *small.shape))])[0]
    scale = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
    first = np.clip(faces.boxes[:, :2] * scale, 0, (width, height))
    last = np.clip((faces.boxes[:, :2] + faces.boxes[:, 2:]) * scale, 0, (width, height))
    boxes = np.concatenate([first, last - first], axis=1).astype(np.float32)
    boxes = boxes[boxes[:, 2:].min(axis=1) >= MIN_FACE]
    crops: list[Grey | None] = []
    for place in places:
        best = face_inside(boxes, place, side)
        if best is None:
            crops.append(None)
            continue
        x, y, w, h = boxes[best].tolist()
        crops.append(expand_range(crop_square(limited, (x, y, w, h), spec)))
    return crops


def _places(count: int, scene: Scene, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns the corners (count, 2) of pictures, each at its own place in its cell of the grid."""
    columns, rows = scene.grid
    cells = np.arange(count)
    size = np.array([scene.width // columns, scene.height // rows])
    corners = np.stack([cells % columns, cells // columns], axis=1) * size
    return corners + rng.integers(0, size - scene.side + 1, (count, 2))


def _compare(direct: NDArray[np.int64], path: NDArray[np.int64], target: NDArray[np.int64]) -> Comparison | None:
    """Compares answers (M,) of both ways where there is a target."""
    known = target >= 0
    count = int(known.sum())
    if not count:
        return None
    right = [(answers == target)[known].astype(np.float64) for answers in (direct, path)]
    lost = 100 * (right[0] - right[1])
    points, half = float(lost.mean()), 1.959964 * float(lost.std() / np.sqrt(count))
    return Comparison(count, round(float(right[0].mean()), 4), round(float(right[1].mean()), 4), round(points, 2),
                      round(points - half, 2), round(points + half, 2))

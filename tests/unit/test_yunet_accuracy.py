"""YuNet's average precision on 200 pictures of WIDER FACE's validation set.

Protocol: the squash to 416x416 is undone, so that the longer side has 640 pixels. A face counts from the stated
height in pixels of that picture. Detections from score 0.02 on, best first, each take the free face they overlap
most, at an intersection over union of .5 or more. Not counted at all are detections that overlap an ignored face
(too small, or marked invalid) by as much, and unmatched ones below the stated height. The average precision is the
area under the curve of precision (made monotonic) over recall.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from yunet.colour import Colour
from yunet.detector import Faces, load_detector

LONGER_SIDE = 640
Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What was found in a picture, and what is in it: boxes (N, 4) in its pixels, and which of them are invalid."""

    faces: Faces
    truth: Boxes
    invalid: NDArray[np.bool_]


def in_colour(picture: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """Turns B, G, R (h, w, 3) into the planes (3, h, w) that a decoder of that colour would give."""
    planes = np.einsum("cd,hwd->chw", np.linalg.inv(colour.to_bgr), picture) + np.array(colour.black)[:, None, None]
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=Colour)
def answers(request: pytest.FixtureRequest, data_dir: Path) -> list[Answer]:
    detector = load_detector(score=0.02, max_faces=10_000)
    folder = data_dir / "faces"
    descriptions: dict[str, dict[str, Any]] = json.loads((folder / "wider_val200.json").read_text())
    found: list[Answer] = []
    for name, description in descriptions.items():
        width, height = description["orig_width"], description["orig_height"]
        scale = LONGER_SIDE / max(width, height)
        squashed = cv2.imread(str(folder / "wider_val200" / name))
        assert squashed is not None, f"{name} is missing"
        picture = np.asarray(cv2.resize(squashed, (round(width * scale), round(height * scale))), np.uint8)
        found.append(Answer(
            detector.detect([in_colour(picture, request.param)], [request.param])[0],
            np.array(description["boxes_xywh_orig"], np.float64).reshape(-1, 4) * scale,
            np.array(description["invalid"], np.bool_)))
    return found


def overlaps(a: Boxes, b: Boxes) -> Boxes:
    """Returns the intersection over union of each of `a` with each of `b`."""
    ends = np.minimum(a[:, None, :2] + a[:, None, 2:], b[:, :2] + b[:, 2:])
    shared = (ends - np.maximum(a[:, None, :2], b[:, :2])).clip(0).prod(axis=2)
    return shared / (a[:, None, 2:].prod(axis=2) + b[:, 2:].prod(axis=1) - shared)


def judge(answer: Answer, least_height: float) -> list[tuple[float, bool]]:
    """Returns score and rightness of each detection that counts."""
    ignored = answer.invalid | (answer.truth[:, 3] < least_height)
    free = ~ignored
    judged: list[tuple[float, bool]] = []
    boxes = answer.faces.boxes.astype(np.float64)
    for box, score, overlap in zip(boxes, answer.faces.scores.tolist(), overlaps(boxes, answer.truth), strict=True):
        best = int(np.where(free, overlap, -1).argmax())
        if free[best] and overlap[best] >= 0.5:
            free[best] = False
            judged.append((score, True))
        elif box[3] >= least_height and not (overlap[ignored] >= 0.5).any():
            judged.append((score, False))
    return judged


def average_precision(answers: list[Answer], least_height: float) -> tuple[float, int]:
    """Returns the average precision and the number of faces that count."""
    faces = sum(int((~answer.invalid & (answer.truth[:, 3] >= least_height)).sum()) for answer in answers)
    judged = sorted((row for answer in answers for row in judge(answer, least_height)), key=lambda row: -row[0])
    right = np.cumsum([correct for _, correct in judged])
    precision = right / np.arange(1, len(judged) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(right / faces, prepend=0) * envelope).sum()), faces


@pytest.mark.parametrize(("least_height", "faces", "bar"), [(20, 1093, 0.826), (32, 503, 0.910)])
def test_average_precision_is_that_of_the_published_network(
    answers: list[Answer], least_height: int, faces: int, bar: float
) -> None:
    precision, counted = average_precision(answers, least_height)
    print(f"average precision from {least_height} px: {precision:.4f} over {counted} faces")
    assert counted == faces
    assert precision >= bar - 0.003

"""Clips with any number of real faces: photographs of faces set into the cells of a grey picture."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tests.conftest import DATA
from tests.support.videos import write_video
from yunet.detector import load_detector

SIZE = 1920, 1080
COLUMNS, ROWS = 20, 10
CELL = SIZE[0] // COLUMNS, SIZE[1] // ROWS
DETECTOR_WIDTH = 640
SURROUND = 1.35      # side of what is cut out around a face, over its box
LARGE, SURE = 48, 0.85
STEP = 2             # pixels by which the picture moves from frame to frame, so that no two are the same
OPENCV: Any = cv2

Picture = NDArray[np.uint8]


def write_crowd(faces: list[Picture], count: int, frames: int, path: Path) -> Path:
    """Writes a clip in which so many faces stand in different cells, and all move together."""
    whole = compose([faces[index % len(faces)] for index in range(count)])

    def pictures() -> Iterator[Picture]:
        for number in range(frames):
            yield np.roll(whole, STEP * (number % 5), axis=(0, 1))

    return write_video(path, pictures(), fps=25)


def collect(clips: Iterable[Path]) -> list[Picture]:
    """Returns faces (RGB, as large as a cell) that the detector finds in such a grid too.

    They come from frames of clips and, where the test data is there, from photographs.
    """
    detector = load_detector(score=SURE)
    sources = [*clips, *sorted((DATA / "faces" / "dlib").glob("*.jpg"))]
    candidates = [face for source in sources for picture in _pictures(source) for face in _cut(detector, picture)]
    kept: list[Picture] = []
    cells = COLUMNS * ROWS
    for begin in range(0, len(candidates), cells):
        part = candidates[begin:begin + cells]
        found = {_cell(box) for box in _boxes(detector, compose(part))}
        kept += [face for index, face in enumerate(part) if place(index) in found]
    assert kept, "no face can be used"
    return kept


def compose(faces: list[Picture]) -> Picture:
    """Returns a grey picture with each face in a cell of its own."""
    whole = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for index, face in enumerate(faces):
        column, row = place(index)
        y = row * CELL[1] + (CELL[1] - CELL[0]) // 2
        whole[y:y + CELL[0], column * CELL[0]:(column + 1) * CELL[0]] = face
    return whole


def place(index: int) -> tuple[int, int]:
    """Returns column and row of a face's cell; faces that follow one another lie apart."""
    cells = COLUMNS * ROWS
    return divmod(index * 77 % cells, ROWS)      # 77 has no divisor in common with 200


def _pictures(source: Path) -> Iterator[Picture]:
    """Yields a photograph, or a frame of each second of a clip, as RGB."""
    with av.open(str(source)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 25 == 0:
                yield cast(Picture, frame.to_ndarray(format="rgb24"))


def _boxes(detector: Any, picture: Picture) -> NDArray[np.float32]:
    """Returns boxes of faces in pixels of an RGB picture, found at the detector's usual width."""
    scale = min(DETECTOR_WIDTH / picture.shape[1], 1.0)
    small = OPENCV.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return detector.detect([np.ascontiguousarray(small[:, :, ::-1].transpose(2, 0, 1))])[0].boxes / scale


def _cut(detector: Any, picture: Picture) -> Iterator[Picture]:
    for x, y, width, height in _boxes(detector, picture).tolist():
        side = SURROUND * math.sqrt(width * height)
        left, top = round(x + width / 2 - side / 2), round(y + height / 2 - side / 2)
        right, bottom = left + round(side), top + round(side)
        if min(width, height) >= LARGE and left >= 0 and top >= 0 and right <= picture.shape[1] \
                and bottom <= picture.shape[0]:
            yield OPENCV.resize(picture[top:bottom, left:right], (CELL[0], CELL[0]), interpolation=cv2.INTER_AREA)


def _cell(box: NDArray[np.float32]) -> tuple[int, int]:
    return int((box[0] + box[2] / 2) // CELL[0]), int((box[1] + box[3] / 2) // CELL[1])

"""Follows faces from one frame to the next: each is searched in a small window around where it was."""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from emotiond.picture import DetectorView
from emotiond.tracker import MATCH_IOU, iou
from yunet.decode import STRIDES, suppress
from yunet.detector import NMS_IOU, Faces

MARGIN = 2.0
"""Least side of a window over the longer side of its face; docs/configuration.md has what it leads to."""

LARGEST = 64.0
"""Pixels of a face in its window at most: of larger ones every second pixel, or fourth, does."""

STILL = 0.15
"""A larger face whose box moved by less of its side stays where it was: its window is too coarse to tell."""

KEEP = 0.6
"""Share of the detector's least score that is enough for a face to be followed."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a detector's view.

    Attributes:
        planes: (3, h, w) uint8, as of the view, or one pixel of 2x2, 4x4, ... of it.
        scale: size of a pixel of `planes` in pixels of the view: x, y.
        offset: where `planes` begins in the view: x, y.
        shrunk: whether a pixel of `planes` is several of the view.
    """

    planes: NDArray[np.uint8]
    scale: tuple[float, float]
    offset: tuple[int, int]
    shrunk: bool


def window_around(view: DetectorView, box: NDArray[np.float32]) -> Window:
    """Cuts the window in which a face is searched.

    It begins at multiples of the detector's coarsest stride, so that the network sees its pixels as in the whole.

    Args:
        view: the whole view.
        box: (4,) x, y, width, height in its pixels.
    """
    x, y, width, height = box.tolist()
    shrink = 1
    while (width * height) ** 0.5 / shrink > LARGEST:
        shrink *= 2
    step = STRIDES[-1] * shrink
    side = max(-(-int(MARGIN * max(width, height)) // step) * step + step, 3 * step)
    rows, columns = (
        _span(centre, side, step, size)
        for centre, size in ((y + height / 2, view.planes.shape[1]), (x + width / 2, view.planes.shape[2])))
    planes = view.planes[:, rows, columns]
    if shrink > 1:
        size = (max(planes.shape[2] // shrink, 1), max(planes.shape[1] // shrink, 1))
        planes = np.stack([cast(NDArray[np.uint8], cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
                           for plane in planes])
    scale = ((columns.stop - columns.start) / planes.shape[2], (rows.stop - rows.start) / planes.shape[1])
    return Window(planes, scale, (columns.start, rows.start), shrink > 1)


def _span(centre: float, side: int, step: int, size: int) -> slice:
    """Returns the pixels of a window of this side along one axis of a view of this size."""
    start = min(max(round((centre - side / 2) / step) * step, 0), max((size - 1) // step * step, 0))
    return slice(start, min(start + side, size))


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of the faces that were followed.

    Attributes:
        faces: those that were found again, best first, in pixels of the view.
        lost: (N, 4) the boxes in which nothing was.
        origins: which of the boxes before each face was, and then each lost box. Of two that came upon one face it is
            the nearer one.
    """

    faces: Faces
    lost: NDArray[np.float32]
    origins: NDArray[np.intp]


def match(windows: list[Window], found: list[Faces], before: NDArray[np.float32]) -> Followed:
    """Takes from each window the face that lies best on the box it was cut around.

    Args:
        windows: one for each box.
        found: what the detector found in them.
        before: (N, 4) the boxes, in pixels of the view.
    """
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    origins, lost = list[int](), list[int]()
    for index, (window, faces, box) in enumerate(zip(windows, found, before, strict=True)):
        here = faces.boxes * np.tile(np.array(window.scale, np.float32), 2)
        here[:, :2] += np.array(window.offset, np.float32)
        overlaps = iou(here, box[None])[:, 0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < MATCH_IOU:
            lost.append(index)
            continue
        origins.append(index)
        boxes.append(box[None] if window.shrunk and _is_still(here[best], box) else here[best][None])
        scores.append(faces.scores[best][None])
    all_boxes, all_scores = np.concatenate(boxes), np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    kept = order[suppress(all_boxes[order], NMS_IOU, len(order))]      # two boxes may have come upon one face
    came_from = np.array(origins, np.intp)
    if len(kept) < len(order):
        owner = (iou(all_boxes, all_boxes[kept]) > NMS_IOU).argmax(axis=1)       # which kept box each of them is now
        owner[kept] = np.arange(len(kept))
        near = iou(before[came_from], all_boxes[kept])
        came_from = came_from[[max(np.flatnonzero(owner == index), key=lambda one, index=index: near[one, index])
                               for index in range(len(kept))]]
    else:
        came_from = came_from[kept]
    return Followed(Faces(all_boxes[kept], all_scores[kept]), before[lost].reshape(-1, 4),
                    np.concatenate((came_from, np.array(lost, np.intp))))


def _is_still(box: NDArray[np.float32], before: NDArray[np.float32]) -> bool:
    change = box - before
    change[:2] += change[2:] / 2      # of the centre
    return float(np.abs(change).max()) < STILL * float(np.sqrt(before[2] * before[3]))

"""From YuNet's raw output to boxes: decoding and non-maximum suppression, vectorised in numpy."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)
"""Pixels between neighbouring anchors of each level; pictures are padded to multiples of the last."""
CHANNELS = 6
"""Rows of the raw output: logit of the class, logit of the objectness, dx, dy, log width, log height."""

LARGEST_LOG_SIZE = 5.0
"""148 strides, over 1,000 pixels at any level: keeps wild values finite and touches no real box."""

Floats = NDArray[np.float32]


@lru_cache(maxsize=16)
def anchors(height: int, width: int) -> Floats:
    """Returns x, y, stride of every anchor in pixels, (3, A), in the order of the raw output; read only.

    Args:
        height: of the padded picture, a multiple of 32.
        width: likewise.
    """
    levels: list[Floats] = []
    for stride in STRIDES:
        y, x = np.mgrid[0:height:stride, 0:width:stride].astype(np.float32)
        levels.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride, np.float32)]))
    grid = np.concatenate(levels, axis=1)
    grid.flags.writeable = False
    return grid


def decode(raw: Floats, grid: Floats, score: float) -> tuple[Floats, Floats]:
    """Decodes the anchors that look like a face.

    Args:
        raw: (6, A) output of the network for one picture.
        grid: its `anchors`.
        score: what scores less is left out; above 0 and below 1. A score is sqrt(class * objectness), a box lies
            about anchor + (dx, dy) * stride with sides exp(log size) * stride (https://doi.org/10.1007/s11633-023-1423-y).

    Returns:
        Boxes (N, 4) as x, y, width, height in pixels and scores (N,), best first.
    """
    # class and objectness are at most 1, so each of them is at least score^2 in what is sought
    floor = math.log(score**2 / (1 - score**2))
    chosen = np.flatnonzero((raw[0] >= floor) & (raw[1] >= floor))
    if not chosen.size:
        return np.empty((0, 4), np.float32), np.empty(0, np.float32)
    values, at = raw[:, chosen], grid[:, chosen]
    scores = 1 / np.sqrt((1 + np.exp(-values[0])) * (1 + np.exp(-values[1])))
    best_first = np.argsort(-scores, kind="stable")[:np.count_nonzero(scores >= score)]
    values, at, scores = values[:, best_first], at[:, best_first], scores[best_first]
    centre = at[:2] + values[2:4] * at[2]
    size = np.exp(np.minimum(values[4:6], LARGEST_LOG_SIZE)) * at[2]
    return np.concatenate([centre - size / 2, size]).T, scores


def suppress(boxes: Floats, iou: float, most: int) -> NDArray[np.intp]:
    """Greedy non-maximum suppression: a box goes when a better one that stays overlaps it by more than `iou`.

    Args:
        boxes: (N, 4) x, y, width, height, best first.
        iou: intersection over union above which two boxes are one face.
        most: stop after so many.

    Returns:
        Indices of the boxes that stay, best first.
    """
    x0, y0, width, height = boxes.T
    x1, y1, area = x0 + width, y0 + height, width * height
    left = np.arange(len(boxes))
    kept: list[int] = []
    while left.size and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        shared = (np.minimum(x1[best], x1[left]) - np.maximum(x0[best], x0[left])).clip(0)
        shared *= (np.minimum(y1[best], y1[left]) - np.maximum(y0[best], y0[left])).clip(0)
        left = left[shared <= iou * (area[best] + area[left] - shared)]
    return np.array(kept, np.intp)

"""From a grey picture and a face box to EmotionNet's input: one way for training and daemon alike."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
"""A picture of full-range luma, (H, W), 0..255."""

FACE_MARGIN, FACE_SHIFT_Y = 1.08, -0.01
"""How FER2013's crops lie on the boxes of the YuNet detector, so that the daemon's crops look like the training's.

Medians over 1,500 training pictures set into grey frames, less the bias that the empty surround gives the boxes
(`emotiontrain.evaluation.geometry` measures both); single pictures lie about 0.08 and 0.03 to either side.
"""

MARGINS, SHIFTS = (0.2, 5.0), (-1.0, 1.0)
"""Least and most of `InputSpec.margin` and `InputSpec.shift_y`."""


@dataclass(frozen=True)
class InputSpec:
    """What a set of weights expects; it stands in the JSON beside them.

    Attributes:
        side: side of the square input in pixels; a multiple of 32.
        mean: subtracted after scaling to 0..1.
        std: divided by, after `mean`.
        margin: side of the crop over the geometric mean of the face box's sides.
        shift_y: how far the crop's centre lies below the box's centre, as a fraction of the crop's side.

    Raises:
        ValueError: a value outside what the network or the crop can work with.
    """

    side: int = 96
    mean: float = 0.5077
    std: float = 0.2550
    margin: float = FACE_MARGIN
    shift_y: float = FACE_SHIFT_Y

    def __post_init__(self) -> None:
        """Checks the values, which may come from a file."""
        if not isinstance(self.side, int) or self.side < 32 or self.side % 32:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"the input's side is {self.side}, not a multiple of 32")
        if not (0 <= self.mean <= 1 and 0 < self.std <= 1 and MARGINS[0] <= self.margin <= MARGINS[1]
                and SHIFTS[0] <= self.shift_y <= SHIFTS[1]):
            raise ValueError(f"the input's mean {self.mean}, std {self.std}, margin {self.margin} or shift_y "
                             f"{self.shift_y} is out of range (0..1, 0..1, 0.2..5, -1..1)")


def crop_square(luma: Grey, box: tuple[float, float, float, float], spec: InputSpec) -> Grey:
    """Cuts the square around a face out of a luma plane and scales it.

    The square may reach over the picture's edge, where the edge's pixels are repeated.

    Args:
        luma: (H, W) full-range luma.
        box: x, y, width, height of the face in pixels of `luma`.
        spec: side, margin and shift.

    Returns:
        (side, side) uint8.
    """
    x, y, width, height = box
    side = max(spec.margin * float(np.sqrt(width * height)), 2.0)
    left = x + width / 2 - side / 2
    top = y + height / 2 - side / 2 + spec.shift_y * side
    x0, y0 = round(left), round(top)
    x1, y1 = max(round(left + side), x0 + 1), max(round(top + side), y0 + 1)
    picture_height, picture_width = luma.shape
    inner = luma[max(y0, 0):min(y1, picture_height), max(x0, 0):min(x1, picture_width)]
    if inner.size == 0:
        return np.zeros((spec.side, spec.side), np.uint8)
    if inner.shape != (y1 - y0, x1 - x0):
        inner = np.asarray(cv2.copyMakeBorder(
            inner, max(-y0, 0), max(y1 - picture_height, 0), max(-x0, 0), max(x1 - picture_width, 0),
            cv2.BORDER_REPLICATE), np.uint8)
    return resize(inner, spec.side)


def resize(picture: Grey, side: int) -> Grey:
    """Scales (H, W) to (side, side): by area where it shrinks, bilinear where it grows."""
    if picture.shape == (side, side):
        return picture
    shrinks = picture.shape[0] > side and picture.shape[1] > side
    return np.asarray(
        cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def normalize(crops: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Turns crops (B, side, side), 0..255, into the network's input (B, 3, side, side), grey in all channels."""
    grey = (crops.astype(np.float32) * np.float32(1 / 255) - np.float32(spec.mean)) * np.float32(1 / spec.std)
    return np.ascontiguousarray(np.broadcast_to(grey[:, None], (len(grey), 3, *grey.shape[1:])))


def expand_range(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turns limited-range luma (black 16, white 235, ITU-R BT.709) into full range, any shape."""
    return np.take(_FULL_RANGE, crops)      # twice as fast as an index


_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)

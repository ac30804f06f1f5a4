"""What the frame path asks of OpenCV, done by Pillow, for interpreters that OpenCV has no wheel for."""

from typing import Any

import numpy as np
from PIL import Image

ROTATE_90_COUNTERCLOCKWISE, ROTATE_180, ROTATE_90_CLOCKWISE = 1, 2, 3
BORDER_REPLICATE = 1
INTER_LINEAR, INTER_AREA = Image.Resampling.BILINEAR, Image.Resampling.BOX


def rotate(pixels: Any, turns: int) -> Any:
    """Turns by quarters."""
    return np.rot90(pixels, turns)


def copyMakeBorder(pixels: Any, top: int, bottom: int, left: int, right: int, kind: int) -> Any:
    """Repeats the edge."""
    return np.pad(pixels, ((top, bottom), (left, right)), "edge")


def resize(pixels: Any, size: tuple[int, int], interpolation: Image.Resampling) -> Any:
    """Scales grey pixels."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, interpolation))

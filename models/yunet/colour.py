"""What the planes of a picture are, and how the network's first layer takes them as they are.

A decoder gives luma and chroma, the network was trained on B, G and R. Its first layer is linear, and so is what lies
between the two (ITU-R BT.601 and BT.709), so that the two matrices become one: no picture is ever converted.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Colour(Enum):
    """What three planes of 0..255 are: B, G, R, or Y, U, V of limited range (black 16, white 235) with that matrix."""

    BGR = "bgr"
    YUV_601 = "yuv601"
    YUV_709 = "yuv709"

    @property
    def black(self) -> tuple[int, int, int]:
        """A black pixel."""
        return (0, 0, 0) if self is Colour.BGR else (16, 128, 128)

    @property
    def to_bgr(self) -> NDArray[np.float64]:
        """(3, 3): times a pixel less `black`, it is B, G, R of 0..255."""
        if self is Colour.BGR:
            return np.eye(3)
        red, blue = (0.299, 0.114) if self is Colour.YUV_601 else (0.2126, 0.0722)
        green = 1 - red - blue
        from_full_range = np.array([
            [1, 2 * (1 - blue), 0],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 0, 2 * (1 - red)]])
        return from_full_range * np.array([255 / 219, 255 / 224, 255 / 224])


def first_layer(weight: Floats, bias: Floats, colour: Colour) -> tuple[Floats, Floats]:
    """Turns the first layer for B, G, R, weight (C, 3, k, k) and bias (C,), into the one for `colour`."""
    own = np.einsum("ockl,cd->odkl", weight.astype(np.float64), colour.to_bgr)
    offset = np.einsum("odkl,d->o", own, np.array(colour.black, np.float64))
    return own.astype(np.float32), (bias - offset).astype(np.float32)

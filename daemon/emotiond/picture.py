"""A decoded picture, and the two views of it that the networks need: small YUV planes and full-size luma."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from emotiond.config_values import Rectangle
from yunet.colour import Colour

WHOLE: Rectangle = (0.0, 0.0, 1.0, 1.0)

_LUMA_FIRST = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv440p", "yuvj", "nv12", "nv21", "nv16", "gray")
_LIMITED_RANGE, _FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
_BT_709 = 1                         # AVCOL_SPC_BT709; anything else is taken for BT.601, as libswscale does
_SCALERS_KEPT = 32
_UNSPECIFIED, _SMPTE_170M = 2, 6    # AVCOL_SPC_...; the latter is BT.601 by another name
_MATRICES = {_BT_709: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
_AREA = Interpolation.AREA
_ROUNDED_ALIKE = _AREA | Interpolation.BITEXACT     # on every processor; colours would come out up to eight levels off
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
TALLEST = 4


@dataclass(frozen=True, slots=True)
class DetectorView:
    """The analysed part of a picture, scaled for the detector.

    Attributes:
        planes: (3, h, w) uint8, planes Y, U, V of limited range.
        colour: with which matrix.
        scale: size of a pixel of `planes` in pixels of the displayed picture: x, y.
        offset: where `planes` begins in the displayed picture, in its pixels: x, y.
    """

    planes: NDArray[np.uint8]
    colour: Colour
    scale: tuple[float, float]
    offset: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ColourTags:
    """What a video says of its colours, in FFmpeg's numbers (AVCOL_...); with them a copy looks as the source does.

    Attributes:
        matrix: from R, G, B to Y, U, V.
        primaries: what its R, G and B are.
        transfer: its gamma.
    """

    matrix: int
    primaries: int
    transfer: int

    @property
    def coefficients(self) -> Colorspace:
        """The matrix as libswscale calls it."""
        return _MATRICES.get(self.matrix, Colorspace.ITU601)


@dataclass(frozen=True, slots=True)
class Luma:
    """(H, W) uint8 of the displayed picture; `limited` where black is 16 and white 235."""

    plane: NDArray[np.uint8]
    limited: bool


class Picture:
    """A picture as displayed: turned upright, with square pixels.

    Mirroring, which a few EXIF orientations ask for, is not known from FFmpeg and not done.

    Attributes:
        frame: as decoded.
        quarter_turns: counterclockwise, from `frame` to what is displayed.
        upright: width and height of `frame` with square pixels, before it is turned.
        width: pixels as displayed.
        height: pixels as displayed.
    """

    __slots__ = ("frame", "height", "quarter_turns", "upright", "width")

    def __init__(self, frame: VideoFrame, pixel_aspect: Fraction | None = None) -> None:
        self.frame = frame
        self.quarter_turns = round(frame.rotation / 90) % 4
        self.upright = (_even_aspect(frame.width, pixel_aspect), frame.height)
        self.width, self.height = self.upright if self.quarter_turns % 2 == 0 else self.upright[::-1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        return self.width, self.height

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(plane.buffer_size for plane in self.frame.planes)

    def detector_view(
        self, scalers: "Scalers", width: int, region: Rectangle = WHOLE, masks: tuple[Rectangle, ...] = ()
    ) -> DetectorView:
        """Scales `region` down to `width` pixels (never up) and blackens `masks`.

        A region more than TALLEST times as high as wide becomes narrower, so that no picture costs without limit.
        """
        left, top, right, bottom = region
        size = scaled_size(self.upright, (self.width, self.height), region, width)
        planes = self._turn(_yuv(self.frame, scalers, size))
        _, h, w = planes.shape
        colour = self.colour
        for mask in masks:
            masked = planes[:, span(mask[1], mask[3], h), span(mask[0], mask[2], w)]
            masked[:] = np.array(colour.black, np.uint8)[:, None, None]
        rows, columns = span(top, bottom, h), span(left, right, w)
        scale = (self.width / w, self.height / h)
        return DetectorView(planes[:, rows, columns], colour, scale, (columns.start * scale[0], rows.start * scale[1]))

    def luma(self, scalers: "Scalers", masks: tuple[Rectangle, ...] = ()) -> Luma:
        """Returns luma without a copy where the decoder's first plane is it; otherwise converted to full range."""
        frame = self.frame
        name = frame.format.name
        if name.startswith(_LUMA_FIRST) and not name.endswith(("le", "be")) and self.upright[0] == frame.width:
            stored = view_plane(frame.planes[0], frame.width, frame.height)
            full = self.is_full_range
        else:
            stored, full = scalers.scale(frame, self.upright, "gray")[0], True
        turned = self._turn(stored[None])[0]
        if masks:
            turned = turned.copy()
            for mask in masks:
                turned[span(mask[1], mask[3], self.height), span(mask[0], mask[2], self.width)] = 0
        return Luma(turned, not full)

    @property
    def colour(self) -> Colour:
        """What its planes are once they have limited range."""
        is_709 = self.frame.colorspace == _BT_709 and not self.frame.format.is_rgb
        return Colour.YUV_709 if is_709 else Colour.YUV_601

    @property
    def is_full_range(self) -> bool:
        """Whether the luma of `frame` goes from 0 to 255, not from 16 to 235."""
        name, tagged = self.frame.format.name, self.frame.color_range
        return (tagged == _FULL_RANGE or name.startswith("yuvj")
                or (name.startswith("gray") and tagged != _LIMITED_RANGE))

    @property
    def colour_tags(self) -> ColourTags:
        """Those that a copy in Y, U, V should have."""
        frame = self.frame
        known = frame.colorspace in _MATRICES or frame.colorspace in (_UNSPECIFIED, _SMPTE_170M, 5)
        matrix = _BT_709 if frame.format.is_rgb else frame.colorspace if known else _SMPTE_170M
        return ColourTags(matrix, frame.color_primaries, frame.color_trc)

    def bgr(self, scalers: "Scalers", masks: tuple[Rectangle, ...] = ()) -> NDArray[np.uint8]:
        """Returns a copy for people to look at: (height, width, 3) B, G, R by the picture's own colour matrix."""
        width, height = self.upright
        stored = scalers.scale(self.frame, self.upright, "bgr24").reshape(height, width, 3)
        turn = _TURNS.get(self.quarter_turns)
        turned = stored if turn is None else np.asarray(cv2.rotate(stored, turn), np.uint8)
        for mask in masks:
            turned[span(mask[1], mask[3], self.height), span(mask[0], mask[2], self.width)] = 0
        return turned

    def _turn(self, planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.rot90(planes, self.quarter_turns, axes=(1, 2)) if self.quarter_turns else planes


class Scalers:
    """libswscale contexts by geometry; one object for each thread."""

    def __init__(self) -> None:
        self._reformatters: dict[tuple[object, ...], VideoReformatter] = {}

    def scale(self, frame: VideoFrame, size: tuple[int, int], target: str) -> NDArray[np.uint8]:
        """Scales to `size` (width, height) and converts to `yuv444p` of limited range, to `gray` or to `bgr24`.

        Returns:
            (3, height, width), planes Y, U, V; (1, height, width); or (1, height, width * 3), B, G, R of each pixel.
        """
        out = self._run(frame, size, target)
        samples = out.width * (3 if target == "bgr24" else 1)
        return np.stack([view_plane(plane, samples, out.height) for plane in out.planes])

    def convert(self, frame: VideoFrame) -> VideoFrame:
        """Converts to `yuv420p` of limited range, at the size it has."""
        return self._run(frame, (frame.width, frame.height), "yuv420p")

    def _run(self, frame: VideoFrame, size: tuple[int, int], target: str) -> VideoFrame:
        key = (frame.format.name, frame.width, frame.height, size, target)
        if key not in self._reformatters:
            if len(self._reformatters) >= _SCALERS_KEPT:
                self._reformatters.clear()
            self._reformatters[key] = VideoReformatter()
        limited = {"dst_color_range": ColorRange.MPEG} if target.startswith("yuv") else {}
        how = _AREA if target == "bgr24" else _ROUNDED_ALIKE
        return self._reformatters[key].reformat(frame, *size, target, interpolation=how, threads=1, **limited)


def _yuv(frame: VideoFrame, scalers: Scalers, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns planes Y, U, V of limited range, (3, height, width), at `size` (width, height)."""
    width, height = size
    if ((frame.width, frame.height) != size or width % 2 or height % 2 or frame.format.name != "yuv420p"
            or frame.color_range == _FULL_RANGE):
        return scalers.scale(frame, size, "yuv444p")
    planes = np.empty((3, height, width), np.uint8)
    planes[0] = view_plane(frame.planes[0], width, height)
    for target, plane in zip(planes[1:], frame.planes[1:], strict=True):     # each pixel becomes four, which is
        pairs = view_plane(plane, width // 2, height // 2) * np.uint16(0x0101)     # several times as fast as scaling
        target[0::2] = target[1::2] = pairs.view(np.uint8)
    return planes


def view_plane(plane: VideoPlane, width: int, height: int) -> NDArray[np.uint8]:
    """Returns a plane's pixels (height, width) without a copy; the view keeps the plane alive."""
    return np.frombuffer(cast(memoryview, plane), np.uint8).reshape(-1, plane.line_size)[:height, :width]


def _even_aspect(width: int, pixel_aspect: Fraction | None) -> int:
    if not pixel_aspect or not Fraction(1, 10) < pixel_aspect < 10:
        return width
    return round(width * pixel_aspect)


def scaled_size(
    upright: tuple[int, int], displayed: tuple[int, int], region: Rectangle, width: int
) -> tuple[int, int]:
    """Returns what a picture is scaled to, before it is turned, for `region` to be `width` pixels wide at most.

    Sizes are width, height. Nothing is scaled up, and no picture gets more than TALLEST * width^2 pixels.
    """
    left, top, right, bottom = region
    region_width, region_height = (right - left) * displayed[0], (bottom - top) * displayed[1]
    most = math.sqrt(TALLEST * width * width / (region_width * region_height))
    factor = min(1.0, width / region_width, most)
    return max(round(upright[0] * factor), 32), max(round(upright[1] * factor), 32)


def span(begin: float, end: float, size: int) -> slice:
    """Returns the pixels between two fractions of a side of so many, at least one."""
    start = min(round(begin * size), size - 1)
    return slice(start, max(round(end * size), start + 1))

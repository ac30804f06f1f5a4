"""What frames have in common that are analysed in one batch, and how pixels of one kind map to those of another."""

import math
from dataclasses import dataclass

from emotiond.config_values import Rectangle
from emotiond.device.surface import Surface
from emotiond.picture import scaled_size, span
from yunet.colour import Colour
from yunet.decode import STRIDES


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is the same for all frames of a batch.

    Attributes:
        stored: height and width of the luma plane as decoded.
        upright: height and width with square pixels, before turning.
        turns: quarter turns counterclockwise until it is as displayed.
        colour: which matrix made its chroma.
        full_range: whether luma goes from 0 to 255, not from 16 to 235.
        region: the part that is searched, in fractions of the displayed picture: left, top, right, bottom.
        width: most pixels that the detector sees of it.
    """

    stored: tuple[int, int]
    upright: tuple[int, int]
    turns: int
    colour: Colour
    full_range: bool
    region: Rectangle
    width: int

    @classmethod
    def of(cls, surface: Surface, region: Rectangle, width: int) -> "Geometry":
        """Returns a picture's; `region` is its stream's, `width` the detector's."""
        picture = surface.picture
        upright_width, upright_height = picture.upright
        return cls((picture.frame.height, picture.frame.width), (upright_height, upright_width), picture.quarter_turns,
                   picture.colour, surface.full_range, region, width)

    @property
    def displayed(self) -> tuple[int, int]:
        """Height and width as displayed."""
        height, width = self.upright
        return (height, width) if self.turns % 2 == 0 else (width, height)

    @property
    def chroma(self) -> tuple[int, int]:
        """Height and width of the chroma planes as decoded (4:2:0)."""
        return -(-self.stored[0] // 2), -(-self.stored[1] // 2)

    @property
    def view(self) -> "View":
        """How the detector sees it."""
        (upright_height, upright_width), (displayed_height, displayed_width) = self.upright, self.displayed
        width, height = scaled_size((upright_width, upright_height), (displayed_width, displayed_height), self.region,
                                    self.width)
        shown_height, shown_width = (height, width) if self.turns % 2 == 0 else (width, height)
        left, top, right, bottom = self.region
        rows, columns = span(top, bottom, shown_height), span(left, right, shown_width)
        scale = (displayed_width / shown_width, displayed_height / shown_height)
        return View((height, width), rows, columns, scale, (columns.start * scale[0], rows.start * scale[1]))

    def stored_part(self, part: Rectangle) -> Rectangle:
        """Turns a part of the displayed picture, in fractions, into one of the decoded planes."""
        left, top, right, bottom = part
        return {0: part, 1: (1 - bottom, left, 1 - top, right), 2: (1 - right, 1 - bottom, 1 - left, 1 - top),
                3: (top, 1 - right, bottom, 1 - left)}[self.turns]


@dataclass(frozen=True, slots=True)
class View:
    """The analysed part, scaled for the detector, as in `picture.DetectorView`.

    Attributes:
        upright: height and width that the whole picture is scaled to, before it is turned.
        rows: of the turned picture that are searched.
        columns: likewise.
        scale: size of a pixel in pixels of the displayed picture: x, y.
        offset: where it begins in the displayed picture: x, y.
    """

    upright: tuple[int, int]
    rows: slice
    columns: slice
    scale: tuple[float, float]
    offset: tuple[float, float]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width rounded up to what the detector takes."""
        height, width = (math.ceil(side / STRIDES[-1]) * STRIDES[-1] for side in self.size)
        return height, width

"""A source's pictures with their faces drawn in: a video with a strip of the last seconds below it, or a picture."""

import contextlib
from collections.abc import Generator, Iterable
from pathlib import Path

import cv2
import numpy as np

from emotiond.draw import Pixels, blur_box, draw_faces, text_size
from emotiond.errors import CommandError
from emotiond.events import Box, FrameEvent
from emotiond.frames import Frame
from emotiond.hiding import HidingSearch
from emotiond.outputs.files import discarding, writing
from emotiond.outputs.strip import Strip
from emotiond.outputs.veil import Veil, Veiled
from emotiond.outputs.video import LARGEST, VideoFile
from emotiond.picture import Scalers

JPEG_QUALITY = 92


class AnnotatedPicture:
    """The annotated copy of a picture."""

    def __init__(self, path: Path, search: HidingSearch | None) -> None:
        """Prepares it.

        Args:
            path: of the copy; its end says the format.
            search: finds what else than the event's faces is hidden; None where nothing is.
        """
        self._path, self._search = path, search
        self._scalers = Scalers()

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Writes it."""
        hidden = [*(face.box for face in event.faces), *self._search.find(frame.picture)] if self._search else []
        pixels = _draw(event, frame, hidden, self._scalers)
        coded, content = cv2.imencode(self._path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not coded:
            height, width = pixels.shape[:2]
            raise CommandError(f"{self._path}: a picture of {width} x {height} pixels is too large for "
                               f"{self._path.suffix}; name a .png, or give a smaller picture")
        with discarding(self._path):
            self._path.write_bytes(content.tobytes())

    def close(self) -> None:
        """All is written."""


class AnnotatedVideo:
    """The annotated copy of a video: every analysed frame, with faces or without, at its own time."""

    def __init__(self, path: Path, search: HidingSearch | None) -> None:
        """Prepares it; arguments as for a picture."""
        self._path, self._search = path, search
        self._veil = Veil() if search else None
        self._scalers = Scalers()
        self._reel: _Reel | None = None

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Writes a frame; one that is to be blurred, when it is known where."""
        with self._all_or_nothing():
            if self._veil and self._search:
                self._write(self._veil.take(event, frame, self._search.find(frame.picture)))
            else:
                self._write([(event, frame, [])])

    def close(self) -> None:
        """Writes what is left, and what makes the file a whole."""
        with self._all_or_nothing():
            if self._veil:
                self._write(self._veil.rest())
            if self._reel:
                self._reel.file.close()

    def _write(self, frames: Iterable[Veiled]) -> None:
        for event, frame, hidden in frames:
            pixels = _draw(event, frame, hidden, self._scalers)
            if self._reel is None:
                self._reel = _Reel(self._path, pixels, frame)
            self._reel.write(pixels, event, frame)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Generator[None]:
        """Takes the file away where it cannot be written to its end: it would be no video."""
        try:
            with writing(self._path):
                yield
        except CommandError:
            if self._reel:
                self._reel.file.discard()
            self._veil, self._reel = None, None
            raise


class _Reel:
    """A video that has begun: the picture above, the strip below, in the size of the first picture.

    The size becomes even, since H.264's colours have half of it.
    """

    def __init__(self, path: Path, pixels: Pixels, frame: Frame) -> None:
        height, width = pixels.shape[:2]
        width += width % 2
        self._strip = Strip(width, text_size(pixels), odd=height % 2 == 1)
        if max(width, height + self._strip.height) > LARGEST:
            raise CommandError(f"{path}: pictures of {width} x {height} pixels with their strip are more than the "
                               f"{LARGEST} that H.264 has in a row or column; leave --annotate out, or scale the video")
        self._canvas = np.zeros((height + self._strip.height, width, 3), np.uint8)
        self._begin_us = frame.captured_us
        self.file = VideoFile(path, width, len(self._canvas), frame.picture.colour_tags)

    def write(self, pixels: Pixels, event: FrameEvent, frame: Frame) -> None:
        at_us = max(frame.captured_us - self._begin_us, 0)
        self._strip.add(at_us, event.faces)
        rows = len(self._canvas) - self._strip.height
        _place(pixels, self._canvas[:rows])
        self._canvas[rows:] = self._strip.draw(at_us, event.frame)
        self.file.write(self._canvas, frame.captured_us)


def _draw(event: FrameEvent, frame: Frame, hidden: Iterable[Box], scalers: Scalers) -> Pixels:
    """Returns a frame's picture with all that is to be seen in it."""
    pixels = frame.picture.bgr(scalers)
    for box in hidden:
        blur_box(pixels, box)
    draw_faces(pixels, event.faces)
    return pixels


def _place(pixels: Pixels, canvas: Pixels) -> None:
    """Lays a picture over a canvas that is as large, or a column wider; one of another size is fitted in."""
    (height, width), (rows, columns) = pixels.shape[:2], canvas.shape[:2]
    if height != rows or columns - width not in (0, 1):
        factor = min(rows / height, columns / width)
        width, height = max(round(width * factor), 1), max(round(height * factor), 1)
        canvas[:] = 0
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    canvas[:height, :width] = pixels
    if columns - width == 1:
        canvas[:height, width] = pixels[:, -1]

"""The live page's pictures: the last frame of a stream with its boxes, and nobody to be recognised in it."""

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from emotiond.config_values import Rectangle
from emotiond.draw import Pixels, blur_box, draw_faces
from emotiond.hiding import HidingSearch
from emotiond.live.board import Board, Shown
from emotiond.picture import Scalers

WIDTH = 640             # pixels of a picture, at most
QUALITY = 80            # of its JPEG


@dataclass(frozen=True, slots=True)
class _Drawn:
    shown: Shown
    masks: tuple[Rectangle, ...]
    jpeg: bytes


class Preview:
    """Draws pictures when they are asked for; for any thread."""

    def __init__(self, board: Board, *, blur: bool) -> None:
        """Loads nothing yet.

        Args:
            board: has the last frames.
            blur: whether faces are hidden.
        """
        self._board, self._blur = board, blur
        self._scalers = Scalers()
        self._search = HidingSearch()
        self._drawn: dict[str, _Drawn] = {}
        self._lock = threading.Lock()

    def jpeg(self, stream: str) -> bytes | None:
        """Returns the picture of a stream's last frame, at most WIDTH wide; None where there is none to be shown."""
        with self._lock:
            for gone in self._drawn.keys() - self._board.names():
                del self._drawn[gone]
            shown, present = self._board.shown(stream), self._board.masks(stream)
            if shown is None or present is None:
                return None
            masks = shown.masks + tuple(mask for mask in present if mask not in shown.masks)
            drawn = self._drawn.get(stream)
            if drawn is None or drawn.shown is not shown or drawn.masks != masks:
                drawn = self._drawn[stream] = _Drawn(shown, masks, self._draw(shown, masks))
            return drawn.jpeg

    def _draw(self, shown: Shown, masks: tuple[Rectangle, ...]) -> bytes:
        pixels, scale = shown.picture.bgr(self._scalers, masks), min(1.0, WIDTH / shown.picture.width)
        if scale < 1:
            size = WIDTH, max(round(shown.picture.height * scale), 1)
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        if self._blur:
            self._hide(pixels, scale, shown)
        draw_faces(pixels, shown.event.faces, scale)
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()

    def _hide(self, pixels: Pixels, scale: float, shown: Shown) -> None:
        """Hides the faces of the frame and of the moment before, and whatever else may be one."""
        for box in (*shown.boxes, *self._search.find(shown.picture)):
            blur_box(pixels, box, scale)

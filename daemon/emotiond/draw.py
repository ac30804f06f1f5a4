"""Draws faces into a picture, and hides them: boxes and labels in the emotions' colours, and a blur."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emotiond.events import Box, Face
from emotiond.palette import colour_of, ink_on, shown_emotion, to_rgb

Pixels = NDArray[np.uint8]
"""(H, W, 3) B, G, R."""

BLUR_MARGIN = 0.3   # of a box's width and height, hidden on each side of it: hair, ears and chin
BLUR_CELLS = 6      # a hidden part is averaged down to so many squares across, of which the face itself has about four
_WEIGHT = 600       # of letters
_DASH = 4           # of an unsure face's box, in widths of its line

_font = cv2.FontFace("sans")


def draw_faces(picture: Pixels, faces: Sequence[Face], scale: float = 1.0) -> None:
    """Draws a box around each face and a label at it: track id, smoothed emotion and confidence.

    A face that abstained is unsure: its box is grey and dashed, and its label has a question mark. Labels stay in the
    picture and never cover one another; where there is no room, the smaller face goes with a shorter one, or none.

    Args:
        picture: is drawn into.
        faces: of its event.
        scale: pixels of `picture` for one of the boxes, where it is a reduced copy.
    """
    size = text_size(picture)
    line = max(round(size / 8), 2)
    near_first = sorted(faces, key=lambda face: -face.box.width * face.box.height)
    areas = [_Area.of(face.box, scale) for face in near_first]
    for face, area in zip(reversed(near_first), reversed(areas), strict=True):
        _draw_box(picture, area, shown_emotion(face), line)
    room = _Room(picture, areas)
    for face, area in zip(near_first, areas, strict=True):
        _draw_label(picture, face, area, size, line, room)


def blur_faces(picture: Pixels, faces: Iterable[Face], scale: float = 1.0) -> None:
    """Hides each face and what is around it; arguments as for `draw_faces`."""
    for face in faces:
        blur_box(picture, face.box, scale)


def blur_box(picture: Pixels, box: Box, scale: float = 1.0) -> None:
    """Hides what is in a box and around it: an ellipse of a few averages, from which nothing can be made out again."""
    area = _Area.of(box, scale)
    half_width, half_height = (0.5 + BLUR_MARGIN) * area.width, (0.5 + BLUR_MARGIN) * area.height
    centre_x, centre_y = area.left + area.width / 2, area.top + area.height / 2
    left, top = max(math.floor(centre_x - half_width), 0), max(math.floor(centre_y - half_height), 0)
    hidden = picture[top:math.ceil(centre_y + half_height) + 1, left:math.ceil(centre_x + half_width) + 1]
    height, width = hidden.shape[:2]
    if not width or not height:
        return
    side = max(2 * half_width, 2 * half_height) / BLUR_CELLS
    cells = cv2.resize(hidden, (math.ceil(width / side), math.ceil(height / side)), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    centre = round(centre_x) - left, round(centre_y) - top
    cv2.ellipse(mask, centre, (math.ceil(half_width), math.ceil(half_height)), 0, 0, 360, 255, cv2.FILLED)
    cv2.copyTo(smooth, mask, hidden)


def text_size(picture: Pixels) -> int:
    """Returns the height of letters that suits a picture, in pixels: 15 at 360 lines, 25 at 1080."""
    return round(10 + min(picture.shape[:2]) / 72)


def measure(text: str, size: int) -> int:
    """Returns how wide a text comes out, in pixels."""
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font, size, _WEIGHT)
    return int(width)


def write(picture: Pixels, text: str, left: int, base: int, size: int, colour: str) -> None:
    """Writes a line whose letters stand on row `base`."""
    cv2.putText(picture, text, (left, base), bgr(colour), _font, size, _WEIGHT)


def bgr(colour: str) -> tuple[int, int, int]:
    """Returns B, G, R of `#rrggbb`."""
    red, green, blue = to_rgb(colour)
    return blue, green, red


@dataclass(frozen=True, slots=True)
class _Area:
    """Pixels of the picture that is drawn into."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(cls, box: Box, scale: float) -> "_Area":
        left, top = round(box.x * scale), round(box.y * scale)
        return cls(left, top, max(round((box.x + box.width) * scale) - left, 1),
                   max(round((box.y + box.height) * scale) - top, 1))

    @property
    def right(self) -> int:
        return self.left + self.width - 1

    @property
    def bottom(self) -> int:
        return self.top + self.height - 1


class _Room:
    """Knows where a label may go without covering another, and best without covering another face."""

    def __init__(self, picture: Pixels, areas: Sequence[_Area]) -> None:
        self._height, self._width = picture.shape[:2]
        self._faces = np.array([_edges(area) for area in areas], np.int64).reshape(-1, 4)
        self._labels = np.empty_like(self._faces)
        self._count = 0

    def take(self, area: _Area, width: int, height: int, rim: int) -> _Area | None:
        """Finds and takes a place for the label of a face: above its box, below it, or in it; None where there is none.

        Args:
            area: the box.
            width: of the label.
            height: of the label.
            rim: between a label beside the box and its edge.
        """
        left = max(min(area.left - rim, self._width - width), 0)
        places = [_Area(left, top, width, height)
                  for top in (area.top - rim - height + 1, area.bottom + rim, area.top + rim)]
        places = [place for place in places if place.top >= 0 and place.bottom < self._height
                  and place.right < self._width and not _overlap(self._labels[:self._count], place)]
        others = self._faces[(self._faces != _edges(area)).any(axis=1)]
        place = next((place for place in places if not _overlap(others, place)), places[0] if places else None)
        if place:
            self._labels[self._count] = _edges(place)
            self._count += 1
        return place


def _edges(area: _Area) -> tuple[int, int, int, int]:
    return area.left, area.top, area.right, area.bottom


def _overlap(edges: NDArray[np.int64], place: _Area) -> bool:
    """Tells whether a place covers some of the areas whose edges (N, 4) these are."""
    left, top, right, bottom = edges.T
    return bool(((left <= place.right) & (place.left <= right) & (top <= place.bottom) & (place.top <= bottom)).any())


def _draw_box(picture: Pixels, area: _Area, emotion: str | None, line: int) -> None:
    """Draws the edges of an area, with a dark rim so that they are seen on any background."""
    colour = bgr(colour_of(emotion))
    corners = (area.left, area.top), (area.right, area.bottom)
    cv2.rectangle(picture, *corners, (0, 0, 0), line + 2)
    if emotion is not None:
        cv2.rectangle(picture, *corners, colour, line)
        return
    step = _DASH * line
    for x in range(area.left, area.right, 2 * step):
        for y in (area.top, area.bottom):
            cv2.line(picture, (x, y), (min(x + step, area.right), y), colour, line)
    for y in range(area.top, area.bottom, 2 * step):
        for x in (area.left, area.right):
            cv2.line(picture, (x, y), (x, min(y + step, area.bottom)), colour, line)


def _draw_label(picture: Pixels, face: Face, area: _Area, size: int, line: int, room: _Room) -> None:
    emotion = shown_emotion(face)
    what = "?" if emotion is None else emotion
    full = f"#{face.track_id} ?" if emotion is None else f"#{face.track_id} {emotion} {face.smoothed.confidence:.0%}"
    for text in (full, what):
        plate = room.take(area, measure(text, size) + size, round(1.4 * size), line // 2 + 1)
        if plate:
            colour = colour_of(emotion)
            cv2.rectangle(picture, (plate.left, plate.top), (plate.right, plate.bottom), bgr(colour), cv2.FILLED)
            write(picture, text, plate.left + size // 2, plate.top + round(1.07 * size), size, ink_on(colour))
            return

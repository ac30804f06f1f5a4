"""Where to blur: each face of a frame, and those that were there just before or will be just after."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emotiond.events import Box, FrameEvent
from emotiond.frames import Frame
from emotiond.tracker import LOST_SECONDS, Tracker

BEFORE_US = 1_000_000       # how long a face that is not found again stays hidden
AFTER_US = 500_000          # how early one that is new begins to be
LEAST_FRAMES = 2            # that both last at least, however far apart frames are
LOST_US = round(LOST_SECONDS * 1_000_000)
MOST_BYTES = 400_000_000    # of pictures held back: half a second of 4K at 60 frames a second, two of 1080p
MOST_HELD = 240             # of those, where they are small and their times stand still

Veiled = tuple[FrameEvent, Frame, list[Box]]
"""A frame with the boxes to hide in it."""


@dataclass(frozen=True, slots=True)
class _Held:
    event: FrameEvent
    frame: Frame
    boxes: dict[int, Box]       # by track; those of what only may be a face have ids below zero

    @property
    def size(self) -> tuple[int, int]:
        return self.event.width, self.event.height


@dataclass(frozen=True, slots=True)
class _Sighting:
    at_us: int
    number: int     # of the frame
    box: Box


class Veil:
    """Holds frames back for as long as a track can be lost, so that a face is hidden too where the detector missed it.

    A face that turns away, or is covered for a moment, is not found, and is still a face. It is hidden where it was
    last and where it will be next.
    """

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._tracker = Tracker()      # of what only may be a face
        self._last: dict[int, _Sighting] = {}
        self._size = (0, 0)
        self._number = 0

    def take(self, event: FrameEvent, frame: Frame, found: Sequence[Box] = ()) -> Iterator[Veiled]:
        """Takes a frame; yields those before it that are held long enough.

        Args:
            event: its event, whose faces are hidden.
            frame: the frame.
            found: what else is to be hidden in it.
        """
        boxes = {face.track_id: face.box for face in event.faces}
        if self._held and self._held[-1].size != (event.width, event.height):
            self._tracker.forget()
        rows = np.array([(box.x, box.y, box.width, box.height) for box in found], np.float32).reshape(-1, 4)
        tracks = self._tracker.update(rows, frame.captured_us / 1_000_000)
        boxes |= {-track.id: box for track, box in zip(tracks, found, strict=True)}
        self._held.append(_Held(event, frame, boxes))
        self._bytes += frame.picture.bytes
        while len(self._held) > LEAST_FRAMES + 1 and (
                frame.captured_us - self._held[0].frame.captured_us > LOST_US
                or self._bytes > MOST_BYTES or len(self._held) > MOST_HELD):
            yield self._release()

    def rest(self) -> Iterator[Veiled]:
        """Yields the frames that are held still."""
        while self._held:
            yield self._release()

    def _release(self) -> Veiled:
        held = self._held.popleft()
        now = held.frame.captured_us
        self._bytes -= held.frame.picture.bytes
        self._number += 1
        if held.size != self._size:      # boxes of other pictures mean nothing in this one
            self._last, self._size = {}, held.size
        self._last = {track: seen for track, seen in self._last.items()
                      if now - seen.at_us <= LOST_US or self._number - seen.number <= LEAST_FRAMES}
        after: dict[int, Box] = {}
        for place, later in enumerate(self._held, 1):
            if later.size != held.size:
                break
            is_near = place <= LEAST_FRAMES or later.frame.captured_us - now <= AFTER_US
            for track, box in later.boxes.items():
                if is_near or track in self._last:
                    after.setdefault(track, box)
        before = {track: seen.box for track, seen in self._last.items() if track in after
                  or now - seen.at_us <= BEFORE_US or self._number - seen.number <= LEAST_FRAMES}
        self._last |= {track: _Sighting(now, self._number, box) for track, box in held.boxes.items()}
        missed = (before.keys() | after.keys()) - held.boxes.keys()
        hidden = [_around(before.get(track), after.get(track)) for track in sorted(missed)]
        return held.event, held.frame, [*held.boxes.values(), *(box for box in hidden if box)]


def _around(one: Box | None, other: Box | None) -> Box | None:
    """Returns the box around two, or the one that there is."""
    if one is None or other is None:
        return one or other
    x, y = min(one.x, other.x), min(one.y, other.y)
    return Box(x, y, max(one.x + one.width, other.x + other.width) - x,
               max(one.y + one.height, other.y + other.height) - y)

"""Where to blur: each face of a frame, and those that were there just before or will be just after."""

from collections import deque
from collections.abc import Iterator

from emotiond.events import Box, FrameEvent
from emotiond.frames import Frame

BEFORE_US, AFTER_US = 1_000_000, 500_000    # how long a face that is missed stays hidden, and how early it begins to be
MOST_HELD = 16                              # pictures held back to look ahead: at most 50 MB of 1080p

Veiled = tuple[FrameEvent, Frame, list[Box]]
"""A frame with the boxes to hide in it."""


class Veil:
    """Holds frames back for half a second, so that a face is hidden too in those that the detector missed it in.

    A face that turns away, or is covered for a moment, is not found, and is still a face. It is hidden where it was
    last and where it will be next.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[FrameEvent, Frame]] = deque()
        self._last: dict[int, tuple[int, Box]] = {}      # track -> when it was seen last, and where

    def take(self, event: FrameEvent, frame: Frame) -> Iterator[Veiled]:
        """Takes a frame; yields those before it that are held long enough."""
        self._held.append((event, frame))
        while len(self._held) > MOST_HELD or frame.captured_us - self._held[0][1].captured_us > AFTER_US:
            yield self._release()

    def rest(self) -> Iterator[Veiled]:
        """Yields the frames that are held still."""
        while self._held:
            yield self._release()

    def _release(self) -> Veiled:
        event, frame = self._held.popleft()
        now = frame.captured_us
        seen = {face.track_id: face.box for face in event.faces}
        self._last = {track: (at, box) for track, (at, box) in self._last.items() if now - at <= BEFORE_US}
        before = {track: box for track, (_, box) in self._last.items()}
        after: dict[int, Box] = {}
        for later, its_frame in self._held:
            if its_frame.captured_us - now <= AFTER_US:
                for face in later.faces:
                    after.setdefault(face.track_id, face.box)
        self._last |= {track: (now, box) for track, box in seen.items()}
        missed = (before.keys() | after.keys()) - seen.keys()
        hidden = [_around(before.get(track), after.get(track)) for track in sorted(missed)]
        return event, frame, [*seen.values(), *(box for box in hidden if box)]


def _around(one: Box | None, other: Box | None) -> Box | None:
    """Returns the box around two, or the one that there is."""
    if one is None or other is None:
        return one or other
    x, y = min(one.x, other.x), min(one.y, other.y)
    return Box(x, y, max(one.x + one.width, other.x + other.width) - x,
               max(one.y + one.height, other.y + other.height) - y)

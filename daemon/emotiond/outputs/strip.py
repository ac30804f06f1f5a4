"""The strip below an annotated video's picture: what was seen in the last ten seconds, and the time."""

from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from emotiond.draw import Pixels, bgr, measure, write
from emotiond.events import Face
from emotiond.outputs.tracks import format_clock
from emotiond.palette import colour_of, in_order, shown_emotion

SECONDS = 10
MOST_FRAMES = 2400      # of those seconds, where times stand still
_TITLE = f"last {SECONDS} s"
_GROUND, _EMPTY, _INK, _SOFT = "#15181C", "#262B31", "#FFFFFF", "#A7B0BA"


class Strip:
    """Shares of the emotions of all faces over time, the newest at the right edge; a frame costs a column or a few.

    Attributes:
        height: of the strip, in pixels.
    """

    def __init__(self, width: int, size: int, odd: bool) -> None:
        """Makes an empty strip.

        Args:
            width: of the strip, in pixels.
            size: height of the letters in the picture; the strip's are a little smaller.
            odd: whether its own height shall be odd.
        """
        size = max(round(0.85 * size), 11)
        self._size, self._text_height = size, 2 * size
        self.height = self._text_height + 3 * size
        self.height += self.height % 2 != odd
        self._picture = np.empty((self.height, width, 3), np.uint8)
        self._picture[:] = bgr(_GROUND)
        self._band = self._picture[self._text_height:self.height - size // 2]
        self._band[:] = bgr(_EMPTY)
        self._newest = self._column(Counter())
        self._columns = 0                                    # since the stream's first frame
        self._recent: deque[tuple[int, Counter[str | None]]] = deque()
        self._shares: Counter[str | None] = Counter()        # faces in the frames of `_recent`

    def add(self, at_us: int, faces: Sequence[Face]) -> None:
        """Takes the faces of a frame, so many microseconds after the first one."""
        seen = Counter(map(shown_emotion, faces))
        self._recent.append((at_us, seen))
        self._shares.update(seen)
        while self._recent[0][0] < at_us - SECONDS * 1_000_000 or len(self._recent) > MOST_FRAMES:
            self._shares.subtract(self._recent.popleft()[1])
        self._shares = +self._shares
        width = self._band.shape[1]
        columns = at_us * width // (SECONDS * 1_000_000)
        moved, self._columns = min(max(columns - self._columns, 0), width), columns
        if moved:
            self._band[:, :width - moved] = self._band[:, moved:].copy()
            self._band[:, width - moved:] = self._newest     # it was so until now
        self._newest = self._column(seen)
        self._band[:, -1:] = self._newest

    def draw(self, at_us: int, frame: int) -> Pixels:
        """Returns the strip at a frame; its picture is drawn into again with the next."""
        header = self._picture[:self._text_height]
        header[:] = bgr(_GROUND)
        size = self._size
        base, gap = round(1.35 * size), size // 2
        left, right = gap, header.shape[1] - gap
        clock = format_clock(at_us)
        if left + measure(clock, size) < right:
            right -= measure(clock, size)
            write(header, clock, right, base, size, _INK)
        total, mark = self._shares.total(), round(0.75 * size)
        shares = [(f"{emotion or 'unsure'} {count / total:.0%}", emotion)
                  for emotion, count in self._shares.most_common()]
        room = sum(mark + gap // 2 + measure(text, size) + size for text, _ in shares)
        if left + room + measure(_TITLE, size) + size <= right:
            left = self._write(header, _TITLE, left, right, _SOFT)
        for text, emotion in shares:
            if left + mark + gap + measure(text, size) > right - gap:
                break
            header[base - mark:base, left:left + mark] = bgr(colour_of(emotion))
            left = self._write(header, text, left + mark + gap // 2, right, _INK)
        text = f"frame {frame}"
        self._write(header, text, max(right - measure(text, size) - size, left), right, _SOFT)
        return self._picture

    def _write(self, header: Pixels, text: str, left: int, right: int, colour: str) -> int:
        """Writes a text where it fits between two columns; returns where the next one begins."""
        end = left + measure(text, self._size)
        if end > right - self._size // 2:
            return left
        write(header, text, left, round(1.35 * self._size), self._size, colour)
        return end + self._size

    def _column(self, seen: Counter[str | None]) -> Pixels:
        """Returns (height of the band, 1, 3): the emotions' shares above one another, empty without a face."""
        column = np.empty((self._band.shape[0], 1, 3), np.uint8)
        column[:] = bgr(_EMPTY)
        below, total = 0, max(seen.total(), 1)
        for emotion in in_order(seen):
            above = below + seen[emotion]
            rows = [len(column) - round(part * len(column) / total) for part in (above, below)]
            column[rows[0]:rows[1]] = bgr(colour_of(emotion))
            below = above
        return column


"""Which faces of a stream were seen, from when to when and how; bounded, whatever the crowd."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from emotiond.events import Face
from emotiond.palette import shown_emotion
from emotiond.tracker import LOST_SECONDS

MOST_TRACKS = 1000      # whose figures are kept


@dataclass(slots=True)
class TrackFigures:
    """What was seen of one track.

    Attributes:
        id: the track's.
        first_us: where in the stream it was seen first, microseconds from the stream's first frame.
        last_us: and last.
        emotions: frames with each shown emotion; under None those where it was unsure.
    """

    id: int
    first_us: int
    last_us: int
    emotions: Counter[str | None] = field(default_factory=Counter[str | None])

    @property
    def frames(self) -> int:
        """Frames that it was seen in."""
        return self.emotions.total()


class Tracks:
    """The tracks of a stream that were seen most.

    Attributes:
        count: of all tracks.
    """

    def __init__(self) -> None:
        self.count = 0
        self._figures: dict[int, TrackFigures] = {}

    def see(self, faces: Iterable[Face], at_us: int) -> list[int]:
        """Takes the faces of a frame; returns the tracks that were seen least and are forgotten, seldom any."""
        for face in faces:
            figures = self._figures.get(face.track_id)
            if figures is None:
                figures = self._figures[face.track_id] = TrackFigures(face.track_id, at_us, at_us)
                self.count += 1
            figures.last_us = at_us
            figures.emotions[shown_emotion(face)] += 1
        return self._forget(at_us) if len(self._figures) > 2 * MOST_TRACKS else []

    def most_seen(self, most: int) -> list[TrackFigures]:
        """Returns so many of those seen in most frames, the most seen first; of equals the older first."""
        return sorted(self._figures.values(), key=lambda track: (-track.frames, track.id))[:most]

    def _forget(self, now_us: int) -> list[int]:
        kept = {track.id for track in self.most_seen(MOST_TRACKS)}
        gone = [track.id for track in self._figures.values()      # what may still be seen again stays
                if track.id not in kept and now_us - track.last_us > LOST_SECONDS * 1_000_000]
        for track in gone:
            del self._figures[track]
        return gone


def format_clock(microseconds: int) -> str:
    """Formats a place in a video as players do, with tenths of a second: 0:07.3, 1:02:07.3."""
    tenths = microseconds // 100_000
    seconds, tenths = divmod(tenths, 10)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{tenths}" if hours else f"{minutes}:{seconds:02}.{tenths}"

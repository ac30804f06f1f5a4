"""Emotions over time, counted in equal stretches of it: for each stream, and for each of its most seen tracks."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotiond.events import Face, FrameEvent, rfc3339
from emotiond.frames import Frame
from emotiond.outputs.files import import_extra, writing
from emotiond.outputs.tracks import TrackFigures, Tracks, format_clock
from emotiond.palette import in_order, shown_emotion

MOST_BINS = 480          # of a stream, however long it is
FIRST_BIN_US = 100_000
FRAMES_IN_BIN = 2        # at least, on average, so that none stays empty between two frames
MOST_LANES = 12          # tracks shown of a stream
MOST_LANES_IN_ALL = 120  # and of all streams together

_STEPS_US = [round(seconds * 1_000_000) for seconds in (
    0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)]
_MOST_TICKS = 10
_TEN_THOUSANDTHS = 10_000   # confidences have four decimals, so that sums of them are exact

Cell = dict[str | None, list[int]]
"""Shown emotion of a track in a bin -> frames, and the sum of their smoothed confidences in ten thousandths."""


Run = tuple[int, int, float, float]
"""A rectangle: its first bin, the one after its last, its lower and upper edge."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a track shows in a bin.

    Attributes:
        bin: which.
        emotion: the one shown in most of its frames; None is unsure.
        frames: that show it.
        of: all frames of the bin with the track.
        confidence: mean of the smoothed confidence in `frames`.
    """

    bin: int
    emotion: str | None
    frames: int
    of: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Lane:
    """A track with its bars in the order of time."""

    track: TrackFigures
    bars: list[Bar]

    def stacks(self) -> list[tuple[str | None, list[Run]]]:
        """Returns where each emotion is shown, from 0 up to its confidence."""
        return [(emotion, in_runs([(bar.bin, 0.0, bar.confidence) for bar in self.bars if bar.emotion == emotion]))
                for emotion in in_order({bar.emotion for bar in self.bars})]


class StreamChart:
    """What a chart shows of one stream.

    Attributes:
        name: the stream's.
        start_us: capture time of its first frame.
        end_us: when its last frame was, microseconds after the first.
        bin_us: length of a bin.
        analysed: frames analysed, by bin.
        faces: faces by bin and shown emotion.
    """

    def __init__(self, name: str, start_us: int) -> None:
        self.name, self.start_us = name, start_us
        self.end_us, self.bin_us = 0, FIRST_BIN_US
        self.analysed: Counter[int] = Counter()
        self.faces: dict[int, Counter[str | None]] = {}
        self._tracks = Tracks()
        self._cells: dict[int, dict[int, Cell]] = {}    # track -> bin

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return self.end_us // self.bin_us + 1

    @property
    def track_count(self) -> int:
        """How many tracks there were in all."""
        return self._tracks.count

    @property
    def emotions(self) -> list[str | None]:
        """Those that were shown, in the order of `in_order`."""
        return in_order({emotion for counts in self.faces.values() for emotion in counts})

    def add(self, faces: Sequence[Face], at_us: int) -> None:
        """Takes the faces of a frame, so many microseconds after the first one."""
        self.end_us = max(self.end_us, at_us)
        while self.bins > MOST_BINS:
            self._widen()
        place = at_us // self.bin_us
        self.analysed[place] += 1
        for face in faces:
            emotion = shown_emotion(face)
            self.faces.setdefault(place, Counter())[emotion] += 1
            figures = self._cells.setdefault(face.track_id, {}).setdefault(place, {}).setdefault(emotion, [0, 0])
            figures[0] += 1
            figures[1] += round(face.smoothed.confidence * _TEN_THOUSANDTHS)
        for track in self._tracks.see(faces, at_us):
            del self._cells[track]

    def finish(self) -> None:
        """Makes the bins wide enough for the rate of the frames; nothing is added any more."""
        while self.bins > 1 and self.analysed.total() < FRAMES_IN_BIN * self.bins:
            self._widen()

    @property
    def most_faces(self) -> int:
        """The most faces in a frame that a bin has on average, rounded up; 1 at least."""
        means = (counts.total() / self.analysed[place] for place, counts in self.faces.items())
        return max(math.ceil(max(means, default=1)), 1)

    def ticks(self) -> list[tuple[int, str]]:
        """Returns at most ten marks of the axis, from 0 on in round steps: microseconds and words."""
        length = self.bins * self.bin_us
        step = next((step for step in _STEPS_US if length <= _MOST_TICKS * step), -(-length // _MOST_TICKS))
        return [(us, format_clock(us) if step % 1_000_000 else format_clock(us)[:-2]) for us in range(0, length, step)]

    def stacks(self) -> list[tuple[str | None, list[Run]]]:
        """Returns how many faces of each emotion there are in a frame on average, one on top of the other."""
        below = dict.fromkeys(sorted(self.faces), 0.0)
        stacks: list[tuple[str | None, list[Run]]] = []
        for emotion in self.emotions:
            bars: list[tuple[int, float, float]] = []
            for place, low in below.items():
                below[place] = low + self.faces[place][emotion] / self.analysed[place]
                bars.append((place, low, below[place]))
            stacks.append((emotion, in_runs(bars)))
        return stacks

    def lanes(self, most: int = MOST_LANES) -> list[Lane]:
        """Returns the most seen tracks, in the order of their ids."""
        shown = sorted(self._tracks.most_seen(most), key=lambda track: track.id)
        return [Lane(track, [_bar(place, cell) for place, cell in sorted(self._cells[track.id].items())])
                for track in shown]

    def _widen(self) -> None:
        """Makes one bin of each two."""
        self.bin_us *= 2
        analysed, faces, cells = self.analysed, self.faces, self._cells
        self.analysed, self.faces, self._cells = Counter(), {}, {}
        for place, count in analysed.items():
            self.analysed[place // 2] += count
        for place, counts in faces.items():
            self.faces.setdefault(place // 2, Counter()).update(counts)
        for track, bins in cells.items():
            wider = self._cells[track] = {}
            for place, cell in bins.items():
                for emotion, (frames, confidence) in cell.items():
                    figures = wider.setdefault(place // 2, {}).setdefault(emotion, [0, 0])
                    figures[0] += frames
                    figures[1] += confidence


def in_runs(bars: Iterable[tuple[int, float, float]]) -> list[Run]:
    """Makes one rectangle of bars (bin, lower, upper edge) of one height in a row; those without a height go."""
    runs: list[Run] = []
    for place, low, high in bars:
        if high <= low:
            continue
        if runs and runs[-1][1:] == (place, low, high):
            runs[-1] = (runs[-1][0], place + 1, low, high)
        else:
            runs.append((place, place + 1, low, high))
    return runs


def _bar(place: int, cell: Cell) -> Bar:
    emotion, (frames, confidence) = min(
        cell.items(), key=lambda item: (-item[1][0], -item[1][1], item[0] is None, item[0] or ""))
    return Bar(place, emotion, frames, sum(figures[0] for figures in cell.values()),
               round(confidence / frames / _TEN_THOUSANDTHS, 4))


def figures_of(chart: StreamChart, lanes: Sequence[Lane]) -> dict[str, Any]:
    """Returns all numbers that are drawn of a stream, for a page to carry; `unsure` stands beside the emotions."""
    bins = range(chart.bins)
    return {
        "stream": chart.name, "start": rfc3339(chart.start_us), "end_us": chart.end_us, "bin_us": chart.bin_us,
        "analysed": [chart.analysed[place] for place in bins],
        "faces": {emotion: [chart.faces.get(place, Counter())[emotion] for place in bins]
                  for emotion in chart.emotions if emotion is not None},
        "unsure": [chart.faces.get(place, Counter())[None] for place in bins],
        "tracks": [{
            "track_id": lane.track.id, "first_us": lane.track.first_us, "last_us": lane.track.last_us,
            "frames": lane.track.frames, "unsure": lane.track.emotions[None],
            "emotions": {emotion: lane.track.emotions[emotion] for emotion in in_order(lane.track.emotions)
                         if emotion is not None},
            "bars": [[bar.bin, bar.emotion, bar.frames, bar.of, bar.confidence] for bar in lane.bars],
        } for lane in lanes],
        "more_tracks": chart.track_count - len(lanes),
    }


class ChartFile:
    """Counts while frames come, and draws at the end; pictures, which have no time, are left out."""

    def __init__(self, path: Path, streams: Sequence[str]) -> None:
        """Prepares it.

        Args:
            path: ends in .html or .png.
            streams: those to be shown.

        Raises:
            CommandError: a library is missing.
        """
        self._path, self._names = path, frozenset(streams)
        self._charts: dict[str, StreamChart] = {}
        if path.suffix.lower() == ".png":
            import_extra("matplotlib", path, "a .html")
            from emotiond.outputs.chart_png import draw_chart
            self._draw: Callable[[Sequence[StreamChart]], bytes] = draw_chart
        else:
            from emotiond.outputs.chart_html import draw_page
            self._draw = draw_page

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Counts the faces of a frame."""
        if event.stream not in self._names:
            return
        chart = self._charts.get(event.stream)
        if chart is None:
            chart = self._charts[event.stream] = StreamChart(event.stream, frame.captured_us)
        chart.add(event.faces, max(frame.captured_us - chart.start_us, 0))

    def close(self) -> None:
        """Draws it, where there was a frame."""
        for chart in self._charts.values():
            chart.finish()
        if self._charts:
            with writing(self._path):
                self._path.write_bytes(self._draw(list(self._charts.values())))


def share_lanes(charts: Sequence[StreamChart]) -> list[list[Lane]]:
    """Returns the lanes to draw of each stream: fewer of each where there are many streams, but one at least."""
    each = max(min(MOST_LANES, MOST_LANES_IN_ALL // max(len(charts), 1)), 1)
    return [chart.lanes(each) for chart in charts]

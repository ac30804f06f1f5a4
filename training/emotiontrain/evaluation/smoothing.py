"""Measures what the daemon's smoothing over time costs and brings, to choose its `classifier.smoothing_seconds`.

    emotiond replay CLIP... --events events.jsonl
    python -m emotiontrain.evaluation.smoothing events.jsonl

Events carry each frame's own probabilities, so one replay serves all time constants. A lasting change is one between
emotions that each lead a mean over one second, centred, for a second or more. A longer time constant flips less and
follows such a change later.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOWS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Time constants in seconds."""
LASTING = 1.0
"""Seconds that an emotion leads, and that its lead is averaged over, for it to count as lasting."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """One face: times (N,) in seconds, rising, and probabilities (N, classes)."""

    times: Floats
    probabilities: Floats

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return float(self.times[-1] - self.times[0])


@dataclass(frozen=True)
class Effect:
    """What a time constant does to some tracks.

    Attributes:
        flips: changes of the smoothed emotion in a minute of a face.
        noise: root mean square of a frame's change of the smoothed confidence.
        confidence: mean of the smoothed confidence.
        changes: lasting changes.
        followed: share of them that the smoothed emotion followed before the next.
        lag: median delay of those in seconds; nan where there are none.
    """

    flips: float
    noise: float
    confidence: float
    changes: int
    followed: float
    lag: float


def smooth(track: Track, window: float) -> Floats:
    """Returns the probabilities averaged as the daemon averages them: exponentially, right for uneven times."""
    out = track.probabilities.copy()
    for index in range(1, len(out)):
        keep = np.exp(-(track.times[index] - track.times[index - 1]) / window) if window > 0 else 0.0
        out[index] = keep * out[index - 1] + (1 - keep) * out[index]
    return out


def measure(tracks: Sequence[Track], window: float) -> Effect:
    """Smooths all tracks with one time constant in seconds and measures what comes of it."""
    flips, steps, confidences, lags = 0, [np.zeros(0)], [np.zeros(0)], list[float]()
    for track in tracks:
        smoothed = smooth(track, window)
        emotion, confidence = smoothed.argmax(axis=1), smoothed.max(axis=1)
        flips += int(np.count_nonzero(np.diff(emotion)))
        steps.append(np.diff(confidence))
        confidences.append(confidence)
        for begin, end, after in lasting_changes(track):
            reached = np.flatnonzero(emotion[begin:end] == after)
            lags.append(float(track.times[begin + reached[0]] - track.times[begin]) if reached.size else float("nan"))
    minutes = sum(track.seconds for track in tracks) / 60
    followed = [lag for lag in lags if lag == lag]
    return Effect(
        flips / minutes, float(np.sqrt((np.concatenate(steps) ** 2).mean())), float(np.concatenate(confidences).mean()),
        len(lags), len(followed) / max(len(lags), 1), float(np.median(followed)) if followed else float("nan"))


def lasting_changes(track: Track) -> Iterator[tuple[int, int, int]]:
    """Yields each lasting change: the index at which the new emotion leads, the one at which it ends, the emotion."""
    first = np.searchsorted(track.times, track.times - LASTING / 2)
    last = np.searchsorted(track.times, track.times + LASTING / 2, side="right")
    total = np.concatenate([np.zeros((1, track.probabilities.shape[1])), track.probabilities.cumsum(axis=0)])
    leads = ((total[last] - total[first]) / (last - first)[:, None]).argmax(axis=1)
    runs: list[tuple[int, int, int]] = []
    for emotion, group in groupby(range(len(leads)), key=lambda index: int(leads[index])):
        indices = list(group)
        if track.times[indices[-1]] - track.times[indices[0]] >= LASTING:
            runs.append((indices[0], indices[-1] + 1, emotion))
    for (_, _, before), (begin, end, after) in pairwise(runs):
        if before != after:
            yield begin, end, after


def read_tracks(path: Path) -> list[Track]:
    """Reads the faces that a file of events follows for LASTING seconds and more."""
    rows: dict[tuple[str, int], list[tuple[float, list[float]]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        time = datetime.fromisoformat(event["time"]).timestamp()
        for face in event["data"]["faces"]:
            rows.setdefault((event["subject"], face["track_id"]), []).append((time, [*face["probabilities"].values()]))
    tracks = [Track(np.array([time for time, _ in row]), np.array([values for _, values in row]))
              for row in rows.values()]
    return [track for track in tracks if track.seconds >= LASTING]


def main(paths: Sequence[str]) -> int:
    """Prints a table over all tracks of the files."""
    try:
        tracks = [track for path in paths for track in read_tracks(Path(path))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot be read as events ({error}); give what `emotiond replay --events` wrote", file=sys.stderr)
        return 66
    if not tracks:
        print(f"no face is seen for {LASTING:.0f} s; give files of `emotiond replay --events`", file=sys.stderr)
        return 66
    print(f"{len(tracks)} faces, {sum(track.seconds for track in tracks):.0f} s")
    print("window  flips/min  noise  confidence  lasting changes  followed    lag")
    for window in WINDOWS:
        e = measure(tracks, window)
        print(f"{window:5.2f}s  {e.flips:9.1f}  {e.noise:.3f}  {e.confidence:10.3f}  {e.changes:15d}  "
              f"{e.followed:8.0%}  {e.lag:4.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Gives the faces of a stream track ids from frame to frame, by overlap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MATCH_IOU = 0.3       # the usual threshold of IoU trackers (SORT, https://arxiv.org/abs/1602.00763)
LOST_SECONDS = 2.0    # a face that was not seen for longer gets a new id; `max_fps: 1` must not break tracks


@dataclass
class Track:
    """A face followed over time; `smoothed` is (classes,) float64 and belongs to the timeline.

    Attributes:
        id: counts up in a run.
        box: (4,) where it was seen last.
        seen: seconds on the capture clock when it was seen last.
        elapsed: seconds between its last two sightings, 0 at the first.
        smoothed: moving average of its probabilities.
    """

    id: int
    box: NDArray[np.float32]
    seen: float
    elapsed: float = 0.0
    smoothed: NDArray[np.float64] | None = None


class Tracker:
    """Matches each frame's boxes with the tracks that live, best overlap first."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._count = 0

    def forget(self) -> None:
        """Ends all tracks; ids go on."""
        self._tracks.clear()

    def update(self, boxes: NDArray[np.float32], now: float) -> list[Track]:
        """Returns a track for each of the boxes (N, 4), in their order; `now` in seconds on the capture clock.

        Where time runs backwards, as after a jump of a clock, it goes on from there.
        """
        back = max((track.seen for track in self._tracks), default=now) - now
        if back > 0:
            for track in self._tracks:
                track.seen -= back
        self._tracks = [track for track in self._tracks if now - track.seen <= LOST_SECONDS]
        before = np.array([track.box for track in self._tracks], np.float32).reshape(-1, 4)
        matched = {index: self._tracks[other] for index, other in assign(boxes, before).items()}
        result: list[Track] = []
        for index, box in enumerate(boxes):
            track = matched.get(index)
            if track is None:
                self._count += 1
                track = Track(self._count, box, now)
                self._tracks.append(track)
            track.elapsed = max(now - track.seen, 0.0)
            track.box, track.seen = box, now
            result.append(track)
        return result


def assign(boxes: NDArray[np.float32], before: NDArray[np.float32]) -> dict[int, int]:
    """Returns which of the boxes before (M, 4) each box (N, 4) is, best overlap first; new ones are left out."""
    matched: dict[int, int] = {}
    if not len(boxes) or not len(before):
        return matched
    overlaps = iou(boxes, before)
    taken: set[int] = set()
    for flat in np.argsort(overlaps, axis=None, kind="stable")[::-1].tolist():
        index, other = divmod(flat, len(before))
        if overlaps[index, other] < MATCH_IOU:
            break
        if index not in matched and other not in taken:
            matched[index] = other
            taken.add(other)
    return matched


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns intersection over union (N, M) of boxes (N, 4) and (M, 4), each x, y, width, height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    union = np.prod(a[:, None, 2:], axis=2) + np.prod(b[None, :, 2:], axis=2) - common
    return common / np.maximum(union, 1e-9)

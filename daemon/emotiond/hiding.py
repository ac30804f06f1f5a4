"""Finds what is to be hidden in a picture that people look at: whatever may be a face, not only what is analysed."""

import numpy as np

from emotiond.events import Box
from emotiond.picture import Picture, Scalers
from yunet.detector import Detector, load_detector

WIDTH = 640             # pixels of a picture that is searched, at most
LEAST_SCORE = 0.2       # of what is hidden as a face: rather a lamp too many than a face too few
MOST_HIDDEN = 500       # of those


class HidingSearch:
    """Searches whole pictures, whatever a stream's region, masks, scores and least sizes say; one thread at a time."""

    def __init__(self, width: int = WIDTH) -> None:
        """Loads nothing yet.

        Args:
            width: pixels that a wider picture is reduced to.
        """
        self._width = width
        self._scalers = Scalers()
        self._detector: Detector | None = None

    def find(self, picture: Picture) -> list[Box]:
        """Returns the boxes of all that may be a face, in pixels of the picture; they may reach over its edge."""
        if self._detector is None:
            self._detector = load_detector(score=LEAST_SCORE, max_faces=MOST_HIDDEN)
        view = picture.detector_view(self._scalers, self._width)
        boxes = self._detector.detect([view.planes], [view.colour])[0].boxes * np.tile(view.scale, 2).astype(np.float32)
        return [Box(*map(round, box)) for box in boxes.tolist()]

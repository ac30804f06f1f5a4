"""Finds the faces of frames and reads their emotions: heavy, stateless, one object for each worker."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from emotiond.config import DetectorConfig, StreamConfig
from emotiond.follow import Window, match, window_around
from emotiond.frames import FrameBuffers, Ticket
from emotiond.metrics import Metrics
from emotiond.picture import DetectorView, Picture, Scalers
from emotiond.tracker import assign
from emotionnet.classifier import Classifier, NonFiniteError
from emotionnet.preprocess import InputSpec, crop_square, expand_range
from yunet.detector import Detector, Faces

MAX_FAILURES = 100     # frames in a row that a network fails on before the analyzer gives up, and the daemon with it
MOST_FOLLOWED = 0.5    # share of a picture from which on searching windows costs what searching it whole does
FACES_DETECTED = 1000  # the most a detector returns for a picture; `max_faces` cuts and counts below it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found in one frame; `failed` marks the tombstone of a frame that a network failed on.

    Attributes:
        ticket: the frame and its place in its stream.
        boxes: (N, 4) float32 x, y, width, height in pixels of the displayed picture, clipped to it.
        scores: (N,) the detector's.
        probabilities: (N, classes) the classifier's.
        failed: whether the frame could not be analysed.
        carried: (N,) bool, whose probabilities are those of an earlier frame.
    """

    ticket: Ticket
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    carried: NDArray[np.bool_]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Seen:
    """The faces of a frame.

    Attributes:
        faces: where they are.
        rows: which of the group's boxes each is.
        probabilities: (N, classes), those of an earlier frame where there are such; the others are filled in.
        due: (N,) bool, which are to be classified.
    """

    faces: Faces
    rows: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    due: NDArray[np.bool_]


class BatchAnalyzer(ABC):
    """Analyses batches of frames, and does without what fails; not for several threads at once."""

    def __init__(self, metrics: Metrics, classes: int) -> None:
        """Takes what is counted, and how many emotions there are."""
        self._metrics, self._classes = metrics, classes
        self._failures = 0       # in a row
        self._running = "yunet"  # which network an exception is put down to

    def analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        """Analyses frames of any streams.

        A batch that makes a network fail, or needs more memory than its device has, is tried in halves; a frame that
        fails alone becomes a tombstone.

        Raises:
            Exception: what a network or its device failed with, where it is no frame's fault.
        """
        self._running = "yunet"
        try:
            analyses = self._analyze(tickets)
            self._failures = 0
            return analyses
        except Exception as error:  # a bad frame must not harm the others
            self._failures += len(tickets) == 1
            if self._failures >= MAX_FAILURES or self._is_fatal(error):     # not the frames' fault
                raise
            failure = error.with_traceback(None)        # which would hold the memory that the batch took
        self._recover(failure, tickets)
        if len(tickets) > 1:
            half = len(tickets) // 2
            return self.analyze(tickets[:half]) + self.analyze(tickets[half:])
        reason = "non_finite" if isinstance(failure, NonFiniteError) else "exception"
        self._metrics.inference_errors.labels(self._running, reason).inc()
        log.warning("frame could not be analysed: %s", failure,
                    extra={"stream": tickets[0].frame.stream, "frame": tickets[0].frame.index})
        return [Analysis(tickets[0], *_no_faces(), self._no_probabilities(), np.zeros(0, np.bool_), failed=True)]

    @abstractmethod
    def _analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        """Analyses all of them, or raises."""

    def _is_fatal(self, error: Exception) -> bool:
        """Tells whether every later call would fail too, as on a device that was lost."""
        return False

    def _recover(self, error: Exception, tickets: Sequence[Ticket]) -> None:
        """Makes ready to try frames again after an error."""
        for ticket in tickets:      # they are searched whole: later frames may have moved the boxes
            ticket.group.boxes = None

    def _no_probabilities(self, count: int = 0) -> NDArray[np.float32]:
        return np.zeros((count, self._classes), np.float32)


class Analyzer(BatchAnalyzer):
    """Runs detector and classifier on a CPU.

    The crops of all faces of a batch go to the classifier in one call; where faces keep their answers, in one for the
    first frame of each group, one for the second, and so on.
    """

    def __init__(
        self, detector: Detector, classifier: Classifier, config: DetectorConfig, streams: dict[str, StreamConfig],
        metrics: Metrics, classify_every: int = 1,
    ) -> None:
        """Takes what it needs.

        Args:
            detector: of its own.
            classifier: of its own.
            config: of the detector.
            streams: name -> configuration.
            metrics: what is counted.
            classify_every: frames of a group, in the first of which faces are classified; the others keep its answers.
        """
        super().__init__(metrics, len(classifier.info.labels))
        self._classify_every = classify_every
        self._detector, self._classifier, self._config, self._streams = detector, classifier, config, streams
        self._scalers = Scalers()

    def _analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        seen: dict[int, _Seen] = {}
        calls: list[tuple[float, int]] = []     # of the classifier: seconds, crops
        detecting = 0.0
        waiting = list(range(len(tickets)))
        while waiting:      # frames of a group one after the other, since each follows the one before
            wave: dict[int, int] = {}      # group -> the first of its frames that wait
            for place in waiting:
                wave.setdefault(id(tickets[place].group), place)
            begin = time.monotonic()
            seen |= zip(wave.values(), self._search([tickets[place] for place in wave.values()]), strict=True)
            detecting += time.monotonic() - begin
            waiting = [place for place in waiting if place not in seen]
            if self._classify_every > 1:        # the frames to come keep the answers
                calls += self._classify([(tickets[place], seen[place]) for place in wave.values()])
        if self._classify_every == 1:
            calls += self._classify([(ticket, seen[place]) for place, ticket in enumerate(tickets)])
        self._metrics.stage["detect"].observe(detecting)
        self._metrics.batch["yunet"].observe(len(tickets))
        for seconds, crops in calls:        # now that the batch has succeeded
            self._metrics.stage["classify"].observe(seconds)
            self._metrics.batch["emotionnet"].observe(crops)
        in_order = [seen[place] for place in range(len(tickets))]
        return [Analysis(ticket, found.faces.boxes, found.faces.scores, found.probabilities, ~found.due)
                for ticket, found in zip(tickets, in_order, strict=True)]

    def _classify(self, frames: list[tuple[Ticket, _Seen]]) -> list[tuple[float, int]]:
        """Classifies the faces of frames that are due, in one call. Returns its seconds and crops, if there was any."""
        frames = [(ticket, seen) for ticket, seen in frames if seen.due.any()]
        if not frames:
            return []
        self._running = "emotionnet"
        begin = time.monotonic()
        stacked = np.concatenate([self._crops(ticket, seen.faces.boxes[seen.due]) for ticket, seen in frames])
        probabilities = self._classifier.classify(stacked)
        seconds = time.monotonic() - begin
        ends = np.cumsum([np.count_nonzero(seen.due) for _, seen in frames])
        for (ticket, seen), part in zip(frames, np.split(probabilities, ends[:-1]), strict=True):
            seen.probabilities[seen.due] = part
            if self._classify_every > 1:
                cast(NDArray[np.float32], ticket.group.probabilities)[seen.rows] = seen.probabilities
        self._running = "yunet"
        return [(seconds, len(stacked))]

    def _search(self, tickets: Sequence[Ticket]) -> list[_Seen]:
        """Finds the faces of frames of different groups in one call of the detector."""
        searches = [self._prepare(ticket) for ticket in tickets]
        parts = [(planes, search.view.colour) for search in searches if search for planes in search.planes]
        found = iter(self._detector.detect([planes for planes, _ in parts], [colour for _, colour in parts]))
        return [self._finish(ticket, search, list(islice(found, len(search.planes)))) if search else self._nobody()
                for ticket, search in zip(tickets, searches, strict=True)]

    def _prepare(self, ticket: Ticket) -> "_Search | None":
        """Cuts out what is to be searched in a frame; None where there is nobody to follow."""
        if ticket.group.boxes is not None and not len(ticket.group.boxes):
            return None
        config, group = self._streams[ticket.frame.stream], ticket.group
        view = ticket.frame.picture.detector_view(self._scalers, self._config.width, config.region, config.masks)
        if group.boxes is None:
            return _Search(view, None, [])
        boxes = to_view(group.boxes, view)
        windows = [window_around(view, box) for box in boxes]
        if sum(window.planes.size for window in windows) > MOST_FOLLOWED * view.planes.size:
            return _Search(view, None, [])
        return _Search(view, boxes, windows)

    def _finish(self, ticket: Ticket, search: "_Search", found: list[Faces]) -> _Seen:
        group = ticket.group
        before, answers = group.boxes, group.probabilities
        if search.boxes is None:
            faces, rows = self._select(ticket, found[0], search.view, self._config.score)
            group.boxes, rows = faces.boxes, np.arange(len(rows))
            known = np.full(len(rows), -1)
            if before is not None and self._classify_every > 1:
                for row, other in assign(faces.boxes, before).items():
                    known[row] = other
        else:
            followed = match(search.windows, found, search.boxes)
            faces, rows = self._select(ticket, followed.faces, search.view, 0)
            group.boxes = to_picture(      # also those that are lost, or too small, just now
                np.concatenate((followed.faces.boxes, followed.lost)), search.view.scale, search.view.offset,
                ticket.frame.picture.size)
            known = followed.origins.copy()
            known[len(followed.faces.scores):] = -1     # where a face is lost, another may come
        group.age = 0 if before is None else (group.age + 1) % self._classify_every
        group.probabilities = self._no_probabilities(len(group.boxes))
        if group.age and answers is not None:
            group.probabilities[known >= 0] = answers[known[known >= 0]]
        probabilities = group.probabilities[rows]
        return _Seen(faces, rows, probabilities, probabilities.sum(axis=1) == 0)

    def _select(
        self, ticket: Ticket, faces: Faces, view: DetectorView, score: float
    ) -> tuple[Faces, NDArray[np.intp]]:
        """Scales boxes to the displayed picture, clips them, leaves out the unlikely, the small and the many.

        Returns:
            The others, and which of `faces` they are.
        """
        boxes = to_picture(faces.boxes, view.scale, view.offset, ticket.frame.picture.size)
        rows, left_out = select(boxes, faces.scores, score, self._config)
        if left_out:
            self._metrics.faces_truncated.labels(ticket.frame.stream).inc(left_out)
        return Faces(boxes[rows], faces.scores[rows]), rows

    def _crops(self, ticket: Ticket, boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        return crop_faces(ticket.frame.picture, self._scalers, boxes, self._classifier.info.input,
                          self._streams[ticket.frame.stream].masks)

    def _nobody(self) -> _Seen:
        return _Seen(Faces(*_no_faces()), np.zeros(0, np.intp), self._no_probabilities(), np.zeros(0, np.bool_))


@dataclass(frozen=True, slots=True)
class _Search:
    """Where faces of a frame are searched: in the whole view, or in a window around each of the boxes in it."""

    view: DetectorView
    boxes: NDArray[np.float32] | None
    windows: list[Window]

    @property
    def planes(self) -> list[NDArray[np.uint8]]:
        return [self.view.planes] if self.boxes is None else [window.planes for window in self.windows]


def to_view(boxes: NDArray[np.float32], view: DetectorView) -> NDArray[np.float32]:
    """Turns boxes (N, 4) in pixels of the displayed picture into pixels of a detector's view."""
    offset, scale = np.array((*view.offset, 0, 0), np.float32), np.tile(np.array(view.scale, np.float32), 2)
    return (boxes - offset) / scale


def to_picture(
    boxes: NDArray[np.float32], scale: tuple[float, float], offset: tuple[float, float], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Turns boxes (N, 4) in pixels of a detector's view into pixels of the displayed picture, clipped to it.

    Args:
        boxes: x, y, width, height.
        scale: the view's, as in `DetectorView`.
        offset: likewise.
        size: the picture's width and height.
    """
    factor, shift, limit = (np.array(pair, np.float32) for pair in (scale, offset, size))
    corners = np.clip(boxes[:, :2] * factor + shift, 0, limit)
    return np.concatenate(
        (corners, np.clip((boxes[:, :2] + boxes[:, 2:]) * factor + shift, 0, limit) - corners), axis=1)


def select(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], score: float, config: DetectorConfig
) -> tuple[NDArray[np.intp], int]:
    """Returns which faces are likely and large enough, the best so many of them, and how many more there are."""
    rows = np.flatnonzero((boxes[:, 2:].min(axis=1, initial=np.inf) >= config.min_face) & (scores >= score))
    return rows[:config.max_faces], max(len(rows) - config.max_faces, 0)


def crop_faces(
    picture: Picture, scalers: Scalers, boxes: NDArray[np.float32], spec: InputSpec,
    masks: tuple[tuple[float, float, float, float], ...] = (),
) -> NDArray[np.uint8]:
    """Cuts the classifier's crops (N, side, side) of full-range luma out of a picture."""
    crops = np.empty((len(boxes), spec.side, spec.side), np.uint8)
    if len(boxes):
        luma = picture.luma(scalers, masks)
        for index, box in enumerate(boxes.tolist()):
            crops[index] = crop_square(luma.plane, box, spec)
        if luma.limited:
            crops = expand_range(crops)
    return crops


def work(
    analyzer: BatchAnalyzer, buffers: FrameBuffers, deliver: Callable[[Analysis], None], most: int, workers: int,
    device: int = 0,
) -> None:
    """A worker's life: takes frames, analyses and delivers them; returns when the buffers are closed and have none.

    Args:
        analyzer: its own.
        buffers: where the frames wait.
        deliver: takes each analysis.
        most: frames to analyse in one go.
        workers: that take from these buffers, for the same device.
        device: which one the analyzer uses, of those that the streams are dealt out to.
    """
    while tickets := buffers.take(most, workers, device):
        analyses = analyzer.analyze(tickets)
        buffers.give_back(tickets)
        for analysis in analyses:
            deliver(analysis)


def _no_faces() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

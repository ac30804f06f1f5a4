"""Finds the faces of frames and reads their emotions: heavy, stateless, one object for each worker."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotiond.config import DetectorConfig, StreamConfig
from emotiond.frames import FrameBuffers, Ticket
from emotiond.metrics import Metrics
from emotiond.picture import DetectorView, Picture, Scalers
from emotionnet.classifier import Classifier, NonFiniteError
from emotionnet.preprocess import InputSpec, crop_square, expand_range
from yunet.detector import Detector, Faces

MAX_FAILURES = 100     # frames in a row that a network fails on before the analyzer gives up, and the daemon with it
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
    """

    ticket: Ticket
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    failed: bool = False


class Analyzer:
    """Runs detector and classifier over a batch of frames; not for several threads at once."""

    def __init__(
        self, detector: Detector, classifier: Classifier, config: DetectorConfig, streams: dict[str, StreamConfig],
        metrics: Metrics,
    ) -> None:
        self._detector, self._classifier, self._config = detector, classifier, config
        self._streams, self._metrics = streams, metrics
        self._scalers = Scalers()
        self._failures = 0       # in a row
        self._running = "yunet"  # which network an exception is put down to

    def analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        """Analyses frames of any streams; the crops of all their faces go to the classifier in one call.

        A batch that makes a network fail, or needs more memory than its device has, is tried in halves; a frame that
        fails alone becomes a tombstone.
        """
        self._running = "yunet"
        try:
            analyses = self._analyze(tickets)
            self._failures = 0
            return analyses
        except Exception as error:  # a bad frame must not harm the others
            if len(tickets) > 1:
                half = len(tickets) // 2
                return self.analyze(tickets[:half]) + self.analyze(tickets[half:])
            self._failures += 1
            if self._failures >= MAX_FAILURES:  # not the frames' fault: a lost GPU, say
                raise
            reason = "non_finite" if isinstance(error, NonFiniteError) else "exception"
            self._metrics.inference_errors.labels(self._running, reason).inc()
            log.warning("frame could not be analysed: %s", error,
                        extra={"stream": tickets[0].frame.stream, "frame": tickets[0].frame.index})
            return [Analysis(tickets[0], *_no_faces(), self._no_probabilities(), failed=True)]

    def _analyze(self, tickets: Sequence[Ticket]) -> list[Analysis]:
        begin = time.monotonic()
        faces = self._detect(tickets)
        detected = time.monotonic()
        self._running = "emotionnet"
        crops = [self._crops(ticket, found) for ticket, found in zip(tickets, faces, strict=True)]
        stacked = np.concatenate(crops)
        probabilities = self._classifier.classify(stacked) if len(stacked) else self._no_probabilities()
        self._metrics.stage["detect"].observe(detected - begin)
        self._metrics.batch["yunet"].observe(len(tickets))
        if len(stacked):
            self._metrics.stage["classify"].observe(time.monotonic() - detected)
            self._metrics.batch["emotionnet"].observe(len(stacked))
        ends = np.cumsum([len(found.scores) for found in faces])
        return [Analysis(ticket, found.boxes, found.scores, part) for ticket, found, part
                in zip(tickets, faces, np.split(probabilities, ends[:-1]), strict=True)]

    def _detect(self, tickets: Sequence[Ticket]) -> list[Faces]:
        views: list[DetectorView] = []
        for ticket in tickets:
            config = self._streams[ticket.frame.stream]
            views.append(ticket.frame.picture.detector_view(
                self._scalers, self._config.width, config.region, config.masks))
        found = self._detector.detect([view.planes for view in views])
        return [self._select(ticket, faces, view) for ticket, faces, view in zip(tickets, found, views, strict=True)]

    def _select(self, ticket: Ticket, faces: Faces, view: DetectorView) -> Faces:
        """Scales boxes to the displayed picture, clips them, leaves out the small and the many."""
        boxes = to_picture(faces.boxes, view, ticket.frame.picture)
        large = np.minimum(boxes[:, 2], boxes[:, 3]) >= self._config.min_face
        boxes, scores = boxes[large], faces.scores[large]
        over = len(scores) - self._config.max_faces
        if over > 0:
            self._metrics.faces_truncated.labels(ticket.frame.stream).inc(over)
        return Faces(boxes[:self._config.max_faces], scores[:self._config.max_faces])

    def _crops(self, ticket: Ticket, faces: Faces) -> NDArray[np.uint8]:
        return crop_faces(ticket.frame.picture, self._scalers, faces.boxes, self._classifier.info.input,
                          self._streams[ticket.frame.stream].masks)

    def _no_probabilities(self) -> NDArray[np.float32]:
        return np.zeros((0, len(self._classifier.info.labels)), np.float32)


def to_picture(boxes: NDArray[np.float32], view: DetectorView, picture: Picture) -> NDArray[np.float32]:
    """Turns boxes (N, 4) in pixels of a detector's view into pixels of the displayed picture, clipped to it."""
    (scale_x, scale_y), (offset_x, offset_y) = view.scale, view.offset
    left = np.clip(boxes[:, 0] * scale_x + offset_x, 0, picture.width)
    top = np.clip(boxes[:, 1] * scale_y + offset_y, 0, picture.height)
    right = np.clip((boxes[:, 0] + boxes[:, 2]) * scale_x + offset_x, 0, picture.width)
    bottom = np.clip((boxes[:, 1] + boxes[:, 3]) * scale_y + offset_y, 0, picture.height)
    return np.stack((left, top, right - left, bottom - top), axis=1).astype(np.float32)


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


def work(analyzer: Analyzer, buffers: FrameBuffers, deliver: Callable[[Analysis], None], most: int) -> None:
    """A worker's life: takes up to `most` frames, analyses, delivers; returns when the buffers are closed and empty."""
    while tickets := buffers.take(most):
        for analysis in analyzer.analyze(tickets):
            deliver(analysis)


def _no_faces() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)

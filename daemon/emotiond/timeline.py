"""A stream's timeline: puts analyses back into frame order and makes events of them. Light, stateful."""

import math
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emotiond.analyzer import Analysis
from emotiond.config import ClassifierConfig
from emotiond.events import Box, Face, FrameEvent, Smoothed
from emotiond.frames import Drop, Frame, FrameLedger
from emotiond.tracker import Track, Tracker
from emotionnet.weights import WeightsInfo

MOST_WAITING = 32  # analyses of a stream that wait for an earlier one

Emit = Callable[[FrameEvent, Frame], None]


def abstain_below(config: ClassifierConfig, model: WeightsInfo) -> float:
    """Returns the confidence below which a face counts as abstained: the configuration's, or the weights' own."""
    return model.calibration.abstain_below if config.abstain_below == "auto" else config.abstain_below


class Timeline:
    """Turns one stream's analyses, delivered in any order by any thread, into its events, in order.

    Attributes:
        tracker: gives its faces their track ids.
    """

    def __init__(
        self, config: ClassifierConfig, stream_labels: dict[str, str], model: WeightsInfo, ledger: FrameLedger,
        emit: Emit, tracker: Tracker | None = None, purpose: str | None = None,
    ) -> None:
        """Makes the timeline.

        Args:
            config: smoothing and abstention.
            stream_labels: carried in every event.
            model: whose labels the probabilities have.
            ledger: learns what was analysed.
            emit: takes the event of every analysed frame, in order; may wait.
            tracker: of the timeline that had the stream before.
            purpose: what for, carried in every event.
        """
        self._config, self._stream_labels, self._purpose = config, stream_labels, purpose
        self._model, self._ledger, self._emit = model, ledger, emit
        self._abstain_below = abstain_below(config, model)
        self.tracker = tracker or Tracker()
        self._changed = threading.Condition()
        self._waiting: dict[int, Analysis] = {}
        self._next = 0
        self._emitting = False

    def deliver(self, analysis: Analysis) -> None:
        """Takes an analysis; whoever brings the one that was waited for works off all that follow it.

        Where many wait already, the caller waits with them, so that a slow sink slows the analyzers down.
        """
        with self._changed:
            self._waiting[analysis.ticket.number] = analysis
            while self._emitting or self._next not in self._waiting:
                if len(self._waiting) < MOST_WAITING:
                    return
                self._changed.wait()
            self._emitting = True
        while (ready := self._take_next()) is not None:
            try:
                self._process(ready)
            except BaseException:
                self._stop_emitting()
                raise

    def _take_next(self) -> Analysis | None:
        """Returns the next analysis, or None and stops emitting, in one step: no delivery falls in between."""
        with self._changed:
            ready = self._waiting.pop(self._next, None)
            if ready is None:
                self._stop_emitting()
            else:
                self._next += 1
                self._changed.notify_all()
            return ready

    def _stop_emitting(self) -> None:
        with self._changed:  # a Condition's lock may be taken again by its own thread
            self._emitting = False
            self._changed.notify_all()

    def _process(self, analysis: Analysis) -> None:
        frame = analysis.ticket.frame
        if analysis.failed:
            self._ledger.dropped(frame.stream, Drop.INFERENCE_ERROR)
            return
        self._emit(self._event(frame, self._faces(analysis)), frame)
        self._ledger.analyzed(frame.stream)

    def _faces(self, analysis: Analysis) -> list[Face]:
        now = analysis.ticket.frame.captured_us / 1_000_000
        tracks = self.tracker.update(analysis.boxes, now)
        return [self._face(analysis, index, track) for index, track in enumerate(tracks)]

    def _smooth(self, track: Track, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Exponential moving average with time constant `smoothing_seconds`, right for uneven frame times."""
        tau = self._config.smoothing_seconds
        if track.smoothed is None or tau <= 0:
            return probabilities
        keep = math.exp(-track.elapsed / tau)
        return keep * track.smoothed + (1 - keep) * probabilities

    def _face(self, analysis: Analysis, index: int, track: Track) -> Face:
        probabilities = analysis.probabilities[index].astype(np.float64)
        track.smoothed = self._smooth(track, probabilities)
        labels = self._model.labels
        best, best_smoothed = int(probabilities.argmax()), int(track.smoothed.argmax())
        smoothed = Smoothed(labels[best_smoothed], round(float(track.smoothed[best_smoothed]), 4))
        left, top, width, height = analysis.boxes[index].tolist()
        x, y = round(left), round(top)
        picture = analysis.ticket.frame.picture
        box = Box(x, y, min(round(left + width), picture.width) - x, min(round(top + height), picture.height) - y)
        return Face(
            track.id, box, round(float(analysis.scores[index]), 4), labels[best], round(float(probabilities[best]), 4),
            {label: round(value, 4) for label, value in zip(labels, probabilities.tolist(), strict=True)},
            smoothed, smoothed.confidence < self._abstain_below, bool(analysis.carried[index]))

    def _event(self, frame: Frame, faces: list[Face]) -> FrameEvent:
        pts = None if frame.pts is None else round(frame.pts, 6)
        return FrameEvent(frame.stream, frame.index, pts, frame.clock, frame.picture.width, frame.picture.height,
                          self._stream_labels, faces, self._model.model_id, self._purpose)

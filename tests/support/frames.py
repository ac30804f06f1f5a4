"""Frames and what was found in them, made by hand, and a timeline that they are delivered to."""

from functools import cache
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame

from emotiond.analyzer import Analysis
from emotiond.config import ClassifierConfig
from emotiond.events import Box, Face, FrameEvent, Smoothed
from emotiond.frames import Clock, Frame, FrameLedger, Ticket
from emotiond.picture import Picture
from emotiond.timeline import Emit, Timeline
from emotionnet.weights import LABELS, WeightsInfo, load_info

Rows = list[list[float]]

BOX = Box(100, 80, 60, 70)
FACE: Rows = [[100.0, 80.0, 60.0, 70.0]]
NEUTRAL, HAPPY = LABELS.index("neutral"), LABELS.index("happy")


@cache
def blank_picture(width: int = 640, height: int = 360) -> Picture:
    """Returns a picture of nothing."""
    return Picture(VideoFrame(width, height, "yuv420p"))


def make_frame(
    stream: str = "lobby", index: int = 0, *, arrived: float = 0.0, captured_us: int | None = None,
    pts: float | None = None, clock: Clock = "arrival", size: tuple[int, int] = (640, 360),
) -> Frame:
    """Returns a frame; captured 40 ms after the one before it unless said otherwise."""
    captured_us = index * 40_000 if captured_us is None else captured_us
    return Frame(stream, index, pts, captured_us, clock, arrived, captured_us, blank_picture(*size))


def make_analysis(
    number: int = 0, boxes: Rows | None = None, probabilities: Rows | None = None, *, frame: Frame | None = None,
    failed: bool = False, scores: list[float] | None = None,
) -> Analysis:
    """Returns what an analyzer found: `boxes`, and of each face its probabilities, evenly spread by default."""
    boxes = boxes or []
    probabilities = [[1 / len(LABELS)] * len(LABELS)] * len(boxes) if probabilities is None else probabilities
    return Analysis(
        Ticket(frame or make_frame(index=number), number),
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores or [0.9] * len(boxes), np.float32),
        np.array(probabilities, np.float32).reshape(len(boxes), len(LABELS)), np.zeros(len(boxes), np.bool_), failed)


class Stage:
    """A timeline of the stream `lobby` with its ledger, and what it emitted."""

    def __init__(
        self, *, smoothing: float = 0.0, abstain: float | Literal["auto"] = 0.0, emit: Emit | None = None,
        model: WeightsInfo | None = None,
    ) -> None:
        self.ledger = FrameLedger()
        self.ledger.add_stream("lobby")
        self.events: list[FrameEvent] = []
        self.timeline = Timeline(
            ClassifierConfig(smoothing_seconds=smoothing, abstain_below=abstain), {"site": "hq"},
            model or load_info(), self.ledger, emit or self.emit)

    def emit(self, event: FrameEvent, frame: Frame) -> None:
        assert frame.index == event.frame
        self.events.append(event)

    def deliver(
        self, number: int, boxes: Rows | None = None, probabilities: Rows | None = None, *,
        frame: Frame | None = None, failed: bool = False, scores: list[float] | None = None,
    ) -> None:
        self.ledger.read("lobby")
        self.timeline.deliver(make_analysis(number, boxes, probabilities, frame=frame, failed=failed, scores=scores))

    @property
    def frames(self) -> list[int]:
        return [event.frame for event in self.events]


def certain(label: int, probability: float = 1.0) -> list[float]:
    """Returns probabilities that give one label so much, and the others the rest."""
    rest = (1 - probability) / (len(LABELS) - 1)
    return [probability if index == label else rest for index in range(len(LABELS))]


def make_face(
    track: int = 1, box: Box = BOX, emotion: str = "happy", confidence: float = 0.8, *,
    unsure: bool = False,
) -> Face:
    """Returns a face that shows an emotion, in this frame and smoothed."""
    probabilities = {label: confidence if label == emotion else 0.0 for label in LABELS}
    return Face(track, box, 0.9, emotion, confidence, probabilities, Smoothed(emotion, confidence), unsure)


def make_event(faces: list[Face], frame: Frame) -> FrameEvent:
    """Returns the event of a frame."""
    return FrameEvent(frame.stream, frame.index, frame.pts, frame.clock, frame.picture.width, frame.picture.height, {},
                      faces, "emotionnet-test")

"""What an event says of a face: track, smoothing over uneven times, abstention, whole pixels, rounded numbers."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotionnet.weights import LABELS, Calibration, load_info
from tests.support.frames import FACE, HAPPY, NEUTRAL, Stage, certain, make_frame

MODEL = load_info()


def test_an_event_says_what_was_found() -> None:
    stage = Stage()
    frame = make_frame("lobby", 5, pts=41.13300004, clock="rtcp")

    stage.deliver(0, [[10.4, 20.6, 30.0, 40.0]], [certain(HAPPY, 0.88)], frame=frame, scores=[0.93456])

    event = stage.events[0]
    face = event.faces[0]
    assert (event.stream, event.frame, event.pts, event.clock) == ("lobby", 5, 41.133, "rtcp")
    assert (event.width, event.height, event.labels, event.model) == (640, 360, {"site": "hq"}, MODEL.model_id)
    assert (face.track_id, face.score, face.emotion, face.confidence, face.abstained) == (
        1, 0.9346, "happy", 0.88, False)
    assert (face.box.x, face.box.y, face.box.width, face.box.height) == (10, 21, 30, 40)
    assert list(face.probabilities) == list(LABELS)
    assert face.probabilities["sad"] == 0.02


def test_without_smoothing_the_smoothed_is_the_frames_own() -> None:
    stage = Stage(smoothing=0)

    for number, label in enumerate((HAPPY, NEUTRAL, HAPPY)):
        stage.deliver(number, FACE, [certain(label, 0.7)])

    assert [event.faces[0].smoothed.emotion for event in stage.events] == ["happy", "neutral", "happy"]
    assert {event.faces[0].smoothed.confidence for event in stage.events} == {0.7}


def smoothed_after(steps_ms: list[int], tau: float) -> float:
    """Returns `happy` of a face that is neutral first, and happy at every later sighting."""
    stage = Stage(smoothing=tau)
    at_us = 0
    stage.deliver(0, FACE, [certain(NEUTRAL)], frame=make_frame(captured_us=at_us))
    for number, step in enumerate(steps_ms, 1):
        at_us += step * 1000
        stage.deliver(number, FACE, [certain(HAPPY)], frame=make_frame(index=number, captured_us=at_us))
    face = stage.events[-1].faces[0]
    return face.smoothed.confidence if face.smoothed.emotion == "happy" else 1 - face.smoothed.confidence


@given(st.lists(st.integers(1, 900), min_size=1, max_size=8), st.sampled_from([0.2, 0.5, 2.0]))
def test_smoothing_depends_on_time_and_not_on_how_many_frames_it_had(steps_ms: list[int], tau: float) -> None:
    expected = 1 - math.exp(-sum(steps_ms) / 1000 / tau)

    assert smoothed_after(steps_ms, tau) == pytest.approx(expected, abs=1e-4)


def test_each_track_is_smoothed_by_itself() -> None:
    stage = Stage(smoothing=0.5)
    other = [400.0, 80.0, 60.0, 70.0]

    for number in range(20):
        turned = number % 2 == 1
        boxes, rows = [FACE[0], other], [certain(HAPPY, 0.9), certain(NEUTRAL, 0.6)]
        stage.deliver(number, boxes[::-1] if turned else boxes, rows[::-1] if turned else rows)

    for event in stage.events:
        seen = {face.track_id: (face.smoothed.emotion, face.smoothed.confidence) for face in event.faces}
        assert seen == {1: ("happy", 0.9), 2: ("neutral", 0.6)}


def test_a_clock_that_goes_back_does_not_disturb_smoothing() -> None:
    stage = Stage(smoothing=0.5)
    for number, at_us in enumerate((10_000_000, 9_000_000, 9_500_000)):
        stage.deliver(number, FACE, [certain(HAPPY if number else NEUTRAL)],
                      frame=make_frame(index=number, captured_us=at_us))

    assert [event.faces[0].smoothed.emotion for event in stage.events] == ["neutral", "neutral", "happy"]
    assert stage.events[2].faces[0].smoothed.confidence == pytest.approx(1 - math.exp(-1), abs=1e-4)


@pytest.mark.parametrize(("confidence", "abstained"), [(0.5499, True), (0.55, False)])
def test_left_to_the_weights_a_face_abstains_below_what_their_calibration_says(
    confidence: float, abstained: bool
) -> None:
    stage = Stage(abstain="auto", model=replace(MODEL, calibration=Calibration(abstain_below=0.55)))

    stage.deliver(0, FACE, [certain(HAPPY, confidence)])

    assert stage.events[0].faces[0].abstained is abstained


@pytest.mark.parametrize(("confidence", "abstained"), [(0.3999, True), (0.4, False), (0.4001, False)])
def test_a_face_below_the_threshold_is_marked_as_abstained(confidence: float, abstained: bool) -> None:
    stage = Stage(abstain=0.4)

    stage.deliver(0, FACE, [certain(HAPPY, confidence)])

    assert stage.events[0].faces[0].abstained is abstained


def test_abstention_goes_by_the_smoothed_confidence() -> None:
    stage = Stage(smoothing=10.0, abstain=0.5)

    stage.deliver(0, FACE, [certain(HAPPY, 0.3)])
    stage.deliver(1, FACE, [certain(HAPPY, 0.9)])

    face = stage.events[1].faces[0]
    assert (face.confidence, face.abstained) == (0.9, True)
    assert face.smoothed.confidence < 0.31


@given(st.lists(st.floats(0.001, 1), min_size=len(LABELS), max_size=len(LABELS)))
def test_numbers_are_rounded_to_four_decimals(weights: list[float]) -> None:
    stage = Stage()

    stage.deliver(0, FACE, [[weight / sum(weights) for weight in weights]], scores=[weights[0]])

    face = stage.events[0].faces[0]
    for value in (face.score, face.confidence, face.smoothed.confidence, *face.probabilities.values()):
        assert value == round(value, 4)
    assert face.confidence == max(face.probabilities.values()) == face.probabilities[face.emotion]
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=4e-4)


@given(st.tuples(*[st.floats(0, 1, width=32)] * 4))
def test_boxes_are_whole_pixels_within_the_picture(corners: tuple[float, float, float, float]) -> None:
    left, right = sorted(np.float32(corner) * np.float32(640) for corner in corners[:2])
    top, bottom = sorted(np.float32(corner) * np.float32(360) for corner in corners[2:])
    stage = Stage()

    stage.deliver(0, [[float(left), float(top), float(right - left), float(bottom - top)]])

    box = stage.events[0].faces[0].box
    assert 0 <= box.x <= box.x + box.width <= 640
    assert 0 <= box.y <= box.y + box.height <= 360
    assert max(abs(box.x - left), abs(box.y - top)) <= 0.5
    assert max(abs(box.x + box.width - right), abs(box.y + box.height - bottom)) <= 0.51


def test_track_ids_count_up_in_the_order_of_the_frames() -> None:
    stage = Stage()
    places = [[150.0 * i, 100.0, 60.0, 70.0] for i in range(4)]

    for number in reversed(range(4)):
        stage.deliver(number, places[:number + 1])

    found = [[face.track_id for face in event.faces] for event in stage.events]
    assert found == [[1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert all(set(before) < set(after) for before, after in pairwise(found))

"""Faces between two searches of the whole picture: found again where they moved, lost where they are gone."""

from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotiond.analyzer import Analysis, Analyzer
from emotiond.config_file import make_config
from emotiond.follow import LARGEST, MARGIN, STILL, Window, match, window_around
from emotiond.frames import Frame, FrameGroup, FrameLedger, Ticket
from emotiond.metrics import Metrics
from emotiond.picture import DetectorView, Picture
from emotiond.pipeline import load_models
from emotiond.tracker import iou
from emotionnet.classifier import Classifier, NonFiniteError
from tests.support.pictures import Place, face_frames
from yunet.colour import Colour
from yunet.decode import STRIDES
from yunet.detector import Faces

WIDTH, HEIGHT = 640, 384
BLANK = DetectorView(np.zeros((3, HEIGHT, WIDTH), np.uint8), Colour.YUV_601, (1.0, 1.0), (0.0, 0.0))


def boxes(*rows: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def faces(*rows: tuple[float, float, float, float], scores: list[float] | None = None) -> Faces:
    return Faces(boxes(*rows), np.array(scores or [0.9] * len(rows), np.float32))


@given(st.floats(-20, WIDTH + 20), st.floats(-20, HEIGHT + 20), st.floats(4, 400), st.floats(0.6, 1.7))
def test_a_window_lies_in_the_view_holds_the_face_and_fits_the_networks_strides(
    x: float, y: float, side: float, shape: float
) -> None:
    box = boxes((x - side / 2, y - side / 2 * shape, side, side * shape))[0]

    window = window_around(BLANK, box)

    left, top = window.offset
    assert left % STRIDES[-1] == top % STRIDES[-1] == 0
    height, width = window.planes.shape[1:]
    right, bottom = left + width * window.scale[0], top + height * window.scale[1]
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT
    for low, high, begin, end, size in (
        (left, right, box[0], box[0] + box[2], WIDTH), (top, bottom, box[1], box[1] + box[3], HEIGHT)):
        assert low <= max(begin, 0) or begin >= size - STRIDES[-1]
        assert high >= min(end, size)
    assert max(width, height) <= MARGIN * 1.7 * LARGEST + 4 * STRIDES[-1]
    assert window.shrunk == (float(np.sqrt(box[2] * box[3])) > LARGEST)


def test_each_window_gives_its_own_face_and_one_that_has_none_is_lost() -> None:
    before = boxes((100, 100, 40, 50), (300, 100, 40, 50), (500, 100, 40, 50))
    windows = [window_around(BLANK, box) for box in before]
    in_window = [(box[0] - window.offset[0] + 3, box[1] - window.offset[1], box[2], box[3])
                 for box, window in zip(before.tolist(), windows, strict=True)]

    followed = match(windows, [
        faces((0, 0, 20, 20), in_window[0], scores=[.95, .5]), faces((0, 0, 20, 20)), faces(in_window[2])], before)

    assert followed.faces.scores.tolist() == pytest.approx([.9, .5])
    np.testing.assert_allclose(followed.faces.boxes, boxes((503, 100, 40, 50), (103, 100, 40, 50)))
    assert followed.lost.tolist() == [[300, 100, 40, 50]]


def test_two_windows_that_come_upon_one_face_give_it_once() -> None:
    before = boxes((100, 100, 40, 50), (118, 100, 40, 50))
    windows = [Window(BLANK.planes, (1.0, 1.0), (0, 0), shrunk=False)] * 2

    followed = match(windows, [faces((110, 100, 40, 50), scores=[.7]), faces((110, 100, 40, 50), scores=[.8])], before)

    assert followed.faces.scores.tolist() == pytest.approx([.8])
    assert not len(followed.lost)


def test_a_large_face_stays_where_it_was_until_it_has_moved() -> None:
    before = boxes((100, 100, 200, 200))
    window = window_around(BLANK, before[0])
    assert window.shrunk

    def follow(x: float) -> list[float]:
        moved = (np.array((x - window.offset[0], 100 - window.offset[1], 200, 200)) / np.tile(window.scale, 2)).tolist()
        return match([window], [faces(tuple(moved))], before).faces.boxes[0].tolist()

    assert follow(100 + 200 * STILL - 2) == [100, 100, 200, 200]
    assert follow(100 + 200 * STILL + 2) == pytest.approx([100 + 200 * STILL + 2, 100, 200, 200], abs=.1)


def test_no_boxes_give_no_faces() -> None:
    followed = match([], [], boxes())

    assert (len(followed.faces.boxes), len(followed.faces.scores), len(followed.lost)) == (0, 0, 0)


class Stumbling:
    """A classifier that fails the first time."""

    def __init__(self, classifier: Classifier) -> None:
        self.info, self._classifier, self._calls = classifier.info, classifier, 0

    def classify(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._calls += 1
        if self._calls == 1:
            raise NonFiniteError("no numbers")
        return self._classifier.classify(crops)


def analyze(places: list[list[Place]], interval: int, stumble: bool = False) -> list[NDArray[np.float32]]:
    """Returns the boxes in pictures with heads at these places, of which every so many are searched whole."""
    return [analysis.boxes for analysis in analyze_fully(places, interval, stumble=stumble)]


def analyze_fully(
    places: list[list[Place]], interval: int, classify_every: int = 1, *, stumble: bool = False,
    at_once: int | None = None, groups: int = 1
) -> list[Analysis]:
    """Returns what is found where so many groups of pictures take turns."""
    config = make_config({"detector": {"interval": interval}, "streams": {"door": {"source": "x.mp4"}}})
    detector, classifier = load_models(config, "cpu")
    classifier = Stumbling(classifier) if stumble else classifier
    analyzer = Analyzer(
        detector, classifier, config.detector, dict(config.streams), Metrics(FrameLedger(), classifier.info.labels),
        classify_every)
    turns, tickets = [FrameGroup() for _ in range(groups)], list[Ticket]()
    for number, rgb in enumerate(face_frames(len(places), where=lambda number: places[number])):
        turn, place = number % groups, number // groups
        if place % interval == 0:
            turns[turn] = FrameGroup()
        picture = Picture(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p"))
        tickets.append(Ticket(Frame("door", number, None, number, "file", 0.0, None, picture), number, turns[turn]))
    at_once = at_once or len(tickets)
    return [analysis for begin in range(0, len(tickets), at_once)
            for analysis in analyzer.analyze(tickets[begin:begin + at_once])]


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_followed_faces_are_classified_every_so_many_frames_and_keep_their_answers_in_between(at_once: int) -> None:
    places: list[list[Place]] = [[(20 + 12 * number, 30, 110), (420 - 8 * number, 60, 160)] for number in range(7)]
    for number in (1, 3):       # the other is not seen for a moment: the second time where it would be classified
        places[number] = places[number][:1]

    alone, kept = analyze_fully(places, 7), analyze_fully(places, 7, 3, at_once=at_once)

    assert not any(analysis.carried.any() for analysis in alone)
    assert [dict(zip((analysis.boxes[:, 0] > 250).tolist(), analysis.carried.tolist(), strict=True))
            for analysis in kept] == [
        {False: False, True: False}, {False: True}, {False: True, True: False}, {False: False},
        {False: True, True: False}, {False: True, True: True}, {False: False, True: False}]
    for number, analysis in enumerate(kept):
        np.testing.assert_array_equal(analysis.boxes, alone[number].boxes)
        for row, carried in enumerate(analysis.carried):
            before = kept[number - 1] if carried else alone[number]
            face = int(iou(analysis.boxes[row][None], before.boxes)[0].argmax())
            np.testing.assert_array_equal(analysis.probabilities[row], before.probabilities[face])
    assert not np.array_equal(alone[0].probabilities[0], alone[0].probabilities[1])


def test_every_search_of_a_whole_picture_classifies_too() -> None:
    places: list[list[Place]] = [[(20 + 12 * number, 30, 110)] for number in range(4)]

    assert [analysis.carried.tolist() for analysis in analyze_fully(places, 2, 100)] == [[False], [True]] * 2
    assert not any(analysis.carried.any() for analysis in analyze_fully(places, 1, 100))


def test_where_large_faces_are_searched_whole_they_keep_their_answers_and_one_that_comes_gets_its_own() -> None:
    places: list[list[Place]] = [[(20 + 6 * number, 30, 290)] for number in range(4)]
    places[2] = [*places[2], (400, 90, 200)]

    alone, kept = analyze_fully(places, 4), analyze_fully(places, 4, 4)

    assert [analysis.carried.sum() for analysis in kept] == [0, 1, 1, 1]
    for analysis, own in zip(kept, alone, strict=True):
        np.testing.assert_array_equal(analysis.boxes, own.boxes)
        for carried, row, fresh in zip(analysis.carried, analysis.probabilities, own.probabilities, strict=True):
            np.testing.assert_array_equal(row, alone[0].probabilities[0] if carried else fresh)


def test_answers_are_kept_also_where_a_batch_was_tried_again() -> None:
    places: list[list[Place]] = [[(20 + 25 * number, 30, 160)] for number in range(8)]

    kept = analyze_fully(places, 8, 4, stumble=True)

    assert sum(int(analysis.carried.sum()) for analysis in kept) >= 4
    for before, analysis in pairwise(kept):
        assert analysis.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-3)
        assert not analysis.carried[0] or np.array_equal(analysis.probabilities, before.probabilities)


def test_of_two_boxes_that_come_upon_one_face_it_was_the_nearer_one() -> None:
    before = boxes((100, 100, 60, 60), (118, 100, 60, 60), (300, 100, 60, 60))
    windows = [Window(np.zeros((3, 384, 640), np.uint8), (1.0, 1.0), (0, 0), False)] * 3
    found = [Faces(boxes((106, 100, 60, 60)), np.array([score], np.float32)) for score in (.80, .81)]
    nothing = Faces(boxes(), np.zeros(0, np.float32))

    followed = match(windows, [*found, nothing], before)

    assert followed.faces.boxes.tolist() == [[106, 100, 60, 60]]
    assert followed.origins.tolist() == [0, 2]


def test_faces_of_several_streams_in_one_batch_keep_their_own_answers() -> None:
    left: list[list[Place]] = [[(20 + 8 * number, 30, 110)] for number in range(3)]
    right: list[list[Place]] = [[(420 - 8 * number, 60, 160)] for number in range(3)]

    together = analyze_fully([place for pair in zip(left, right, strict=True) for place in pair], 3, 3, groups=2)

    for own, mixed in ((analyze_fully(left, 3, 3), together[::2]), (analyze_fully(right, 3, 3), together[1::2])):
        for expected, analysis in zip(own, mixed, strict=True):
            assert analysis.carried.tolist() == expected.carried.tolist()
            np.testing.assert_allclose(analysis.probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.parametrize("side", [110, 300], ids=["small", "large"])
def test_a_face_that_walks_is_followed_and_one_that_comes_is_found_with_the_next_search(side: int) -> None:
    places: list[list[Place]] = [[(20 + 12 * number, 30, side)] for number in range(8)]
    for number in range(4, 8):
        places[number] = [*places[number], (460, 60, 160)]

    whole, followed = analyze(places, 1), analyze(places, 7)

    assert [len(found) for found in whole] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [len(found) for found in followed] == [1, 1, 1, 1, 1, 1, 1, 2]
    for expected, found in zip(whole, followed, strict=True):
        assert iou(expected, found).max(axis=0).min() > 0.6


def test_a_face_that_goes_is_lost_at_once_and_found_again_where_it_was() -> None:
    here: list[Place] = [(100, 30, 160)]

    assert [len(found) for found in analyze([here, here, [], [], here, here], 6)] == [1, 1, 0, 0, 1, 1]


def test_frames_that_are_tried_again_follow_what_came_before_them_and_not_after() -> None:
    places: list[list[Place]] = [[(20 + 25 * number, 30, 160)] for number in range(8)]

    for once, again in zip(analyze(places, 8), analyze(places, 8, stumble=True), strict=True):
        assert len(once) == len(again) == 1
        assert iou(once, again).min() > 0.6


def test_where_nobody_was_nobody_is_found_before_the_next_search() -> None:
    here: list[Place] = [(100, 30, 160)]

    assert [len(found) for found in analyze([[], [], here, here], 3)] == [0, 0, 0, 1]

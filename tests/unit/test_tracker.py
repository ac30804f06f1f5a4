"""Track ids: the same face keeps its own from frame to frame, and no two faces of a frame share one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotiond.tracker import LOST_SECONDS, Track, Tracker, iou

STEP = 1 / 15

BOX = st.tuples(st.floats(0, 600), st.floats(0, 600), st.floats(1, 300), st.floats(1, 300))


def boxes(*rows: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32).reshape(-1, 4)


def ids(tracks: list[Track]) -> list[int]:
    return [track.id for track in tracks]


def test_a_face_that_moves_keeps_its_id() -> None:
    tracker = Tracker()

    seen = [ids(tracker.update(boxes((100 + 10 * i, 100 + 5 * i, 80 + i, 100)), i * STEP)) for i in range(40)]

    assert seen == [[1]] * 40


def test_a_face_elsewhere_is_another() -> None:
    tracker = Tracker()
    tracker.update(boxes((100, 100, 80, 100)), 0)

    assert ids(tracker.update(boxes((300, 100, 80, 100)), STEP)) == [2]


def test_ids_follow_the_faces_whatever_their_order() -> None:
    tracker = Tracker()
    left, middle, right = (0, 0, 50, 50), (200, 0, 50, 50), (400, 0, 50, 50)
    tracker.update(boxes(left, middle, right), 0)

    assert ids(tracker.update(boxes(right, left, middle), STEP)) == [3, 1, 2]
    assert ids(tracker.update(boxes(middle), 2 * STEP)) == [2]
    assert ids(tracker.update(boxes(middle, right), 3 * STEP)) == [2, 3]


def test_of_two_faces_the_one_that_overlaps_more_keeps_the_id() -> None:
    tracker = Tracker()
    tracker.update(boxes((100, 100, 100, 100)), 0)

    assert ids(tracker.update(boxes((140, 100, 100, 100), (105, 100, 100, 100)), STEP)) == [2, 1]


def test_faces_that_pass_each_other_apart_keep_their_ids() -> None:
    tracker = Tracker()

    for i in range(31):
        found = tracker.update(boxes((20.0 * i, 100, 60, 60), (600 - 20.0 * i, 200, 60, 60)), i * STEP)
        assert ids(found) == [1, 2]


@pytest.mark.parametrize(("gap", "kept"), [(LOST_SECONDS, True), (LOST_SECONDS + 0.01, False)])
def test_a_face_may_be_away_for_a_second(gap: float, kept: bool) -> None:
    tracker = Tracker()
    tracker.update(boxes((100, 100, 80, 80)), 10.0)
    tracker.update(boxes(), 10.0 + gap / 2)

    assert ids(tracker.update(boxes((100, 100, 80, 80)), 10.0 + gap)) == ([1] if kept else [2])


def test_a_clock_that_goes_back_ends_no_track() -> None:
    tracker = Tracker()
    tracker.update(boxes((100, 100, 80, 80)), 1000.0)

    found = tracker.update(boxes((100, 100, 80, 80)), 10.0)[0]
    assert (found.id, found.elapsed) == (1, 0.0)
    found = tracker.update(boxes((100, 100, 80, 80)), 10.5)[0]
    assert (found.id, found.elapsed) == (1, 0.5)


def test_an_id_is_never_given_twice() -> None:
    tracker = Tracker()
    given_out = [ids(tracker.update(boxes((100, 100, 80, 80)), 10.0 * i))[0] for i in range(20)]

    assert given_out == list(range(1, 21))


@given(st.lists(st.lists(BOX, max_size=12), max_size=8))
def test_every_face_of_a_frame_gets_an_id_of_its_own(frames: list[list[tuple[float, float, float, float]]]) -> None:
    tracker = Tracker()

    for number, rows in enumerate(frames):
        found = tracker.update(boxes(*rows), number * STEP)

        assert len(set(ids(found))) == len(found) == len(rows)
        for track, row in zip(found, boxes(*rows), strict=True):
            assert (track.box == row).all()
            assert track.seen == number * STEP


def test_many_faces_are_matched_at_once() -> None:
    tracker = Tracker()
    chance = np.random.default_rng(1)
    grid = boxes(*[(60.0 * (i % 20), 60.0 * (i // 20), 50.0, 50.0) for i in range(200)])
    first = {track.id: tuple(box) for track, box in zip(tracker.update(grid, 0), grid.tolist(), strict=True)}
    order = chance.permutation(200)

    found = tracker.update(grid[order], STEP)

    assert {track.id: tuple(box) for track, box in zip(found, grid[order].tolist(), strict=True)} == first


@pytest.mark.parametrize(("a", "b", "expected"), [
    ((0, 0, 10, 10), (0, 0, 10, 10), 1), ((0, 0, 10, 10), (5, 0, 10, 10), 1 / 3), ((0, 0, 10, 10), (10, 0, 10, 10), 0),
    ((0, 0, 10, 10), (2, 2, 5, 4), 0.2), ((0, 0, 10, 10), (50, 50, 1, 1), 0), ((5, 5, 0, 0), (5, 5, 0, 0), 0)])
def test_overlap_is_intersection_over_union(
    a: tuple[float, float, float, float], b: tuple[float, float, float, float], expected: float
) -> None:
    assert iou(boxes(a), boxes(b))[0, 0] == pytest.approx(expected)


@given(st.lists(BOX, max_size=5), st.lists(BOX, max_size=5))
def test_overlaps_are_a_share_and_the_same_both_ways(
    a: list[tuple[float, float, float, float]], b: list[tuple[float, float, float, float]]
) -> None:
    overlaps = iou(boxes(*a), boxes(*b))

    assert overlaps.shape == (len(a), len(b))
    assert ((overlaps >= 0) & (overlaps <= 1 + 1e-3)).all()
    np.testing.assert_allclose(overlaps, iou(boxes(*b), boxes(*a)).T, atol=1e-3)


def test_what_is_forgotten_gets_the_next_id() -> None:
    tracker = Tracker()
    box = np.array([[10, 10, 50, 50]], np.float32)
    assert [tracker.update(box, second)[0].id for second in (0.0, 0.1)] == [1, 1]
    tracker.forget()
    assert tracker.update(box, 0.2)[0].id == 2

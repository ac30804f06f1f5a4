"""What is blurred: the faces of a frame, and those that were missed in it."""

import pytest

from emotiond.events import Box
from emotiond.outputs.veil import MOST_BYTES, MOST_HELD, Veil, Veiled
from tests.support.frames import make_event, make_face, make_frame

BOX, ELSEWHERE, AROUND = Box(100, 80, 60, 70), Box(140, 80, 60, 70), Box(100, 80, 100, 70)
UHD = 3840, 2160


def veil(
    frames: list[dict[int, Box]], every_us: int = 100_000, found: dict[int, list[Box]] | None = None,
    sizes: list[tuple[int, int]] | None = None,
) -> list[list[Box]]:
    """Returns what is hidden in each frame, given the boxes of its tracks and what else was found in it."""
    it, out = Veil(), list[Veiled]()
    for index, tracks in enumerate(frames):
        frame = make_frame(index=index, captured_us=index * every_us, size=sizes[index] if sizes else (640, 360))
        event = make_event([make_face(track, box) for track, box in tracks.items()], frame)
        out += it.take(event, frame, (found or {}).get(index, ()))
    out += it.rest()
    assert [frame.index for _, frame, _ in out] == list(range(len(frames)))
    return [boxes for _, _, boxes in out]


def test_every_frame_comes_out_once_and_in_order_with_its_faces_hidden() -> None:
    assert veil([{1: BOX}, {}, {}, {}, {}, {2: ELSEWHERE}], every_us=10_000_000) == [
        [BOX], [BOX], [BOX], [ELSEWHERE], [ELSEWHERE], [ELSEWHERE]]


def test_a_face_that_is_missed_is_hidden_where_it_was_and_will_be() -> None:
    hidden = veil([{1: BOX}, {}, {}, {1: ELSEWHERE}])

    assert hidden[1] == hidden[2] == [AROUND]


def test_a_face_that_is_found_only_later_is_hidden_half_a_second_before() -> None:
    assert veil([{}] * 8 + [{1: BOX}]) == [[]] * 3 + [[BOX]] * 6


def test_a_face_that_is_lost_stays_hidden_for_a_second() -> None:
    assert veil([{1: BOX}] + [{}] * 15) == [[BOX]] * 11 + [[]] * 5


def test_a_face_that_is_seen_is_hidden_there_and_nowhere_else() -> None:
    assert veil([{1: BOX}, {1: ELSEWHERE}, {1: BOX}]) == [[BOX], [ELSEWHERE], [BOX]]


@pytest.mark.parametrize("every_us", [16_667, 40_000, 100_000, 500_000, 1_900_000])
def test_a_gap_that_a_track_outlives_is_hidden_wholly(every_us: int) -> None:
    missed = 1_900_000 // every_us - 1

    hidden = veil([{1: BOX}] + [{}] * missed + [{1: ELSEWHERE}], every_us)

    assert hidden == [[BOX]] + [[AROUND]] * missed + [[ELSEWHERE]]


@pytest.mark.parametrize(("rate", "size"), [(60, (1920, 1080)), (60, UHD), (120, (1920, 1080))])
def test_half_a_second_is_looked_ahead_at_high_rates_too(rate: int, size: tuple[int, int]) -> None:
    frames: list[dict[int, Box]] = [{}] * rate + [{1: BOX}]

    hidden = veil(frames, 1_000_000 // rate, sizes=[size] * len(frames))

    assert hidden == [[]] * (rate - rate // 2) + [[BOX]] * (rate // 2 + 1)


def test_far_apart_two_frames_before_and_after_are_hidden() -> None:
    assert veil([{}] * 3 + [{1: BOX}] + [{}] * 3, every_us=60_000_000) == [[]] + [[BOX]] * 5 + [[]]


def test_what_only_may_be_a_face_is_hidden_and_followed_as_faces_are() -> None:
    hidden = veil([{1: BOX}, {}, {1: BOX}], found={0: [Box(300, 80, 60, 70)], 2: [Box(320, 80, 60, 70)]})

    assert hidden[0] == [BOX, Box(300, 80, 60, 70)]
    assert hidden[1] == [Box(300, 80, 80, 70), BOX]
    assert hidden[2] == [BOX, Box(320, 80, 60, 70)]


def test_where_the_size_of_pictures_changes_boxes_of_others_are_not_hidden() -> None:
    assert veil([{1: BOX}, {}, {}, {2: ELSEWHERE}], found={0: [AROUND]}, sizes=[(640, 360)] * 2 + [(320, 240)] * 2) == [
        [BOX, AROUND], [AROUND, BOX], [ELSEWHERE], [ELSEWHERE]]


@pytest.mark.parametrize(("size", "most"), [((640, 360), MOST_HELD), (UHD, MOST_BYTES * 2 // 3 // (3840 * 2160))])
def test_few_pictures_are_held_back_where_times_stand_still(size: tuple[int, int], most: int) -> None:
    it = Veil()
    for index in range(2 * most):
        frame = make_frame(index=index, captured_us=index, size=size)
        passed = len(list(it.take(make_event([], frame), frame)))
        assert passed == (index >= most)

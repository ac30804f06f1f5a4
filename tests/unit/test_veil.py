"""What is blurred: the faces of a frame, and those that were missed in it."""

from emotiond.events import Box
from emotiond.outputs.veil import MOST_HELD, Veil, Veiled
from tests.support.frames import make_event, make_face, make_frame

BOX, ELSEWHERE = Box(100, 80, 60, 70), Box(140, 80, 60, 70)


def veil(frames: list[dict[int, Box]], every_us: int = 100_000) -> list[list[Box]]:
    """Returns what is hidden in each frame, given the boxes of its tracks."""
    it, out = Veil(), list[Veiled]()
    for index, tracks in enumerate(frames):
        frame = make_frame(index=index, captured_us=index * every_us)
        out += it.take(make_event([make_face(track, box) for track, box in tracks.items()], frame), frame)
    out += it.rest()
    assert [frame.index for _, frame, _ in out] == list(range(len(frames)))
    return [boxes for _, _, boxes in out]


def test_every_frame_comes_out_once_and_in_order_with_its_faces_hidden() -> None:
    assert veil([{1: BOX}, {}, {2: ELSEWHERE}], every_us=10_000_000) == [[BOX], [], [ELSEWHERE]]


def test_a_face_that_is_missed_is_hidden_where_it_was_and_will_be() -> None:
    hidden = veil([{1: BOX}, {}, {}, {1: ELSEWHERE}])

    assert hidden[1] == hidden[2] == [Box(100, 80, 100, 70)]


def test_a_face_that_is_found_only_later_is_hidden_half_a_second_before() -> None:
    assert veil([{}] * 8 + [{1: BOX}]) == [[]] * 3 + [[BOX]] * 6


def test_a_face_that_is_lost_stays_hidden_for_a_second() -> None:
    assert veil([{1: BOX}] + [{}] * 15) == [[BOX]] * 11 + [[]] * 5


def test_a_face_that_is_seen_is_hidden_there_and_nowhere_else() -> None:
    assert veil([{1: BOX}, {1: ELSEWHERE}, {1: BOX}]) == [[BOX], [ELSEWHERE], [BOX]]


def test_few_pictures_are_held_back_whatever_the_rate() -> None:
    it = Veil()
    for index in range(100):
        frame = make_frame(index=index, captured_us=index)
        passed = len(list(it.take(make_event([], frame), frame)))
        assert passed == (index >= MOST_HELD)

"""Faces drawn into a picture, and hidden in it, whatever its size."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotiond.draw import Pixels, bgr, blur_box, blur_faces, draw_faces
from emotiond.events import Box
from emotiond.palette import EMOTIONS, UNSURE
from tests.support.frames import make_face


def grey(width: int, height: int) -> Pixels:
    return np.full((height, width, 3), 128, np.uint8)


def is_colour(pixels: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    return (pixels == np.array(bgr(colour))).all(axis=-1)


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("background", [0, 128, 255])
def test_a_face_has_a_box_in_its_emotions_colour_within_a_dark_rim(emotion: str, background: int) -> None:
    picture = np.full((360, 640, 3), background, np.uint8)

    draw_faces(picture, [make_face(box=Box(300, 100, 80, 120), emotion=emotion)])

    for edge in (picture[100, 305:375], picture[219, 305:375], picture[105:215, 300], picture[105:215, 379]):
        assert is_colour(edge, EMOTIONS[emotion]).all()
    for rim in (picture[221, 305:375], picture[105:215, 298], picture[105:215, 381]):
        assert not rim.any()
    assert (picture[110:210, 310:370] == background).all()      # the face itself is left as it is


def test_an_unsure_face_has_a_grey_box_that_is_interrupted_and_no_emotion() -> None:
    sure, unsure = grey(640, 360), grey(640, 360)

    draw_faces(sure, [make_face(box=Box(300, 100, 80, 120))])
    draw_faces(unsure, [make_face(box=Box(300, 100, 80, 120), unsure=True)])

    edge = is_colour(unsure[105:215, 300], UNSURE)
    assert 0.3 < edge.mean() < 0.7
    assert not is_colour(unsure, EMOTIONS["happy"]).any()
    assert is_colour(sure, EMOTIONS["happy"]).sum() > 1.5 * is_colour(unsure, UNSURE).sum()    # its label is longer


def test_labels_stay_in_the_picture_and_cover_no_other() -> None:
    boxes = [Box(0, 0, 60, 60), Box(580, 0, 60, 60), Box(0, 300, 60, 60), Box(580, 300, 60, 60), Box(300, 150, 40, 40),
             Box(310, 160, 40, 40), Box(320, 170, 40, 40)]
    alone = [grey(640, 360) for _ in boxes]
    together = grey(640, 360)

    draw_faces(together, [make_face(n, box) for n, box in enumerate(boxes)])
    for picture, box in zip(alone, boxes, strict=True):
        draw_faces(picture, [make_face(box=box)])

    plates = [is_colour(picture, EMOTIONS["happy"]).sum() for picture in alone]
    assert min(plates) > 0.9 * max(plates) - 4 * 60 * 2      # each is whole, though its box lies at an edge
    assert is_colour(together, EMOTIONS["happy"]).sum() > 0.8 * sum(plates)


def test_where_there_is_no_room_for_all_labels_the_nearest_faces_have_theirs() -> None:
    picture = grey(200, 100)
    faces = [make_face(n, Box(60 + n, 30 + n, 80 - n, 40 - n), "happy" if n else "angry") for n in range(30)]

    draw_faces(picture, faces)

    assert is_colour(picture, EMOTIONS["angry"]).sum() > 80 * 12      # its label's plate


def test_a_reduced_picture_has_its_boxes_scaled() -> None:
    picture = grey(320, 180)

    draw_faces(picture, [make_face(box=Box(600, 200, 160, 240))], scale=0.25)

    assert is_colour(picture[50, 155:185], EMOTIONS["happy"]).all()
    assert is_colour(picture[109, 155:185], EMOTIONS["happy"]).all()


@settings(max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), st.data())
def test_any_box_in_a_picture_of_any_size_is_drawn_and_hidden(width: int, height: int, data: st.DataObject) -> None:
    picture = grey(width, height)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    face = make_face(box=Box(x, y, data.draw(st.integers(0, width - x)), data.draw(st.integers(0, height - y))),
                     unsure=data.draw(st.booleans()))

    blur_faces(picture, [face])
    assert (picture == 128).all()
    draw_faces(picture, [face])


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("box", [
    Box(260, 90, 120, 150), Box(0, 0, 100, 120), Box(560, 260, 80, 100), Box(0, 0, 640, 360), Box(300, 100, 8, 9)])
def test_of_what_is_hidden_no_detail_is_left_and_the_rest_stays(box: Box) -> None:
    original = noise(640, 360)
    picture = original.copy()

    blur_box(picture, box)

    inside = picture[box.y:box.y + box.height, box.x:box.x + box.width]
    assert not (inside == original[box.y:box.y + box.height, box.x:box.x + box.width]).all(axis=-1).any()
    if min(box.width, box.height) >= 40:
        assert detail(inside) < 0.01 * detail(original)
    changed = np.argwhere((picture != original).any(axis=-1))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert left >= box.x - 0.31 * box.width - 1
    assert right <= box.x + 1.31 * box.width + 1
    assert top >= box.y - 0.31 * box.height - 1
    assert bottom <= box.y + 1.31 * box.height + 1


def test_what_is_hidden_follows_from_a_few_averages_alone() -> None:
    """Whatever moves within a sixth of the hidden part changes nothing: nobody can work it out again."""
    one = noise(192, 192)
    blocks = one.reshape(6, 32, 6, 32, 3).transpose(0, 2, 1, 3, 4).reshape(36, 1024, 3)
    mixed = np.random.default_rng(8).permuted(blocks, axis=1)
    other = np.ascontiguousarray(mixed.reshape(6, 6, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(192, 192, 3))
    box = Box(36, 36, 120, 120)      # with its margin it is the whole picture

    blur_box(one, box)
    blur_box(other, box)

    inside = np.s_[36:156, 36:156]
    assert (other[inside] == one[inside]).mean() > 0.98      # some averages are rounded the other way
    assert np.abs(other[inside].astype(int) - one[inside]).max() <= 1


def detail(pixels: Pixels) -> float:
    """Returns how much neighbouring pixels differ."""
    return float(cv2.Laplacian(pixels, cv2.CV_64F).var())

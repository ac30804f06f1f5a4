"""Crops and normalisation: the one way from a picture to the network's input."""

import numpy as np
import pytest

from emotionnet.preprocess import InputSpec, crop_square, normalize, resize

PLAIN = InputSpec(side=64, margin=1.0, shift_y=0.0)


def gradient(height: int, width: int) -> np.ndarray:
    """Returns luma that rises by one a column, so that a crop's position can be read from its values."""
    return np.broadcast_to(np.arange(width, dtype=np.uint8), (height, width)).copy()


def test_a_crop_of_the_inputs_own_size_is_the_picture_itself() -> None:
    crop = crop_square(gradient(200, 200), (10, 20, 64, 64), PLAIN)

    assert np.array_equal(crop, gradient(200, 200)[20:84, 10:74])


def test_the_square_of_an_oblong_box_has_its_area_and_its_centre() -> None:
    picture = np.zeros((300, 300), np.uint8)
    picture[150 - 64:150 + 64, 150 - 64:150 + 64] = 255  # 128 px square around the centre of a 64 x 256 box

    crop = crop_square(picture, (150 - 32, 150 - 128, 64, 256), PLAIN)

    assert crop.min() == 255
    assert crop_square(picture, (150 - 32, 150 - 128, 64, 256), InputSpec(margin=1.2, shift_y=0.0)).min() == 0


def test_a_positive_shift_moves_the_crop_down() -> None:
    picture = gradient(200, 200).T

    low, high = (crop_square(picture, (50, 50, 64, 64), InputSpec(margin=1.0, shift_y=s)) for s in (0.25, 0.0))

    assert int(low[0, 0]) - int(high[0, 0]) == 16


@pytest.mark.parametrize("box", [(-30, -30, 64, 64), (170, 170, 64, 64), (-30, 170, 64, 64), (-50, -50, 400, 400)])
def test_a_square_over_the_pictures_edge_repeats_the_edges_pixels(box: tuple[float, float, float, float]) -> None:
    crop = crop_square(gradient(200, 200), box, PLAIN)

    x, _, width, _ = box
    assert crop.shape == (64, 64)
    assert (crop[0, 0], crop[0, -1]) == (max(x, 0), pytest.approx(min(x + width, 200) - 1, abs=4))


def test_a_box_outside_the_picture_gives_a_black_crop_not_an_error() -> None:
    assert crop_square(gradient(100, 100), (500, 500, 40, 40), PLAIN).max() == 0


def test_large_faces_are_averaged_over_their_area_rather_than_sampled() -> None:
    stripes = np.zeros((640, 640), np.uint8)
    stripes[:, ::2] = 255

    shrunk = resize(stripes, 64)

    assert shrunk.std() < 2
    assert abs(int(shrunk.mean()) - 127) <= 2


def test_normalisation_gives_grey_in_three_equal_channels() -> None:
    crops = np.array([0, 255], np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)

    out = normalize(crops, PLAIN)

    assert out.shape == (2, 3, 64, 64)
    assert np.ptp(out, axis=1).max() == 0
    assert out[:, 0, 0, 0] == pytest.approx([-0.5077 / 0.2550, (1 - 0.5077) / 0.2550], rel=1e-5)


@pytest.mark.parametrize("values", [
    {"side": 65}, {"side": 0}, {"side": 64.0}, {"mean": 2.0}, {"std": 0.0}, {"margin": 0.0}, {"shift_y": float("nan")},
])
def test_values_that_cannot_be_right_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="the input's"):
        InputSpec(**values)  # type: ignore[arg-type]

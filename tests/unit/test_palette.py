"""One colour for each emotion, which everybody can tell from the others and read text on."""

import re
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotiond.palette import EMOTIONS, UNSURE, colour_of, in_order, ink_on, shown_emotion, to_rgb
from emotionnet.weights import LABELS
from tests.support.frames import make_face

# G. M. Machado et al., "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009
VISIONS = {
    "trichromat": np.eye(3),
    "protanope": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                           [-0.003882, -0.048116, 1.051998]]),
    "deuteranope": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                             [-0.011820, 0.042940, 0.968881]]),
    "tritanope": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                           [0.004733, 0.691367, 0.303900]]),
}
TOLD_APART = 15      # in CIELAB; a just noticeable difference is about 2


def seen(colour: str, vision: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns L, a, b of a colour as somebody sees it."""
    encoded = np.array(to_rgb(colour)) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(vision @ linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(encoded.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB).reshape(3).astype(np.float64)


@pytest.mark.parametrize("vision", VISIONS)
def test_every_colour_is_told_from_the_others_with_any_vision(vision: str) -> None:
    colours = {**EMOTIONS, "unsure": UNSURE}
    for one, other in combinations(colours, 2):
        distance = np.linalg.norm(seen(colours[one], VISIONS[vision]) - seen(colours[other], VISIONS[vision]))
        assert distance > TOLD_APART, f"{one} and {other}: {distance:.0f}"


def test_every_label_of_the_built_in_weights_has_a_colour_of_its_own() -> None:
    assert set(EMOTIONS) == set(LABELS)
    assert len({*EMOTIONS.values(), UNSURE}) == 8


def test_another_class_has_the_same_colour_in_every_process() -> None:
    assert [colour_of("bored"), colour_of("begeistert"), colour_of("喜")] == ["#8DE052", "#5BE052", "#52AFE0"]


@given(st.text())
def test_any_class_has_a_colour_with_readable_ink(name: str) -> None:
    colour = colour_of(name)

    assert re.fullmatch("#[0-9A-F]{6}", colour)
    assert contrast(colour, ink_on(colour)) >= 4.5      # WCAG 2's AA


def contrast(one: str, other: str) -> float:
    linear = [np.array([value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
                        for value in np.array(to_rgb(colour)) / 255]) for colour in (one, other)]
    low, high = sorted(float(part @ (0.2126, 0.7152, 0.0722)) for part in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*EMOTIONS.values(), UNSURE])
def test_ink_is_readable_on_every_colour(colour: str) -> None:
    assert contrast(colour, ink_on(colour)) >= 4.5


def test_what_is_shown_of_a_face_is_smoothed_and_nothing_where_it_abstained() -> None:
    assert shown_emotion(make_face(emotion="sad")) == "sad"
    assert shown_emotion(make_face(emotion="sad", unsure=True)) is None


def test_emotions_are_sorted_alike_everywhere_with_other_classes_after_them_and_unsure_last() -> None:
    assert in_order([None, "zest", "awe", "surprise", "angry"]) == ["angry", "surprise", "awe", "zest", None]

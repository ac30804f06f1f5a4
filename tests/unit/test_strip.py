"""The strip below an annotated video: shares of the last ten seconds, the newest at the right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emotiond.draw import bgr
from emotiond.events import Face
from emotiond.outputs.strip import MOST_FRAMES, SECONDS, Strip
from emotiond.palette import EMOTIONS, UNSURE
from tests.support.frames import make_face

WIDTH = 200      # 20 columns a second
HAPPY, SAD = make_face(emotion="happy"), make_face(emotion="sad")


def shares(strip: Strip, colour: str) -> NDArray[np.float64]:
    """Returns what part of each column of the band has a colour."""
    return (strip._band == np.array(bgr(colour))).all(axis=-1).mean(axis=0)


def strip_of(frames: list[tuple[float, list[Face]]]) -> Strip:
    strip = Strip(WIDTH, 15, odd=False)
    for seconds, faces in frames:
        strip.add(round(seconds * 1_000_000), faces)
    return strip


def test_a_frame_has_the_shares_of_its_faces_until_the_next_one() -> None:
    strip = strip_of([(0, [HAPPY]), (1, [HAPPY, SAD]), (2, []), (3, [make_face(unsure=True)])])

    happy, sad, unsure = (shares(strip, colour) for colour in (EMOTIONS["happy"], EMOTIONS["sad"], UNSURE))
    assert happy[-60:-41].tolist() == [1] * 19
    assert happy[-40:-21] == pytest.approx([0.5] * 19, abs=0.03)
    assert sad[-40:-21] == pytest.approx([0.5] * 19, abs=0.03)
    assert not (happy + sad + unsure)[-20:-1].any()
    assert unsure[-1] == 1
    assert not happy[:-61].any()      # before the first frame


def test_after_ten_seconds_a_frame_is_gone() -> None:
    strip = strip_of([(0, [HAPPY]), (0.1, []), (SECONDS - 0.2, [])])
    assert shares(strip, EMOTIONS["happy"]).any()
    strip.add((SECONDS + 1) * 1_000_000, [])
    assert not shares(strip, EMOTIONS["happy"]).any()


def test_uneven_rates_lose_no_column() -> None:
    strip = strip_of([(n * 0.0137, [HAPPY]) for n in range(1000)])

    assert shares(strip, EMOTIONS["happy"]).tolist() == [1] * WIDTH


def test_what_is_kept_stays_bounded_where_times_stand_still() -> None:
    strip = strip_of([(1.0, [SAD])] * 100 + [(1.0, [HAPPY])] * MOST_FRAMES)

    assert len(strip._recent) == MOST_FRAMES
    assert strip._shares == {"happy": MOST_FRAMES}


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(10, 60), st.booleans(), st.lists(st.tuples(
    st.integers(0, 10**12), st.lists(st.sampled_from([HAPPY, SAD, make_face(emotion="x" * 90)]), max_size=5)),
    max_size=9))
def test_a_strip_of_any_size_takes_any_times(
    width: int, size: int, odd: bool, frames: list[tuple[int, list[Face]]]
) -> None:
    strip = Strip(width, size, odd)
    for number, (at_us, faces) in enumerate(frames):
        strip.add(at_us, faces)
        picture = strip.draw(at_us, number)
        assert picture.shape == (strip.height, width, 3)
    assert strip.height % 2 == odd

"""Emotions counted over time, bounded for videos of any length."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.events import Face
from emotiond.outputs.chart import MOST_BINS, MOST_LANES, ChartFile, StreamChart, in_runs
from emotiond.outputs.chart_html import draw_page
from emotiond.outputs.tracks import MOST_TRACKS, Tracks, format_clock
from tests.support.frames import make_event, make_face, make_frame

HOUR_US = 3_600_000_000


def chart_of(frames: list[tuple[int, list[Face]]], name: str = "lobby") -> StreamChart:
    chart = StreamChart(name, 0)
    for at_us, faces in frames:
        chart.add(faces, at_us)
    chart.finish()
    return chart


def test_bins_are_wide_enough_that_none_is_empty_between_two_frames() -> None:
    chart = chart_of([(round(n * 1e6 / 15), [make_face()]) for n in range(150)])

    assert chart.bin_us == 200_000
    assert [chart.analysed[place] for place in range(chart.bins)] == [3] * 50
    assert chart.faces == {place: Counter({"happy": 3}) for place in range(50)}


@given(st.lists(st.tuples(st.integers(0, 20 * HOUR_US), st.sampled_from(["happy", "sad", None]), st.integers(1, 5)),
                min_size=1, max_size=60))
def test_however_long_a_video_is_no_face_goes_missing_and_the_bins_are_few(
    seen: list[tuple[int, str | None, int]]
) -> None:
    seen.sort(key=lambda item: item[0])
    chart = chart_of([(at, [make_face(track, emotion=emotion or "sad", unsure=emotion is None)])
                      for at, emotion, track in seen])

    assert chart.bins <= MOST_BINS
    assert max(chart.analysed) < chart.bins
    assert chart.analysed.total() == len(seen)
    assert sum(chart.faces.values(), Counter()) == Counter(emotion for _, emotion, _ in seen)
    expected = Counter((at // chart.bin_us, emotion) for at, emotion, _ in seen)
    assert {(place, emotion): count for place, counts in chart.faces.items()
            for emotion, count in counts.items()} == expected
    for lane in chart.lanes():
        mine = [(at // chart.bin_us, emotion) for at, emotion, track in seen if track == lane.track.id]
        assert {bar.bin: bar.of for bar in lane.bars} == Counter(place for place, _ in mine)
        assert lane.track.frames == len(mine)


def test_a_bar_shows_what_is_seen_in_most_of_its_frames_and_how_surely() -> None:
    faces = [make_face(confidence=0.9), make_face(confidence=0.6), make_face(emotion="sad", confidence=0.99)]

    lane, = chart_of([(n * 10, [face]) for n, face in enumerate(faces)]).lanes()

    bar, = lane.bars
    assert (bar.emotion, bar.frames, bar.of, bar.confidence) == ("happy", 2, 3, 0.75)


def test_of_many_tracks_the_most_seen_are_shown_and_the_rest_is_counted() -> None:
    frames = [(n * 40_000, [make_face(track) for track in range(1, 41) if n < 5 * track]) for n in range(200)]

    chart = chart_of(frames)

    assert [lane.track.id for lane in chart.lanes()] == list(range(41 - MOST_LANES, 41))
    assert chart.track_count == 40


def test_tracks_that_were_seen_least_are_forgotten_but_for_those_that_may_come_again() -> None:
    tracks, gone = Tracks(), list[int]()
    for track in range(5 * MOST_TRACKS):
        for again in range(1 + track % 2):
            gone += tracks.see([make_face(track)], track * 10_000_000 + again)

    assert tracks.count == 5 * MOST_TRACKS
    kept = tracks.most_seen(10 * MOST_TRACKS)
    assert MOST_TRACKS <= len(kept) <= 2 * MOST_TRACKS
    assert len(gone) == 5 * MOST_TRACKS - len(kept)
    assert all(track.frames == 2 for track in kept[:MOST_TRACKS])


def test_rectangles_of_one_height_in_a_row_become_one() -> None:
    assert in_runs([(0, 0, 1), (1, 0, 1), (2, 0, .5), (4, 0, .5), (5, 0, 0)]) == [(0, 2, 0, 1), (2, 3, 0, .5),
                                                                              (4, 5, 0, .5)]


@pytest.mark.parametrize(("us", "words"), [
    (0, "0:00.0"), (7_399_999, "0:07.3"), (62_000_000, "1:02.0"), (HOUR_US + 127_300_000, "1:02:07.3")])
def test_places_in_a_video_are_written_as_players_write_them(us: int, words: str) -> None:
    assert format_clock(us) == words


@pytest.mark.parametrize("length_us", [0, 300_000, 1_000_000, 12_000_000, 61_000_000, HOUR_US, 50 * HOUR_US])
def test_an_axis_has_a_few_round_marks(length_us: int) -> None:
    ticks = chart_of([(0, []), (length_us, [])]).ticks()

    assert 1 <= len(ticks) <= 10
    assert ticks[0][0] == 0
    assert len({text for _, text in ticks}) == len(ticks)


def test_the_page_of_a_day_with_a_crowd_is_small() -> None:
    charts = [chart_of([(n * 1_000_000, [make_face(n // 30 + k, confidence=(n * 7 % 100) / 100) for k in range(5)])
                        for n in range(0, 86_400, 3)], f"camera-{number}") for number in range(4)]

    assert len(draw_page(charts)) < 3_000_000


def test_a_name_in_the_page_stays_text() -> None:
    name = "</script><script>alert(1)</script>"

    page = draw_page([chart_of([(0, [make_face(emotion=name)])])]).decode()

    assert "<script>alert" not in page
    figures = json.loads(page.split('<script type="application/json" id="figures">')[1].split("</script>")[0])
    assert figures["streams"][0]["faces"] == {name: [1]}


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    page = draw_page([chart_of([(0, [make_face()])])]).decode()

    assert not re.search(r"https?:|//[a-z]|<link|<img|\ssrc=|@import|url\((?!#unsure)", page)
    assert "default-src 'none'" in page


def test_a_stream_without_a_frame_has_no_chart(tmp_path: Path) -> None:
    file = ChartFile(tmp_path / "a.html", ["lobby"])
    file.close()
    assert not (tmp_path / "a.html").exists()


def test_pictures_are_left_out_of_a_chart(tmp_path: Path) -> None:
    file, frame = ChartFile(tmp_path / "a.html", ["lobby"]), make_frame("photo")
    file.take(make_event([make_face()], frame), frame)
    file.close()
    assert not (tmp_path / "a.html").exists()

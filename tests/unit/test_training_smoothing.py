"""What smoothing costs and brings, measured on faces whose changes are known."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from emotiontrain.evaluation.smoothing import Track, lasting_changes, main, measure, read_tracks, smooth
from tests.support.frames import FACE, Stage, make_frame

RATE = 25


def track(emotions: list[int], sure: float = 0.8) -> Track:
    """Returns a face at 25 frames a second with these emotions of seven, each frame's own."""
    probabilities = np.full((len(emotions), 7), (1 - sure) / 6)
    probabilities[np.arange(len(emotions)), emotions] = sure
    return Track(np.arange(len(emotions)) / RATE, probabilities)


def test_the_average_is_the_daemons() -> None:
    random = np.random.default_rng(4)
    times, values = np.cumsum(random.uniform(0.02, 0.3, 20)), random.dirichlet(np.ones(7), 20)
    stage = Stage(smoothing=0.5)

    for number, (time, row) in enumerate(zip(times.tolist(), values.tolist(), strict=True)):
        stage.deliver(number, FACE, [row], frame=make_frame(index=number, captured_us=round(time * 1e6)))

    expected = [event.faces[0].smoothed.confidence for event in stage.events]
    assert smooth(Track(times, values), 0.5).max(axis=1) == pytest.approx(expected, abs=2e-4)


def test_single_frames_flip_without_smoothing_and_not_with_it() -> None:
    flickering = track([4 if frame % 10 == 5 else 3 for frame in range(251)])

    none, half = (measure([flickering], window) for window in (0.0, 0.5))

    assert none.flips == pytest.approx(2 * 25 / (10 / 60))
    assert half.flips == 0
    assert none.changes == half.changes == 0
    assert np.isnan(half.lag)


def test_noise_of_the_confidence_shrinks_with_the_window() -> None:
    values = np.random.default_rng(2).dirichlet([1, 1, 1, 20, 1, 1, 1], 500)
    noisy = Track(np.arange(500) / RATE, values)

    noise = [measure([noisy], window).noise for window in (0.0, 0.5, 2.0)]

    assert noise[0] == pytest.approx(np.sqrt((np.diff(values[:, 3]) ** 2).mean()), rel=1e-6)
    assert noise[2] < noise[1] / 2 < noise[0] / 10


def test_a_lasting_change_is_followed_later_the_longer_the_window() -> None:
    change = track([3] * 100 + [5] * 100)

    assert [(begin, after) for begin, _, after in lasting_changes(change)] == [(100, 5)]
    lags = [measure([change], window).lag for window in (0.0, 0.5, 1.0)]
    assert lags == pytest.approx([0.0, 0.5 * np.log(2), np.log(2)], abs=1 / RATE)
    assert measure([change], 0.5).followed == 1
    assert measure([change], 60.0).followed == 0


def test_a_blink_of_another_emotion_is_no_lasting_change() -> None:
    assert list(lasting_changes(track([3] * 100 + [5] * 20 + [3] * 100))) == []


def write_events(path: Path, faces: Track) -> Path:
    start = datetime(2026, 1, 31, tzinfo=UTC)
    names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    path.write_text("".join(json.dumps({
        "subject": "lobby", "time": (start + timedelta(seconds=time)).isoformat().replace("+00:00", "Z"),
        "data": {"faces": [{"track_id": 1, "probabilities": dict(zip(names, values, strict=True))}]}}) + "\n"
        for time, values in zip(faces.times.tolist(), faces.probabilities.tolist(), strict=True)))
    return path


def test_the_command_reads_events_and_prints_a_line_a_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = track([3] * 100 + [5] * 100)
    path = write_events(tmp_path / "events.jsonl", face)

    (read,) = read_tracks(path)
    assert read.probabilities == pytest.approx(face.probabilities)
    assert main([str(path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 faces, 8 s"
    assert [line.split()[0] for line in lines[2:]] == ["0.00s", "0.25s", "0.50s", "0.75s", "1.00s", "1.50s", "2.00s"]


def test_files_that_are_no_events_end_with_66(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no events")
    (tmp_path / "empty").write_text("")

    for name, words in (("text", "cannot be read as events"), ("none", "cannot be read"), ("empty", "no face is seen")):
        assert main([str(tmp_path / name)]) == 66
        assert words in capsys.readouterr().err

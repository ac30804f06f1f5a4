"""What the live page's board keeps and forgets, and what its pictures leave out."""

import time
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame

from emotiond.config_file import make_config, make_stream_config
from emotiond.events import Box, Face, FrameEvent, Smoothed
from emotiond.frames import Frame
from emotiond.live.board import EVENTS_KEPT, HISTORY, MOST_EVENTS, Board, Cursor
from emotiond.live.message import Message
from emotiond.live.preview import Preview
from emotiond.picture import Picture
from emotiond.pipeline import Pipeline

EVERYTHING = [[0.0, 0.0, 1.0, 1.0]]


class Stage:
    """A board of a pipeline that does not run."""

    def __init__(self) -> None:
        config = make_config({"http": {"preview": True}})
        self.pipeline = Pipeline(config, lambda event, frame: None)
        self.board = Board(config, self.pipeline, lambda: None)
        self.preview = Preview(self.board, blur=False)
        self.cursor = Cursor()

    def add(self, name: str, masks: Sequence[Sequence[float]] = ()) -> None:
        self.pipeline.add_stream(name, make_stream_config({"source": "lavfi:testsrc2", "masks": masks}))

    def remove(self, name: str) -> None:
        self.pipeline.readers = {other: reader for other, reader in self.pipeline.readers.items() if other != name}

    def take(self, name: str, number: int, emotions: Sequence[str] = ("happy",)) -> None:
        picture = Picture(VideoFrame.from_ndarray(np.full((120, 160, 3), 200, np.uint8), format="rgb24"))
        faces = [Face(1, Box(20, 20, 40, 40), 0.9, emotion, 0.9, {}, Smoothed(emotion, 0.9), abstained=False)
                 for emotion in emotions]
        event = FrameEvent(name, number, None, "arrival", 160, 120, {}, faces, "emotionnet-2.2.0")
        self.board.take(event, Frame(name, number, None, 0, "arrival", 0.0, 0, picture))

    def message(self) -> Message:
        return msgspec.json.decode(self.board.message(self.cursor), type=Message)

    def brightness(self, name: str) -> float | None:
        jpeg = self.preview.jpeg(name)
        if jpeg is None:
            return None
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        return float(pixels.mean())


def test_what_was_masked_when_a_picture_was_taken_stays_so_and_goes_with_its_stream() -> None:
    stage = Stage()
    stage.add("door", EVERYTHING)
    stage.take("door", 0, [])
    assert stage.brightness("door") == 0

    stage.add("door")       # another configuration, and no frame by it yet
    assert stage.brightness("door") == 0
    stage.take("door", 1, [])
    assert stage.brightness("door") == pytest.approx(200, abs=10)
    stage.add("door", EVERYTHING)
    assert stage.brightness("door") == 0
    stage.remove("door")
    assert stage.brightness("door") is None


def test_streams_that_are_gone_are_forgotten_with_nobody_looking() -> None:
    stage = Stage()
    for number in range(20):
        stage.add(f"camera-{number}")
        stage.take(f"camera-{number}", 0)
        stage.remove(f"camera-{number}")
    stage.board.forget_gone()

    assert stage.board._streams == {}


def test_a_message_tells_what_is_new_and_no_more_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.add("door")
    assert stage.message().events == []
    for number in range(2 * EVENTS_KEPT):
        stage.take("door", number)

    events = stage.message().events
    assert [event.frame for event in events] == list(range(2 * EVENTS_KEPT - MOST_EVENTS, 2 * EVENTS_KEPT))
    assert stage.message().events == []
    stage.take("door", 999, [])
    assert stage.message().events == []       # nobody was there
    assert stage.message().streams["door"].now is not None


def test_a_history_is_of_the_last_minutes_and_begins_anew_where_the_clock_went_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.add("door")
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for number in range(HISTORY + 50):
        stage.take("door", number)
        now += 1
    assert len(stage.message().streams["door"].history) == HISTORY

    now -= 86_400
    stage.take("door", 1000, ["sad", "sad"])
    history = stage.message().streams["door"].history
    assert [(entry.begin, sum(entry.counts)) for entry in history] == [(int(now), 2)]

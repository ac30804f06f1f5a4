"""Counts instead of faces: what a window tells, and what can be learnt from it of those who are few."""

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.config import PrivacyConfig
from emotiond.config_file import make_config, make_stream_config
from emotiond.events import LAST_US, AggregateEvent, Box, Face, FrameEvent, Smoothed
from emotiond.pipeline import Pipeline
from emotiond.privacy import GRACE_SECONDS, Aggregates, Moment
from emotionnet.weights import LABELS
from tests.support.frames import FACE, HAPPY, NEUTRAL, certain, make_analysis, make_frame

WINDOW_S, GROUP = 10, 5
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Seen:
    """What one face showed."""

    emotion: str
    confidence: float = 0.9
    carried: bool = False


def make_event(index: int, faces: Sequence[Seen], stream: str = "lobby") -> FrameEvent:
    return FrameEvent(stream, index, None, "arrival", 640, 360, {"site": "hq"}, [
        Face(track, Box(10 * track, 20, 30, 30), 0.9, seen.emotion, seen.confidence, {seen.emotion: seen.confidence},
             Smoothed(seen.emotion, seen.confidence), abstained=False, carried=seen.carried)
        for track, seen in enumerate(faces)],
        "emotionnet-2.2.0", "counting smiles")


class Stage:
    """Aggregates with a clock set by hand, and what they told."""

    def __init__(self) -> None:
        self.told: list[AggregateEvent] = []
        self.last: list[Moment] = []
        self.now = 0.0
        self.aggregates = Aggregates(
            PrivacyConfig(mode="aggregate", window=WINDOW_S, min_group=GROUP), LABELS, 0.4, self.tell, lambda: self.now)

    def tell(self, event: AggregateEvent, last: Moment) -> None:
        self.told.append(event)
        self.last.append(last)

    def take(self, index: int, faces: Sequence[Seen], seconds: float, stream: str = "lobby") -> None:
        frame = make_frame(stream, index, captured_us=round(seconds * SECOND_US))
        self.aggregates.take(make_event(index, faces, stream), frame)


def test_a_window_tells_counts_of_the_frames_with_a_group_and_nothing_of_the_others() -> None:
    stage = Stage()
    group = [Seen("happy"), Seen("happy"), Seen("sad"), Seen("neutral"), Seen("fear", 0.3)]

    stage.take(0, group, 100.0)
    stage.take(1, group[:4], 103.0)
    stage.take(2, [*group, Seen("happy")], 109.9)
    assert stage.told == []
    stage.take(3, group, 110.0)

    assert stage.told == [AggregateEvent(
        "lobby", "1970-01-01T00:01:40.000000Z", "1970-01-01T00:01:50.000000Z", frames=3, min_group=5, counted=2,
        faces=11, emotions={**dict.fromkeys(LABELS, 0), "happy": 5, "sad": 2, "neutral": 2}, unsure=2,
        labels={"site": "hq"}, model="emotionnet-2.2.0", purpose="counting smiles")]
    assert stage.last == [Moment(2, 109_900_000, stage.now, 109_900_000)]
    body = msgspec.to_builtins(stage.told[0])
    assert not body.keys() & {"box", "track_id", "probabilities", "frame", "pts"}


faces = st.lists(st.builds(Seen, st.sampled_from(LABELS), st.floats(0, 1)), max_size=8)


@given(st.lists(st.tuples(faces, st.floats(0, 8)), max_size=40), st.randoms(use_true_random=False))
def test_whatever_the_faces_of_small_groups_show_the_output_is_the_same(
    frames: list[tuple[list[Seen], float]], chance: random.Random,
) -> None:
    """So that nobody, with whatever cunning, can recover from it what one of them showed."""
    one, other = Stage(), Stage()
    at = 0.0
    for index, (shown, pause) in enumerate(frames):
        at += pause
        one.take(index, shown, at)
        small = len(shown) < GROUP
        other.take(index, [Seen(chance.choice(LABELS), chance.random()) for _ in shown] if small else shown, at)
    one.aggregates.close_all()
    other.aggregates.close_all()

    assert msgspec.json.encode([*one.told, *one.last]) == msgspec.json.encode([*other.told, *other.last])
    assert all(event.counted for event in one.told)
    assert sum(event.faces for event in one.told) == sum(len(shown) for shown, _ in frames if len(shown) >= GROUP)


@given(st.lists(st.tuples(faces, st.floats(0, 8)), max_size=40))
def test_every_face_of_a_group_is_counted_once(frames: list[tuple[list[Seen], float]]) -> None:
    stage = Stage()
    at, expected = 0.0, Counter[str]()
    for index, (shown, pause) in enumerate(frames):
        at += pause
        stage.take(index, shown, at)
        if len(shown) >= GROUP:
            expected.update(seen.emotion if seen.confidence >= 0.4 else "unsure" for seen in shown)
    stage.aggregates.close("lobby")

    told = Counter[str]()
    for event in stage.told:
        told.update(event.emotions | {"unsure": event.unsure})
    assert +told == +expected
    assert [event.start for event in stage.told] == sorted({event.start for event in stage.told})


def test_answers_of_an_earlier_frame_are_not_counted_again() -> None:
    """They may be those of a group that was too small."""
    stage = Stage()
    stage.take(0, [Seen("sad")] * (GROUP - 1), 100)
    stage.take(1, [*[Seen("sad", carried=True)] * (GROUP - 1), Seen("happy")], 101)
    stage.aggregates.close_all()

    assert stage.told == []


def test_a_window_at_the_end_of_time_ends_there() -> None:
    stage = Stage()
    stage.take(0, [Seen("happy")] * GROUP, (LAST_US - SECOND_US) / SECOND_US)
    stage.aggregates.close_all()

    assert stage.told[0].end == "9999-12-31T23:59:59.999999Z"


def test_a_slow_recording_has_each_window_told_once() -> None:
    stage = Stage()
    for index in range(20):
        stage.take(index, [Seen("happy")] * GROUP, 100 + 0.5 * index)
        stage.now += WINDOW_S / 2
        stage.aggregates.close_old()
    stage.aggregates.close_all()

    assert [event.counted for event in stage.told] == [20]


def test_streams_have_windows_of_their_own() -> None:
    stage = Stage()
    stage.take(0, [Seen("happy")] * GROUP, 100, "lobby")
    stage.take(0, [Seen("sad")] * GROUP, 100, "door")
    stage.take(1, [Seen("happy")] * GROUP, 112, "lobby")

    assert [(event.stream, event.emotions["happy"]) for event in stage.told] == [("lobby", GROUP)]
    stage.aggregates.close("door")
    assert stage.told[-1].emotions["sad"] == GROUP
    stage.aggregates.close("door")
    assert len(stage.told) == 2


def test_a_silent_stream_is_told_of_when_its_window_is_over() -> None:
    stage = Stage()
    stage.take(0, [Seen("happy")] * GROUP, 109)

    stage.now = WINDOW_S + GRACE_SECONDS
    stage.aggregates.close_old()
    assert stage.told == []
    stage.now += 0.1
    stage.aggregates.close_old()

    assert len(stage.told) == 1
    stage.take(1, [Seen("happy")] * GROUP, 109.5)      # late: its window is told of a second time, with this one alone
    stage.aggregates.close_all()
    assert [event.counted for event in stage.told] == [1, 1]
    assert stage.told[0].start == stage.told[1].start


@pytest.mark.parametrize("seconds", [95.0, 130.0])
def test_a_clock_that_jumps_begins_another_window(seconds: float) -> None:
    stage = Stage()
    stage.take(0, [Seen("happy")] * GROUP, 105)
    stage.take(1, [Seen("sad")] * GROUP, seconds)
    stage.aggregates.close_all()

    assert [event.emotions["happy"] for event in stage.told] == [GROUP, 0]


# the pipeline, from a timeline's events to what is told of them

@pytest.mark.parametrize("mode", ["frames", "aggregate"])
def test_what_is_told_of_faces_and_counted_of_them_follows_the_mode(mode: str) -> None:
    told: list[FrameEvent] = []
    counted: list[AggregateEvent] = []
    config = make_config({"privacy": {"mode": mode, "min_group": 2}})
    pipeline = Pipeline(
        config, lambda event, _: told.append(event), emit_aggregate=lambda event, _: counted.append(event))
    pipeline.add_stream("lobby", make_stream_config({"source": "lavfi:testsrc2"}))
    deliver = pipeline._timelines["lobby"].deliver

    two = [FACE[0], [300.0, 80, 60, 70]]
    for number, (boxes, labels) in enumerate([(two, [HAPPY, NEUTRAL]), (FACE, [HAPPY]), ([], [])]):
        pipeline.ledger.read("lobby")
        deliver(make_analysis(number, boxes, [certain(label) for label in labels]))
    pipeline.finish(time.monotonic() + 10)

    def sample(name: str, **labels: str) -> float | None:
        return pipeline.metrics.registry.get_sample_value(f"emotiond_{name}_total", {"stream": "lobby", **labels})

    assert sample("faces_detected") == (3 if mode == "frames" else 2)
    assert sample("faces_classified", emotion="neutral") == 1
    assert sample("faces_classified", emotion="sad") == 0
    if mode == "frames":
        assert ([len(event.faces) for event in told], counted) == ([2, 1, 0], [])
        assert sample("faces_classified", emotion="happy") == 2
    else:
        assert (told, [(event.frames, event.counted, event.faces) for event in counted]) == ([], [(3, 1, 2)])
        assert sample("faces_classified", emotion="happy") == 1

"""The analyzer in torch: its crops, its suppression, its lists and what it does when a device gives out."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch missing")

from emotiond.config import DetectorConfig, StreamConfig  # noqa: E402
from emotiond.config_values import Rectangle  # noqa: E402
from emotiond.device import plan as plan_module  # noqa: E402
from emotiond.device.analyzer import PLANS_KEPT, TorchAnalyzer  # noqa: E402
from emotiond.device.crops import SAMPLES, crop_faces  # noqa: E402
from emotiond.device.geometry import Geometry  # noqa: E402
from emotiond.device.plan import Plan  # noqa: E402
from emotiond.device.surface import Surface  # noqa: E402
from emotiond.frames import FrameLedger, Ticket  # noqa: E402
from emotiond.metrics import Metrics  # noqa: E402
from emotiond.opening import open_source  # noqa: E402
from emotiond.picture import Picture, Scalers  # noqa: E402
from emotionnet.preprocess import InputSpec, crop_square, expand_range  # noqa: E402
from emotionnet.torch_classifier import TorchClassifier  # noqa: E402
from emotionnet.weights import load_info  # noqa: E402
from tests.support.frames import make_frame  # noqa: E402
from tests.support.pictures import Place, face_frames  # noqa: E402
from tests.support.videos import write_video  # noqa: E402
from yunet import torch_detector  # noqa: E402
from yunet.decode import suppress  # noqa: E402
from yunet.torch_detector import TorchDetector  # noqa: E402

SPEC = InputSpec()
STREAMS = {"lobby": StreamConfig(source="a.mp4")}


@pytest.fixture(scope="module")
def classifier() -> TorchClassifier:
    return TorchClassifier(load_info("builtin"), "cpu")


@pytest.fixture
def make_analyzer(classifier: TorchClassifier) -> Callable[..., TorchAnalyzer]:
    """Returns what makes one of the CPU, with values of the detector's section."""
    def make(**values: object) -> TorchAnalyzer:
        config = DetectorConfig.model_validate(values)
        detector = TorchDetector("cpu", config.score, 0.45, 1000)
        return TorchAnalyzer(detector, classifier, config, STREAMS, Metrics(FrameLedger(), classifier.info.labels))
    return make


def ticket(picture: Picture, index: int = 0) -> Ticket:
    frame = make_frame(index=index)
    return Ticket(dataclasses.replace(frame, picture=picture), index)


def crowd(rows: int, columns: int, side: int = 60) -> Picture:
    """A picture of so many faces, side by side."""
    places: list[Place] = [(side * column, side * row, side) for row in range(rows) for column in range(columns)]
    pixels = next(face_frames(1, side * columns, side * rows, where=lambda n: places))
    return Picture(VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"))


@pytest.mark.parametrize("full_range", [True, False])
@given(st.lists(st.tuples(st.floats(-50, 400), st.floats(-50, 300), st.floats(2, 900), st.floats(2, 900)),
                min_size=1, max_size=3))
@settings(max_examples=60)
def test_crops_are_those_of_a_cpu_within_two_levels(
    full_range: bool, boxes: list[tuple[float, float, float, float]]
) -> None:
    luma = np.random.default_rng(1).integers(0, 256, (240, 360), np.uint8)
    luma = np.asarray(cv2.GaussianBlur(luma, (0, 0), 2), np.uint8)     # as pictures are
    boxes = [box for box in boxes if np.sqrt(box[2] * box[3]) * SPEC.margin < SAMPLES - 1]      # others are thinned out
    here = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)

    ours = crop_faces(torch.from_numpy(luma)[None], torch.zeros(len(boxes), dtype=torch.long), here, SPEC,
                      full_range=full_range).numpy()

    assert ours.shape == (len(boxes), SPEC.side, SPEC.side)
    for crop, box in zip(ours, here.tolist(), strict=True):
        left, top = (box[axis] + box[axis + 2] / 2 for axis in (0, 1))
        reach = SPEC.margin * np.sqrt(box[2] * box[3]) / 2 - 1
        if not (-reach < left < 360 + reach and -reach < top < 240 + reach):
            continue      # the detector finds nobody outside the picture
        theirs = crop_square(luma, tuple(box), SPEC)
        assert np.abs(crop - (theirs if full_range else expand_range(theirs))).max() <= 2


def test_a_face_larger_than_all_samples_is_thinned_out_and_looks_the_same() -> None:
    y, x = np.mgrid[0:1080, 0:1920]
    luma = (128 + 60 * np.sin(x / 90) + 60 * np.cos(y / 70)).astype(np.uint8)
    box = (300.0, 20.0, 1000.0, 1000.0)

    ours = crop_faces(torch.from_numpy(luma)[None], torch.zeros(1, dtype=torch.long), torch.tensor([box]), SPEC,
                      full_range=True)[0].numpy()

    assert np.abs(ours - crop_square(luma, box, SPEC)).max() <= 3


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.2, 0.7))
@settings(max_examples=100)
def test_suppression_in_rounds_is_the_greedy_one_wherever_it_is_settled(seed: int, count: int, iou: float) -> None:
    random = np.random.default_rng(seed)
    boxes = random.uniform(0, 60, (count, 4)).astype(np.float32)
    boxes[:, 2:] = random.uniform(5, 40, (count, 2))
    likely = np.arange(count) < random.integers(0, count + 1)      # the best ones
    corners, sizes = (torch.from_numpy(np.ascontiguousarray(part.T))[None] for part in (boxes[:, :2], boxes[:, 2:]))

    kept, settled = torch_detector._suppress(corners, sizes, torch.from_numpy(likely)[None], iou)

    if settled.item():
        assert np.flatnonzero(kept[0].numpy()).tolist() == sorted(suppress(boxes[likely], iou, count))


def test_a_chain_longer_than_the_rounds_is_not_called_settled() -> None:
    left = torch.arange(40.0) * 6      # each box overlaps its neighbours alone, so that every second one stays
    corners, sizes = torch.stack([left, torch.zeros(40)])[None], torch.full((1, 2, 40), 10.0)

    _, settled = torch_detector._suppress(corners, sizes, torch.ones(1, 40, dtype=torch.bool), 0.2)

    assert not settled.item()


def test_more_faces_than_are_expected_are_all_classified(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    picture = crowd(4, 6)
    analyzer = make_analyzer(min_face=8)

    first, = analyzer.analyze([ticket(picture)])       # expects none, so that three calls are needed
    second, = analyzer.analyze([ticket(picture)])

    assert len(first.boxes) == 24 > plan_module.FACES[0]
    np.testing.assert_allclose(first.probabilities.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-4)
    np.testing.assert_array_equal(first.boxes, second.boxes)


def test_a_crowd_with_more_candidates_than_there_is_room_for_is_found_all_the_same(
    make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = crowd(4, 6)
    expected, = make_analyzer(min_face=8).analyze([ticket(picture)])
    monkeypatch.setattr(torch_detector, "CANDIDATES", 20)

    analyses = make_analyzer(min_face=8).analyze([ticket(picture), ticket(crowd(1, 1, 240), 1)])

    np.testing.assert_allclose(analyses[0].boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(analyses[0].probabilities, expected.probabilities, atol=1e-4)
    assert len(analyses[1].boxes) == 1


@pytest.mark.parametrize("candidates", [256, 20])
def test_faces_beyond_the_most_are_counted(
    candidates: int, make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_detector, "CANDIDATES", candidates)
    analyzer = make_analyzer(min_face=8, max_faces=10)

    analysis, = analyzer.analyze([ticket(crowd(4, 6))])

    assert len(analysis.boxes) == 10
    assert analyzer._metrics.registry.get_sample_value("emotiond_faces_truncated_total", {"stream": "lobby"}) == 14


def test_frames_of_different_sizes_come_back_in_their_order(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    pictures = [crowd(1, 1, 240), crowd(1, 2, 240), crowd(1, 1, 240), crowd(1, 3, 240), crowd(1, 2, 240)]

    analyses = make_analyzer().analyze([ticket(picture, index) for index, picture in enumerate(pictures)])

    assert [analysis.ticket.number for analysis in analyses] == list(range(5))
    assert [len(analysis.boxes) for analysis in analyses] == [1, 2, 1, 3, 2]


def test_so_many_plans_are_kept_whatever_sizes_come(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    analyzer = make_analyzer()

    for index in range(PLANS_KEPT + 5):
        analyzer.analyze([ticket(crowd(1, 1, 64 + 2 * index), index)])

    assert len(analyzer._plans) == PLANS_KEPT


def test_too_little_memory_halves_the_batch_and_goes_on(
    make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, sizes = Plan.begin, list[int]()

    def short(self: Plan, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        sizes.append(len(surfaces))
        if len(surfaces) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        begin(self, surfaces, masks)

    monkeypatch.setattr(Plan, "begin", short)
    picture = crowd(1, 1, 240)

    analyses = make_analyzer().analyze([ticket(picture, index) for index in range(8)])

    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert [(analysis.failed, len(analysis.boxes)) for analysis in analyses] == [(False, 1)] * 8


def test_a_device_that_is_lost_ends_the_analyzer_at_once(
    make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def lost(self: Plan, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        calls.append(len(surfaces))
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Plan, "begin", lost)

    with pytest.raises(torch.AcceleratorError):
        make_analyzer().analyze([ticket(crowd(1, 1, 240), index) for index in range(8)])

    assert calls == [8]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_no_gpu_decodes_software_does_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = write_video(tmp_path / "a.mp4", face_frames(2, 320, 240))
    source = open_source(StreamConfig(source=str(clip)), "cuda:0")
    try:
        assert next(source.frames()).frame.format.name == "yuv420p"
    finally:
        source.close()

    warning, = [record.getMessage() for record in caplog.records if record.name == "emotiond.opening"]
    assert re.match(r"decoding in software: cuda:0 takes no video \(.+\)$", warning)


@pytest.mark.parametrize(("turns", "part", "stored"), [
    (0, (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4)), (1, (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 0.5)),
    (2, (0.0, 0.0, 0.5, 0.25), (0.5, 0.75, 1.0, 1.0)), (3, (0.0, 0.0, 0.5, 1.0), (0.0, 0.5, 1.0, 1.0))])
def test_parts_of_what_is_displayed_are_found_in_what_is_stored(
    turns: int, part: tuple[float, ...], stored: tuple[float, ...]
) -> None:
    picture = Picture(VideoFrame(640, 360, "yuv420p"))
    picture.quarter_turns = turns
    geometry = Geometry.of(Surface(picture, Scalers()), (0.0, 0.0, 1.0, 1.0), 640)

    assert geometry.stored_part(cast(Any, part)) == pytest.approx(stored)
    marked = np.zeros((360, 640), np.uint8)
    left, top, right, bottom = geometry.stored_part(cast(Any, part))
    marked[round(top * 360):round(bottom * 360), round(left * 640):round(right * 640)] = 1
    shown = np.rot90(marked, turns)
    height, width = shown.shape
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height) == pytest.approx(
        part, abs=0.01)

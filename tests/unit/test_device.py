"""The analyzer in torch: its crops, its suppression, its lists and what it does when a device gives out."""

import dataclasses
import itertools
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch missing")

from emotiond.config import DetectorConfig, StreamConfig  # noqa: E402
from emotiond.config_values import Rectangle  # noqa: E402
from emotiond.device import analyzer as analyzer_module  # noqa: E402
from emotiond.device import plan as plan_module  # noqa: E402
from emotiond.device import runtime  # noqa: E402
from emotiond.device.analyzer import TorchAnalyzer  # noqa: E402
from emotiond.device.crops import SAMPLES, crop_faces  # noqa: E402
from emotiond.device.geometry import Geometry  # noqa: E402
from emotiond.device.plan import Plan  # noqa: E402
from emotiond.device.runtime import Runtime  # noqa: E402
from emotiond.device.surface import Surface, shared_planes  # noqa: E402
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
from yunet.colour import Colour  # noqa: E402
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


@pytest.fixture
def never_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test fail in which a picture is decoded on the host."""
    monkeypatch.setattr(Plan, "_decode_crowd", None)


def padded(picture: Picture, side: int = 240) -> Picture:
    """The upper left of a grey picture."""
    pixels = np.full((side, side, 3), 128, np.uint8)
    shown = picture.frame.to_ndarray(format="rgb24")
    pixels[:shown.shape[0], :shown.shape[1]] = shown
    return Picture(VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"))


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

    if count < 6:      # eight rounds settle any chain of so few
        assert settled.item()
    if settled.item():
        assert np.flatnonzero(kept[0].numpy()).tolist() == sorted(suppress(boxes[likely], iou, count))


def test_a_chain_longer_than_the_rounds_is_not_called_settled() -> None:
    left = torch.arange(40.0) * 6      # each box overlaps its neighbours alone, so that every second one stays
    corners, sizes = torch.stack([left, torch.zeros(40)])[None], torch.full((1, 2, 40), 10.0)

    _, settled = torch_detector._suppress(corners, sizes, torch.ones(1, 40, dtype=torch.bool), 0.2)

    assert not settled.item()


@pytest.mark.usefixtures("never_the_slow_way")
def test_more_faces_than_are_expected_are_all_classified(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    picture = crowd(4, 6)
    analyzer = make_analyzer(min_face=8)

    first, = analyzer.analyze([ticket(picture)])       # expects none, so that step two is run again
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


def test_a_detector_that_gives_no_numbers_finds_nobody(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    analyzer = make_analyzer()
    with torch.no_grad():
        for colour in (Colour.YUV_601, Colour.YUV_709):
            for parameter in analyzer._detector.network(colour).parameters():
                parameter.fill_(float("nan"))

    analysis, = analyzer.analyze([ticket(crowd(1, 1, 240))])

    assert analysis.failed
    assert analyzer._metrics.registry.get_sample_value(
        "emotiond_inference_errors_total", {"model": "yunet", "reason": "non_finite"}) == 1


def test_what_steps_hand_on_stays_where_it_is_whatever_comes(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    """A recorded step writes to the tensors that it knew, so that none may be replaced by another."""
    analyzer, places = make_analyzer(min_face=8), list[dict[str, int]]()
    for count in (1, 4, 1, 4, 1):       # rows of 6 faces of 40 pixels, in one picture of 240x240
        analysis, = analyzer.analyze([ticket(padded(crowd(count, 6, 40)))])
        assert len(analysis.boxes) == 6 * count
        (plan, _), = analyzer._plans.values()
        places.append({name: value.data_ptr() for name, value in vars(plan).items() if isinstance(value, torch.Tensor)}
                      | {f"rows of {size}": rows.data_ptr() for size, rows in plan._rows.items()})

    for before, after in itertools.pairwise(places):
        assert before.items() <= after.items()
    assert {"_list", "_summary", "_raw", "_displayed", "_planes", "rows of 8", "rows of 32"} <= places[-1].keys()


@pytest.mark.usefixtures("never_the_slow_way")
def test_frames_of_different_sizes_come_back_in_their_order(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    pictures = [crowd(1, 1, 240), crowd(1, 2, 240), crowd(1, 1, 240), crowd(1, 3, 240), crowd(1, 2, 240)]

    analyses = make_analyzer().analyze([ticket(picture, index) for index, picture in enumerate(pictures)])

    assert [analysis.ticket.number for analysis in analyses] == list(range(5))
    assert [len(analysis.boxes) for analysis in analyses] == [1, 2, 1, 3, 2]


@pytest.mark.parametrize(("room", "kept"), [(0, [96, 64, 112]), (1 << 30, [80, 96, 64, 112])])
def test_so_many_plans_are_kept_as_there_is_room_for_and_those_used_last(
    room: int, kept: list[int], make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(analyzer_module, "PLANS_KEPT", 3)
    monkeypatch.setattr(Runtime, "room", room)
    analyzer = make_analyzer()

    for side in (64, 80, 96, 64, 112):
        analyzer.analyze([ticket(crowd(1, 1, side))])

    assert [geometry.stored[0] for geometry, _ in analyzer._plans] == kept
    assert ["more kinds of pictures" in message for message in caplog.messages] == [True] * (room == 0)


def test_a_plan_knows_what_it_takes_of_the_memory(make_analyzer: Callable[..., TorchAnalyzer]) -> None:
    analyzer = make_analyzer()
    analyzer.analyze([ticket(crowd(1, 1, 240)) for _ in range(2)])
    (plan, _), = analyzer._plans.values()

    pixels, view = 2 * 240 * 240, 2 * 3 * 257 * 257
    assert 1.5 * pixels + 4 * view < plan.nbytes < 3 * pixels + 8 * view


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

    analyzer = make_analyzer()
    analyzer.analyze([ticket(picture)])
    prepared, sizes[:] = weakref.ref(next(iter(analyzer._plans.values()))[0]._luma), []

    analyses = analyzer.analyze([ticket(picture, index) for index in range(8)])

    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert prepared() is None
    assert [(analysis.failed, len(analysis.boxes)) for analysis in analyses] == [(False, 1)] * 8


def test_a_device_that_is_lost_ends_the_analyzer_at_once(
    make_analyzer: Callable[..., TorchAnalyzer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def lost(self: Plan, surfaces: list[Surface], masks: list[tuple[Rectangle, ...]]) -> None:
        calls.append(len(surfaces))
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Plan, "begin", lost)
    monkeypatch.setattr(Runtime, "works", lambda self: False)

    with pytest.raises(torch.AcceleratorError):
        make_analyzer().analyze([ticket(crowd(1, 1, 240), index) for index in range(8)])

    assert calls == [8]


@pytest.mark.parametrize(("kind", "size"), [
    ("nv12", (64, 48)), ("nv12", (65, 49)), ("p010le", (64, 48)), ("p010le", (66, 50)), ("p016le", (64, 48))])
def test_planes_shared_by_a_decoder_are_those_of_its_frame(kind: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p").reformat(format=kind)
    expected = Surface(Picture(frame.reformat(format="yuv420p")), Scalers())
    (height, width), chroma = expected.planes[0].shape, expected.planes[1].shape
    shared, plain = (
        (torch.zeros(height, width, dtype=torch.uint8), torch.zeros(2, *chroma, dtype=torch.uint8)) for _ in range(2))
    surface = Surface(Picture(VideoFrame(16, 16, "yuv420p")), Scalers())
    surface.planes = shared_planes(frame, kind)

    surface.copy_to(*shared)
    expected.copy_to(*plain)

    assert torch.equal(shared[0], plain[0])
    whole = np.s_[:, :height // 2, :width // 2]      # of an odd side PyAV leaves the last row and column out
    assert torch.equal(shared[1][whole], plain[1][whole])
    assert torch.equal(shared[1][:, -1, :width // 2], shared[1][:, height // 2 - 1, :width // 2])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_where_no_gpu_decodes_software_does_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime._decodes.cache_clear()
    clip = write_video(tmp_path / "a.mp4", face_frames(2, 320, 240))
    source = open_source(StreamConfig(source=str(clip)), "cuda:0")
    try:
        assert next(source.frames()).frame.format.name == "yuv420p"
    finally:
        source.close()

    open_source(StreamConfig(source=str(clip)), "cuda:0").close()
    warning, = [record.getMessage() for record in caplog.records if record.name == "emotiond.device.runtime"]
    assert re.match(r"decoding in software: cuda:0 takes no video \(.+\)$", warning)


def test_threads_that_wait_for_a_gpu_shall_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.sleep_while_waiting("cuda:0")       # without a driver it says nothing
    said: list[tuple[object, ...]] = []
    driver = SimpleNamespace(cuInit=lambda flags: said.append((flags,)),
                             cuDevicePrimaryCtxSetFlags_v2=lambda *words: said.append(words))
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda name: driver)

    runtime.sleep_while_waiting("cuda:1")

    assert said == [(0,), (1, 4)]       # CU_CTX_SCHED_BLOCKING_SYNC


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


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["group7_classroom_720p.mp4", "street_5plus_1080p.mp4"])
def test_no_value_in_either_network_comes_near_the_most_that_half_precision_holds(
    clip: str, data_dir: Path, make_analyzer: Callable[..., TorchAnalyzer]
) -> None:
    analyzer, largest = make_analyzer(), dict[str, float]()

    def watch(name: str) -> Callable[..., None]:
        def look(module: Any, given: Any, made: Any) -> None:
            largest[name] = max(largest.get(name, 0.0), made.abs().max().item())
        return look

    networks = {"yunet": analyzer._detector.network(Colour.YUV_709), "yunet 601": analyzer._detector.network(
        Colour.YUV_601), "emotionnet": analyzer._classifier.network}
    hooks = [module.register_forward_hook(watch(f"{network} {name}")) for network, whole in networks.items()
             for name, module in whole.named_modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    with av.open(str(data_dir / "clips" / clip)) as container:
        frames = list(itertools.islice(container.decode(video=0), 0, 80, 20))

    analyses = analyzer.analyze([ticket(Picture(frame), index) for index, frame in enumerate(frames)])

    for hook in hooks:
        hook.remove()
    assert sum(len(analysis.boxes) for analysis in analyses) >= 8
    assert {name.partition(" ")[0] for name in largest} == {"yunet", "emotionnet"}
    assert max(largest.values()) < torch.finfo(torch.float16).max / 8

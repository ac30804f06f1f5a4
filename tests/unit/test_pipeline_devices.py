"""The same pipeline on every device: batches over all streams where torch runs it, and the same faces everywhere."""

import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotiond import pipeline as pipeline_module
from emotiond.analyzer import Analysis, BatchAnalyzer
from emotiond.config_file import make_config
from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import Face, FrameEvent
from emotiond.frames import FILE_DEPTH, Frame, Ticket
from emotiond.pipeline import CPU_BATCH, Pipeline, available_cores, choose_devices, load_models, worker_count
from emotiond.tracker import iou
from tests.support.videos import write_video
from tests.support.waiting import poll

FRAMES = 6      # of each stream
CLIPS = {"classroom": ("group7_classroom_720p.mp4", 20), "street": ("street_5plus_1080p.mp4", 8),
         "woman": ("one_woman_20s_360p.mp4", 40)}
PATIENCE_S = 100.0

Found = dict[tuple[str, int], list[Face]]


@pytest.fixture(scope="module")
def excerpts(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A few frames of each clip, far apart, as videos of their own."""
    folder = tmp_path_factory.mktemp("excerpts")

    def pictures(clip: str, step: int) -> list[NDArray[np.uint8]]:
        with av.open(str(data_dir / "clips" / clip)) as container:
            return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for number, frame
                    in enumerate(container.decode(video=0)) if number % step == 0][:FRAMES]

    return {name: write_video(folder / f"{name}.mp4", pictures(*clip)) for name, clip in CLIPS.items()}


def analyzed(
    device: str, excerpts: dict[str, Path], workers: int = 1
) -> tuple[Found, list[list[str]], Pipeline]:
    """Runs the videos through a pipeline at once.

    Returns:
        The faces of each frame, the streams of the frames of each call of an analyzer, and the pipeline.
    """
    found: Found = {}
    calls: list[list[str]] = []
    analyze = BatchAnalyzer.analyze

    def watch(self: BatchAnalyzer, tickets: Sequence[Ticket]) -> list[Analysis]:
        calls.append([ticket.frame.stream for ticket in tickets])
        return analyze(self, tickets)

    def emit(event: FrameEvent, frame: Frame) -> None:
        found[event.stream, event.frame] = event.faces

    config = make_config({
        "compute": {"device": device, "workers": workers}, "publish_empty": True,
        "streams": {name: {"source": str(path)} for name, path in excerpts.items()}})
    pipeline = Pipeline(config, emit)
    for name, stream in config.streams.items():
        pipeline.add_stream(name, stream)
    readers = [pipeline.read(name) for name in config.streams]
    poll(lambda: all(depth[0] == min(FILE_DEPTH, FRAMES) for depth in pipeline.buffers.depths().values()), PATIENCE_S,
         "the readers do not fill their buffers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchAnalyzer, "analyze", watch)
        pipeline.start()
        for reader in readers:
            reader.join(PATIENCE_S)
        assert pipeline.finish(time.monotonic() + PATIENCE_S) == []
        assert pipeline.analyzing.failure is None
    counts = pipeline.ledger.snapshot()
    assert {name: counts[name].analyzed for name in counts} == dict.fromkeys(CLIPS, FRAMES)
    return found, calls, pipeline


def boxes(faces: list[Face]) -> NDArray[np.float32]:
    return np.array([(f.box.x, f.box.y, f.box.width, f.box.height) for f in faces], np.float32).reshape(-1, 4)


def sample(pipeline: Pipeline, name: str, model: str) -> float:
    value = pipeline.metrics.registry.get_sample_value(f"emotiond_batch_size_{name}", {"model": model})
    assert value is not None
    return value


@pytest.mark.slow
def test_torch_analyses_frames_of_all_streams_in_one_batch_and_finds_what_onnxruntime_finds(
    excerpts: dict[str, Path]
) -> None:
    pytest.importorskip("torch", reason="torch missing")
    expected, few, plain = analyzed("cpu", excerpts, workers=2)
    found, batches, batching = analyzed("torch:cpu", excerpts)

    assert max(len(call) for call in few) == CPU_BATCH
    assert len(batches[0]) == min(FILE_DEPTH, FRAMES) * len(CLIPS)
    assert set(batches[0]) == set(CLIPS)
    faces = sum(len(faces) for faces in found.values())
    assert sample(batching, "sum", "yunet") == sample(plain, "sum", "yunet") == FRAMES * len(CLIPS)
    assert sample(batching, "count", "yunet") == sample(batching, "count", "emotionnet") == len(batches)
    assert sample(batching, "sum", "emotionnet") == faces
    assert found.keys() == expected.keys()
    assert faces >= 4 * FRAMES + 4 * FRAMES + FRAMES
    apart: dict[str, list[float]] = {name: [] for name in CLIPS}      # of a face's probabilities, the most
    for place, here in found.items():
        there = expected[place]
        assert len(here) == len(there)
        overlaps = iou(boxes(here), boxes(there))
        matches = overlaps.argmax(axis=1).tolist()
        assert sorted(matches) == list(range(len(there)))
        assert (overlaps.max(axis=1) > 0.9).all()
        for face, other in zip(here, (there[match] for match in matches), strict=True):
            assert face.score == pytest.approx(other.score, abs=2e-2)
            apart[place[0]].append(max(abs(face.probabilities[label] - other.probabilities[label])
                                       for label in face.probabilities))
    assert max(apart["woman"] + apart["classroom"]) < 1e-2
    # at two thirds of its size, libswscale rounds chroma otherwise in one of a hundred pixels, which moves some crops
    assert np.mean(np.array(apart["street"]) < 1e-2) > 0.8


@pytest.mark.slow
def test_a_second_analyzer_of_a_device_takes_its_share_and_finds_the_same(
    excerpts: dict[str, Path]
) -> None:
    pytest.importorskip("torch", reason="torch missing")
    expected, _, _ = analyzed("torch:cpu", excerpts)
    found, calls, pipeline = analyzed("torch:cpu", excerpts, workers=2)

    assert (pipeline.devices, len(calls[0])) == (["torch:cpu"], min(FILE_DEPTH, FRAMES) * len(CLIPS) // 2)
    assert found.keys() == expected.keys()
    for place, here in found.items():
        assert boxes(here) == pytest.approx(boxes(expected[place]), abs=0.01)
        assert [face.emotion for face in here] == [face.emotion for face in expected[place]]


@pytest.mark.slow
def test_streams_are_dealt_out_to_several_devices(excerpts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch missing")
    monkeypatch.setattr(pipeline_module, "choose_devices", lambda wanted: ["torch:cpu", "torch:cpu"])

    _, calls, pipeline = analyzed("cuda", excerpts)

    assert pipeline.devices == ["torch:cpu", "torch:cpu"]
    assert not [call for call in calls if "street" in call and len(set(call)) > 1]       # it is alone on the second
    assert any({"classroom", "woman"} == set(call) for call in calls)


def test_auto_is_the_cpu_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)

    assert choose_devices("auto") == ["cpu"]


@pytest.mark.parametrize(("wanted", "device"), [
    ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("torch:cpu", "torch:cpu")])
def test_a_device_that_is_named_is_taken(wanted: str, device: str) -> None:
    assert choose_devices(wanted) == [device]


def test_a_gpu_that_is_not_there_is_a_sentence_with_the_key_and_may_come_later() -> None:
    pytest.importorskip("torch", reason="torch missing")

    with pytest.raises(UnavailableError, match=r"^compute\.device: .*cuda:99") as caught:
        load_models(make_config({}), "cuda:99")

    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_used_are_a_sentence_with_the_key(tmp_path: Path) -> None:
    config = make_config({"classifier": {"weights": str(tmp_path / "none.json")}})

    with pytest.raises(ConfigError, match=r"^classifier\.weights: .*none\.json"):
        load_models(config, "cpu")
    with pytest.raises(ConfigError, match=r"^classifier\.weights: .*none\.json"):
        Pipeline(config, lambda event, frame: None)


@pytest.mark.parametrize(("quota", "cores"), [
    ("max 100000", 4), ("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("10000 100000", 1),
    ("1600000 100000", 4), ("", 4), ("garbage", 4), (None, 4)])
def test_a_containers_quota_bounds_the_cores(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")

    assert available_cores(tmp_path / "cpu.max") == cores


def test_the_number_of_workers_is_the_configured_one_or_that_of_the_cores_or_one_for_a_gpu() -> None:
    assert worker_count(make_config({"compute": {"workers": 7}}), "cpu") == 7
    assert worker_count(make_config({"compute": {"workers": 2}}), "cuda:0") == 2
    assert worker_count(make_config({}), "cpu") == available_cores()
    assert worker_count(make_config({}), "cuda:0") == 1

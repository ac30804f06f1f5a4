"""Weights that cannot be used keep the daemon from starting and run no code; a network that fails costs its frame."""

import dataclasses
import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotiond.analyzer import MAX_FAILURES, Analyzer
from emotiond.config import Config, DetectorConfig, StreamConfig
from emotiond.errors import ConfigError
from emotiond.frames import FrameLedger, Ticket
from emotiond.metrics import Metrics
from emotiond.pipeline import Pipeline
from emotionnet.classifier import load_classifier
from emotionnet.weights import BUILTIN, WeightsError
from tests.support.commands import run
from tests.support.daemon import Daemon, endless, write_config
from tests.support.events import assert_whole, read_entries
from tests.support.frames import blank_picture, make_frame
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from yunet.colour import Colour
from yunet.detector import Faces, Picture

FPS = 5
DARK = 0.4
NARROW = 320      # pixels
NO_NUMBERS = """
import itertools, numpy, emotionnet.classifier as module
values = itertools.cycle([numpy.nan, numpy.inf])
classify = module.OnnxClassifier.classify
def spoil(self, crops):
    probabilities = classify(self, crops)
    dark = crops.reshape(len(crops), -1).mean(axis=1) < 75
    return module.check_finite(numpy.where(dark[:, None], next(values), probabilities))
module.OnnxClassifier.classify = spoil
"""


@dataclasses.dataclass
class Trap:
    """Makes a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The folder of a copy of the built-in set."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in BUILTIN.parent.glob("emotionnet.*"):
        shutil.copy(file, folder)
    return folder


def replace(folder: Path, name: str, content: bytes) -> Path:
    """Puts other content in place of a file of the set, with its right hash in the JSON, and returns the set."""
    (folder / name).write_bytes(content)
    return describe(folder, lambda description: description["sha256"].update({
        name: hashlib.sha256(content).hexdigest()}))


def describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the JSON of the set and returns the set."""
    file = folder / "emotionnet.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))
    return folder


def trap(folder: Path) -> bytes:
    return pickle.dumps(Trap(folder.parent / "trap"))


def flip(folder: Path) -> Path:
    content = bytearray((folder / "emotionnet.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "emotionnet.onnx").write_bytes(content)
    return folder


def pickle_alone(folder: Path) -> Path:
    (folder / "model.pt").write_bytes(trap(folder))
    return folder / "model.pt"


def pickle_as_json(folder: Path) -> Path:
    (folder / "emotionnet.json").write_bytes(trap(folder))
    return folder


def pickle_as_onnx(folder: Path) -> Path:
    return replace(folder, "emotionnet.onnx", trap(folder))


@pytest.mark.parametrize("spoil", [
    flip,
    lambda folder: replace(folder, "emotionnet.onnx", (folder / "emotionnet.onnx").read_bytes()[:100_000]),
    lambda folder: describe(folder, lambda description: description.update(labels=["calm", "other", "tense"])),
    pickle_alone, pickle_as_json, pickle_as_onnx,
], ids=["a bit flipped", "truncated", "three classes", "a pickle", "a pickle as JSON", "a pickle as ONNX"])
def test_weights_that_cannot_be_used_are_a_configuration_error_before_anything_starts(
    spoil: Callable[[Path], Path], weights: Path, tmp_path: Path
) -> None:
    config = Config.model_validate({"classifier": {"weights": str(spoil(weights))}})

    with pytest.raises(ConfigError, match=r"^classifier\.weights: .*; ") as refused:
        Pipeline(config, emit=lambda event, frame: None).start()

    assert refused.value.exit_code == 78
    assert not (tmp_path / "trap").exists()


def test_a_daemon_with_such_weights_ends_with_one_sentence_and_runs_nothing_of_them(
    weights: Path, tmp_path: Path
) -> None:
    ended = run("run", "-c", write_config(tmp_path / "emotiond.yaml", {
        "streams": {"door": {"source": "lavfi:testsrc2"}}, "redis": {"url": "redis://127.0.0.1:1/0"},
        "http": {"listen": "127.0.0.1:0"}, "spool": {"path": "memory"},
        "classifier": {"weights": str(pickle_as_onnx(weights))}}))

    assert ended.code == 78
    assert re.fullmatch(r"emotiond: .*classifier\.weights: .*; .*", ended.lines[-1])
    assert "Traceback" not in ended.err
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("cut", [False, True])
def test_safetensors_that_are_none_are_refused_unexecuted(cut: bool, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch missing")
    whole = (weights / "emotionnet.safetensors").read_bytes()
    replace(weights, "emotionnet.safetensors", whole[:100_000] if cut else trap(weights))

    with pytest.raises(WeightsError, match="is no readable safetensors"):
        load_classifier(weights, "torch:cpu")

    assert not (tmp_path / "trap").exists()


def test_a_face_without_numbers_costs_its_own_frame_alone(redis_server: RedisServer, tmp_path: Path) -> None:
    bright, dark = (write_video(
        tmp_path / f"{share}.mp4", ((picture * share).astype(np.uint8) for picture in face_frames(FPS, 320, 240)),
        fps=FPS) for share in (1, DARK))
    with Daemon(tmp_path, {"near": endless(bright, FPS), "dark": endless(dark, FPS)}, redis_server.url,
                before=NO_NUMBERS) as daemon:
        scrape = daemon.wait_for(
            lambda scrape: scrape("frames_dropped_total", stream="dark", reason="inference_error") >= FPS
            and scrape("events_published_total", stream="near") >= FPS, "frames without numbers")
        scrape.assert_frames_add_up()
        ready = daemon.get("/readyz").status
        assert daemon.end() == 0

    assert ready == 200
    assert scrape("inference_errors_total", model="emotionnet", reason="non_finite") >= FPS
    assert scrape("inference_errors_total") == scrape("inference_errors_total", model="emotionnet", reason="non_finite")
    assert scrape("frames_dropped_total") == scrape("frames_dropped_total", stream="dark", reason="inference_error")
    assert not redis_server.client.exists("emotions:dark")
    assert_whole(read_entries(redis_server.client, "near"))
    assert daemon.log_entries("no numbers for 1 of 1 faces")


class Device:
    """A detector on a device that has no memory for more than so many pictures at once, and fails on narrow ones."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.calls: list[int] = []

    def detect(self, pictures: Sequence[Picture], colours: Sequence[Colour] = ()) -> list[Faces]:
        self.calls.append(len(pictures))
        if len(pictures) > self.most:
            raise RuntimeError("CUDA out of memory")
        if any(picture.shape[2] == NARROW for picture in pictures):
            raise RuntimeError("injected")
        return [Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) for _ in pictures]


@pytest.mark.parametrize(("most", "narrow", "calls"), [
    (8, [], [8]), (2, [], [8, 4, 2, 2, 4, 2, 2]), (8, [5], [8, 4, 4, 2, 1, 1, 2]),
    (1, [0, 7], [8, 4, 2, 1, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1])])
def test_a_batch_that_fails_is_halved_until_the_frames_at_fault_are_alone(
    most: int, narrow: list[int], calls: list[int]
) -> None:
    classifier, device = load_classifier(), Device(most)
    metrics = Metrics(FrameLedger(), classifier.info.labels)
    analyzer = Analyzer(device, classifier, DetectorConfig(), {"lobby": StreamConfig(source="a.mp4")}, metrics)
    frames = [dataclasses.replace(make_frame(index=index), picture=blank_picture(NARROW if index in narrow else 640))
              for index in range(8)]

    analyses = analyzer.analyze([Ticket(frame, number) for number, frame in enumerate(frames)])

    assert [analysis.ticket.number for analysis in analyses] == list(range(8))
    assert [number for number, analysis in enumerate(analyses) if analysis.failed] == narrow
    assert metrics.registry.get_sample_value(
        "emotiond_inference_errors_total", {"model": "yunet", "reason": "exception"}) == len(narrow)
    assert device.calls == calls


def test_a_device_that_fails_on_everything_ends_the_analyzer() -> None:
    classifier = load_classifier()
    metrics = Metrics(FrameLedger(), classifier.info.labels)
    analyzer = Analyzer(Device(0), classifier, DetectorConfig(), {"lobby": StreamConfig(source="a.mp4")}, metrics)

    for index in range(MAX_FAILURES - 1):
        assert analyzer.analyze([Ticket(make_frame(index=index), index)])[0].failed

    with pytest.raises(RuntimeError, match="out of memory"):
        analyzer.analyze([Ticket(make_frame(index=MAX_FAILURES), MAX_FAILURES)])

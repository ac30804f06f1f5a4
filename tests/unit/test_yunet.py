"""YuNet: both backends agree, decoding and suppression match slow references, odd inputs behave."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import psutil
import pytest
import torch
from numpy.typing import NDArray

from yunet import detector as detector_module
from yunet.colour import Colour
from yunet.decode import STRIDES, anchors, decode, suppress
from yunet.detector import Detector, Faces, load_detector
from yunet.network import load_network
from yunet.weights import FOLDER, WeightsError, read_onnx, read_weights

BACKENDS = ("cpu", "torch:cpu")


@pytest.fixture(scope="module", params=BACKENDS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param)


@pytest.fixture(scope="module")
def group(data_dir: Path) -> NDArray[np.uint8]:
    """Five football players, 500x375."""
    return read_picture(data_dir / "faces" / "dlib" / "2008_002079.jpg")


@pytest.fixture(scope="module")
def crowd(data_dir: Path) -> NDArray[np.uint8]:
    """Some thirty men, 640x498."""
    return read_picture(data_dir / "faces" / "dlib" / "bald_guys.jpg", (640, 498))


def read_picture(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} is missing"
    if size:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.uint8)


def assert_same(ours: Faces, theirs: Faces, tolerance: float = 1e-2) -> None:
    assert len(ours.boxes) == len(theirs.boxes)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=tolerance)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


def test_onnx_and_torch_give_the_same_raw_output_for_a_batch_of_any_size() -> None:
    session = onnxruntime.InferenceSession(FOLDER / "yunet.onnx", providers=["CPUExecutionProvider"])
    network = load_network()
    for shape in [(1, 3, 32, 32), (2, 3, 96, 160), (3, 3, 64, 416)]:
        pictures = np.random.default_rng(7).integers(0, 256, shape).astype(np.float32)
        pictures = np.pad(pictures, ((0, 0), (0, 0), (1, 0), (1, 0)))
        raw: Any = session.run(["raw"], {"picture": pictures})[0]
        with torch.inference_mode():
            expected = network(torch.from_numpy(pictures)).numpy()
        assert raw.shape == expected.shape == (shape[0], 6, sum(shape[2] * shape[3] // s**2 for s in STRIDES))
        np.testing.assert_allclose(raw, expected, atol=1e-4)


def test_onnx_and_torch_find_the_same_faces(group: NDArray[np.uint8], crowd: NDArray[np.uint8]) -> None:
    pictures = [group, crowd, group[:, 100:, 50:]]
    ours, theirs = (load_detector(device).detect(pictures) for device in BACKENDS)
    assert len(ours[0].boxes) >= 5
    assert len(ours[1].boxes) >= 20
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("colour", [Colour.YUV_601, Colour.YUV_709])
def test_pictures_of_any_colour_are_taken_as_they_are(detector: Detector, group: NDArray[np.uint8],
                                                      colour: Colour) -> None:
    """Chroma is rounded in between, so the faces are not quite the same; at the edges black has to stay black."""
    cut = group[:, 60:, 40:]
    pixels = np.einsum("cd,dhw->chw", np.linalg.inv(colour.to_bgr), cut) + np.array(colour.black)[:, None, None]
    ours = detector.detect([np.clip(np.rint(pixels), 0, 255).astype(np.uint8), cut], [colour, Colour.BGR])
    assert len(ours[0].boxes) == len(ours[1].boxes) >= 4
    by_left = [faces.boxes[:, 0].argsort() for faces in ours]
    np.testing.assert_allclose(ours[0].boxes[by_left[0]], ours[1].boxes[by_left[1]], atol=1.5)
    np.testing.assert_allclose(ours[0].scores[by_left[0]], ours[1].scores[by_left[1]], atol=0.02)
    black = np.broadcast_to(np.array(colour.black, np.uint8)[:, None, None], (3, 65, 97))
    assert len(detector.detect([black], [colour])[0].scores) == 0


def test_the_raw_output_of_a_black_picture_is_the_same_in_each_colour() -> None:
    raw: list[Any] = []
    for colour in Colour:
        session = onnxruntime.InferenceSession(read_onnx(colour), providers=["CPUExecutionProvider"])
        picture = np.broadcast_to(np.array(colour.black, np.float32)[:, None, None], (1, 3, 97, 65))
        raw.append(session.run(["raw"], {"picture": np.ascontiguousarray(picture)})[0])
    np.testing.assert_allclose(raw[1], raw[0], atol=1e-3)
    np.testing.assert_allclose(raw[2], raw[0], atol=1e-3)


def test_decoding_matches_a_slow_reference() -> None:
    height, width, score = 64, 96, 0.4
    rng = np.random.default_rng(3)
    grid = anchors(height, width)
    raw = rng.normal(0, 1.5, (6, grid.shape[1])).astype(np.float32)

    expected: list[tuple[float, ...]] = []
    column = 0
    for stride in STRIDES:
        for row in range(height // stride):
            for place in range(width // stride):
                class_, objectness, dx, dy, log_width, log_height = raw[:, column].tolist()
                value = math.sqrt(1 / (1 + math.exp(-class_)) / (1 + math.exp(-objectness)))
                box_width, box_height = math.exp(log_width) * stride, math.exp(log_height) * stride
                if value >= score:
                    expected.append((value, (place + dx) * stride - box_width / 2,
                                     (row + dy) * stride - box_height / 2, box_width, box_height))
                column += 1
    expected.sort(key=lambda face: -face[0])

    boxes, scores = decode(raw, grid, score)
    assert 20 < len(scores) < grid.shape[1]
    np.testing.assert_allclose(scores, [face[0] for face in expected], rtol=1e-5)
    np.testing.assert_allclose(boxes, [face[1:] for face in expected], rtol=1e-4, atol=1e-3)


def test_a_wild_output_is_decoded_without_overflow() -> None:
    raw = np.full((6, anchors(32, 32).shape[1]), 500, np.float32)
    boxes, scores = decode(raw, anchors(32, 32), 0.6)
    assert np.isfinite(boxes).all()
    assert scores == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 1, 2, 40, 400])
def test_suppression_matches_a_slow_reference(count: int) -> None:
    rng = np.random.default_rng(count)
    boxes = np.concatenate([rng.uniform(0, 120, (count, 2)), rng.uniform(5, 60, (count, 2))], axis=1).astype(np.float32)

    def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        shared = max(across, 0) * max(down, 0)
        return float(shared / (a[2] * a[3] + b[2] * b[3] - shared))

    expected: list[int] = []
    for i in range(count):
        if all(overlap(boxes[i], boxes[j]) <= 0.45 for j in expected):
            expected.append(i)
    assert suppress(boxes, 0.45, 1000).tolist() == expected
    assert suppress(boxes, 0.45, 7).tolist() == expected[:7]


def test_pictures_of_mixed_sizes_give_what_each_gives_alone(
    detector: Detector, group: NDArray[np.uint8], crowd: NDArray[np.uint8]
) -> None:
    pictures = [group, crowd, np.zeros((3, 375, 500), np.uint8), group[:, :, ::-1], group[:, 1:, 1:]]
    together = detector.detect(pictures)
    assert [len(faces.boxes) > 0 for faces in together] == [True, True, False, True, True]
    for picture, faces in zip(pictures, together, strict=True):
        assert_same(faces, detector.detect([picture])[0])


def test_faces_are_found_where_they_are_whatever_the_size_of_the_picture(
    detector: Detector, group: NDArray[np.uint8]
) -> None:
    whole = detector.detect([group])[0]
    for height, width in [(375, 500), (353, 481), (361, 499)]:
        moved = detector.detect([group[:, 375 - height:, 500 - width:]])[0]
        centres = moved.boxes[:, :2] + moved.boxes[:, 2:] / 2 + (500 - width, 375 - height)
        left, top, across, down = whole.boxes[0]
        assert (np.abs(centres - (left + across / 2, top + down / 2)) < 4).all(axis=1).any()


def test_what_an_earlier_larger_picture_left_does_not_show_in_the_padding(
    detector: Detector, group: NDArray[np.uint8]
) -> None:
    small = group[:, :353, :481]
    fresh = detector.detect([small])[0]
    detector.detect([np.full((3, 384, 512), 255, np.uint8)])
    assert_same(detector.detect([small])[0], fresh, tolerance=0)


def test_memory_of_larger_pictures_goes_back_also_where_they_were_of_another_colour(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_module, "SHRINK_AFTER", 3)
    detector, process = load_detector(), psutil.Process()
    large, small = np.zeros((3, 5120, 640), np.uint8), np.zeros((3, 64, 64), np.uint8)
    detector.detect([small, small], [Colour.YUV_601, Colour.YUV_709])

    before = process.memory_info().rss
    detector.detect([large], [Colour.YUV_709])
    held = process.memory_info().rss - before
    for _ in range(4):
        detector.detect([small], [Colour.YUV_601])

    assert held > 40e6
    assert process.memory_info().rss - before < held / 3


@pytest.mark.parametrize("shade", [0, 128, 255])
@pytest.mark.parametrize("size", [(384, 640), (33, 47), (32, 32), (8, 5)])
def test_an_empty_picture_has_no_faces(detector: Detector, size: tuple[int, int], shade: int) -> None:
    faces = detector.detect([np.full((3, *size), shade, np.uint8)])[0]
    assert faces.boxes.shape == (0, 4)
    assert faces.scores.shape == (0,)
    assert faces.boxes.dtype == faces.scores.dtype == np.float32


def test_no_pictures_give_no_answer(detector: Detector) -> None:
    assert detector.detect([]) == []


def test_faces_come_best_first_and_no_more_than_asked_for(crowd: NDArray[np.uint8]) -> None:
    for device in BACKENDS:
        every = load_detector(device).detect([crowd])[0]
        best = load_detector(device, max_faces=5).detect([crowd])[0]
        assert (np.diff(every.scores) <= 0).all()
        assert every.scores.min() >= 0.6
        assert_same(best, Faces(every.boxes[:5], every.scores[:5]), tolerance=0)


@pytest.mark.parametrize("picture", [
    np.zeros((64, 64, 3), np.uint8), np.zeros((3, 64, 64), np.float32), np.zeros((64, 64), np.uint8),
    np.zeros((3, 0, 64), np.uint8)])
def test_a_picture_of_another_form_is_refused(detector: Detector, picture: Any) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 of \(3, height, width\)"):
        detector.detect([picture])


def test_a_detector_in_each_thread_finds_the_same_faces(group: NDArray[np.uint8]) -> None:
    expected = load_detector().detect([group])[0]

    def detect(_: int) -> list[Faces]:
        own = load_detector()
        return [own.detect([group])[0] for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(detect, range(4)):
            for faces in answers:
                assert_same(faces, expected, tolerance=0)


@pytest.mark.parametrize("name", ["yunet.onnx", "yunet.safetensors"])
def test_weights_with_another_hash_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in FOLDER.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    changed = bytearray((tmp_path / name).read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / name).write_bytes(changed)
    monkeypatch.setattr("yunet.weights.FOLDER", tmp_path)
    with pytest.raises(WeightsError, match=rf"{name}: sha256 is .*; reinstall the package$"):
        load_detector("cpu" if name == "yunet.onnx" else "torch:cpu")


@pytest.mark.parametrize("description", [None, "{", "[]", '{"sha256": {}}'])
def test_weights_without_a_usable_description_are_refused(description: str | None, tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes((FOLDER / "yunet.onnx").read_bytes())
    if description is not None:
        (tmp_path / "yunet.json").write_text(description)
    with pytest.raises(WeightsError, match=r"yunet\.onnx: cannot be read .*; reinstall the package$"):
        read_weights("yunet.onnx", tmp_path)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "torch:nothing"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(RuntimeError, match=f"^device {device.removeprefix('torch:')}: torch cannot use it"):
        load_detector(device)


@pytest.mark.parametrize("score", [0.0, 1.0, -1.0, float("nan")])
def test_a_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"must be from 0\.01 to 0\.99"):
        load_detector(score=score)


def test_detecting_on_the_cpu_never_imports_torch() -> None:
    code = ("import sys, numpy; from yunet.detector import load_detector; "
            "load_detector().detect([numpy.zeros((3, 64, 64), numpy.uint8)]); sys.exit('torch' in sys.modules)")
    path = str(Path(load_detector.__code__.co_filename).parents[1])
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, check=False).returncode == 0

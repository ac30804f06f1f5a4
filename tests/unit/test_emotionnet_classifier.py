"""The classifier on a CPU: many crops in one call, the same answer in whatever company a crop comes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emotionnet.classifier import Classifier, NonFiniteError, load_classifier
from emotionnet.preprocess import InputSpec
from emotionnet.weights import LABELS, WeightsError, WeightsInfo, load_info, write_info

SIDE = load_info().input.side


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """Returns the built-in weights in onnxruntime."""
    return load_classifier()


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Returns 150 crops of noise at all levels of light, more than two chunks."""
    random = np.random.default_rng(7)
    return (random.integers(0, 256, (150, SIDE, SIDE)) * random.random((150, 1, 1))).astype(np.uint8)


def test_each_row_holds_the_probabilities_of_one_crop(classifier: Classifier, crops: np.ndarray) -> None:
    out = classifier.classify(crops)

    assert out.shape == (150, len(LABELS))
    assert out.dtype == np.float32
    assert np.allclose(out.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(out.round(4), axis=0)) > 100


def test_a_crop_gets_the_same_answer_alone_and_among_others(classifier: Classifier, crops: np.ndarray) -> None:
    alone = np.concatenate([classifier.classify(crops[i:i + 1]) for i in range(70)])

    assert np.array_equal(alone, classifier.classify(crops)[:70])


def test_no_crops_give_no_rows(classifier: Classifier) -> None:
    assert classifier.classify(np.empty((0, SIDE, SIDE), np.uint8)).shape == (0, len(LABELS))


def test_a_view_that_is_not_contiguous_is_classified_like_its_copy(classifier: Classifier, crops: np.ndarray) -> None:
    turned = crops[:4].transpose(0, 2, 1)

    assert np.array_equal(classifier.classify(turned), classifier.classify(turned.copy()))


@pytest.mark.parametrize("wrong", [
    np.zeros((2, 48, 48), np.uint8), np.zeros((SIDE, SIDE), np.uint8), np.zeros((2, SIDE, SIDE), np.float32),
])
def test_crops_of_another_shape_or_type_are_refused(classifier: Classifier, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"takes \(N, {SIDE}, {SIDE}\) uint8"):
        classifier.classify(wrong)


def test_a_result_that_is_no_number_is_an_error_not_an_answer(tmp_path: Path) -> None:
    classifier = load_classifier(write_logarithm(tmp_path))
    crops = np.full((3, 32, 32), 128, np.uint8)
    assert np.isfinite(classifier.classify(crops)).all()

    crops[1] = 0

    with pytest.raises(NonFiniteError, match="no numbers for 1 of 3 faces"):
        classifier.classify(crops)


def test_weights_with_other_classes_and_another_side_work(tmp_path: Path) -> None:
    classifier = load_classifier(write_logarithm(tmp_path))

    assert classifier.info.labels == ("calm", "moved")
    assert classifier.classify(np.full((1, 32, 32), 128, np.uint8)).shape == (1, 2)


def test_a_graph_for_a_fixed_number_of_crops_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="takes exactly 4 crops at a time"):
        load_classifier(write_logarithm(tmp_path, faces=4))


def test_the_torch_classifier_names_what_is_missing() -> None:
    code = ("import sys; sys.modules['torch'] = None\n"
            "from emotionnet.classifier import load_classifier\n"
            "load_classifier(device='cuda:0')")

    done = run_python(code)

    assert "RuntimeError: device cuda:0 needs torch: install emotiond[gpu], or use device cpu" in done.stderr


def test_classifying_on_a_cpu_never_imports_torch() -> None:
    code = ("import sys\nfrom emotionnet.classifier import load_classifier\nload_classifier()\n"
            "assert not {'torch', 'ultralytics', 'safetensors'} & set(sys.modules)")

    done = run_python(code)

    assert (done.returncode, done.stderr) == (0, "")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a fresh interpreter that finds what this one finds."""
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": paths})


def write_logarithm(folder: Path, faces: int | str = "faces") -> Path:
    """Writes a set of two classes whose output is no number for a black crop: the logarithm of its mean, twice."""
    onnx = pytest.importorskip("onnx", reason="needs emotiond[train]")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("Cast", ["crops"], ["light"], to=kinds.FLOAT),
         helper.make_node("ReduceMean", ["light", "axes"], ["mean"], keepdims=0),
         helper.make_node("Sub", ["mean", "one"], ["less"]),
         helper.make_node("Log", ["less"], ["column"]),
         helper.make_node("Unsqueeze", ["column", "last"], ["matrix"]),
         helper.make_node("Concat", ["matrix", "matrix"], ["out"], axis=1)],
        "logarithm",
        [helper.make_tensor_value_info("crops", kinds.UINT8, [faces, 32, 32])],
        [helper.make_tensor_value_info("out", kinds.FLOAT, [faces, 2])],
        [helper.make_tensor("axes", kinds.INT64, [2], [1, 2]), helper.make_tensor("one", kinds.FLOAT, [], [1.0]),
         helper.make_tensor("last", kinds.INT64, [1], [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = model.SerializeToString()
    (folder / "logarithm.onnx").write_bytes(content)
    return write_info(WeightsInfo(
        "logarithm", "1", ("calm", "moved"), InputSpec(side=32), 1,
        {"logarithm.onnx": hashlib.sha256(content).hexdigest()}, {}, {}, folder))

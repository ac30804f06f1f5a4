"""From torch to a set of weights and back: one network in two files, the same answers from both."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs emotiond[train]")
pytest.importorskip("onnxscript", reason="needs emotiond[train]")

import torch
from safetensors.torch import load_file, save

from emotionnet.classifier import Classifier, load_classifier
from emotionnet.export import save_weights
from emotionnet.network import EmotionNet
from emotionnet.preprocess import InputSpec, normalize
from emotionnet.torch_classifier import load_network
from emotionnet.weights import Calibration, WeightsError, WeightsInfo, load_info, write_info

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # torch's exporter alone takes ten seconds of a free core

CLASSES = ("bored", "calm", "glad", "moved", "tired")
TENSORS = "other.safetensors"
TEMPERATURE = 1.7


def make_network(classes: int = len(CLASSES)) -> EmotionNet:
    """Returns a network whose every tensor matters: random kernels, random statistics."""
    torch.manual_seed(3)
    network = EmotionNet(3, classes).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith((".bn.running_mean", ".bn.bias")):
            tensor.normal_(std=0.2)
        elif name.endswith((".bn.running_var", ".bn.weight")):
            tensor.uniform_(0.5, 2)
    network.classify.linear.weight.data.mul_(10)
    return network


@pytest.fixture(scope="module")
def network() -> EmotionNet:
    """Returns the network that is exported."""
    return make_network()


@pytest.fixture(scope="module")
def weights(network: EmotionNet, tmp_path_factory: pytest.TempPathFactory) -> WeightsInfo:
    """Returns a set of five classes at 96 px."""
    return save_weights(
        tmp_path_factory.mktemp("set"), network, name="other", version="0.1", labels=CLASSES,
        spec=InputSpec(side=96, mean=0.4, std=0.2, margin=1.3, shift_y=0.1), metrics={"test": {"accuracy": 0.2}},
        provenance={"data": "noise"}, calibration=Calibration(TEMPERATURE, 0.55, "validation", "labels", 900, 0.1))


@pytest.fixture(scope="module")
def onnx(weights: WeightsInfo) -> Classifier:
    """Returns the set in onnxruntime."""
    return load_classifier(weights.folder)


@pytest.fixture(scope="module")
def eager(weights: WeightsInfo) -> Classifier:
    """Returns the set in torch."""
    return load_classifier(weights.folder, "torch:cpu")


@pytest.fixture
def copied(weights: WeightsInfo, tmp_path: Path) -> WeightsInfo:
    """Returns a copy of the set that a test may break."""
    for file in weights.folder.iterdir():
        shutil.copy(file, tmp_path)
    return load_info(tmp_path)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Returns 64 crops of noise."""
    return np.random.default_rng(5).integers(0, 256, (64, 96, 96), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 3, 64])
def test_onnx_and_torch_agree_on_any_number_of_crops(
    onnx: Classifier, eager: Classifier, crops: np.ndarray, count: int
) -> None:
    one, other = onnx.classify(crops[:count]), eager.classify(crops[:count])

    assert one.shape == (count, len(CLASSES))
    assert np.abs(one - other).max() < 1e-4
    assert np.ptp(other, axis=1).min() > 0.01


def test_the_graph_does_what_normalisation_and_network_do(
    onnx: Classifier, weights: WeightsInfo, crops: np.ndarray
) -> None:
    with torch.inference_mode():
        logits = load_network(weights)(torch.from_numpy(normalize(crops[:8], weights.input)))[1]
        expected = (logits / TEMPERATURE).softmax(dim=1).numpy()

    assert np.abs(onnx.classify(crops[:8]) - expected).max() < 1e-4


def test_rounding_to_half_precision_hardly_moves_a_probability(
    network: EmotionNet, onnx: Classifier, crops: np.ndarray
) -> None:
    with torch.inference_mode():
        logits = network(torch.from_numpy(normalize(crops[:8], onnx.info.input)))[1]
        exact = (logits / TEMPERATURE).softmax(dim=1).numpy()

    assert np.abs(onnx.classify(crops[:8]) - exact).max() < 5e-3


def test_without_a_temperature_the_graph_divides_by_none(
    network: EmotionNet, tmp_path: Path, crops: np.ndarray
) -> None:
    info = save_weights(tmp_path, network, name="plain", version="1", labels=CLASSES, spec=InputSpec(side=32),
                        metrics={}, provenance={})
    small = np.ascontiguousarray(crops[:3, :32, :32])
    with torch.inference_mode():
        expected = load_network(info)(torch.from_numpy(normalize(small, info.input)))[0].numpy()

    for device in ("cpu", "torch:cpu"):
        assert np.abs(load_classifier(tmp_path, device).classify(small) - expected).max() < 1e-4
    assert info.calibration == Calibration()


def test_a_network_wider_than_what_is_loaded_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is 2 times as wide as what a set of weights holds; keep it as a teacher"):
        save_weights(tmp_path, EmotionNet(3, 2, width=2), name="n", version="1", labels=("a", "b"), spec=InputSpec(),
                     metrics={}, provenance={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("change", "words"), [
    ({"name": "../escape"}, r"`str` matching regex .* at `\$\.name`"),
    ({"name": "n" * 65}, r"at `\$\.name`"),
    ({"version": "1.0 beta"}, r"at `\$\.version`"),
    ({"version": ""}, r"at `\$\.version`"),
    ({"labels": ("a", "b" * 65)}, r"length <= 64 - at `\$\.labels"),
    ({"labels": ("a", "ow\udcffl")}, "surrogates not allowed"),
    ({"labels": ("a", "a")}, "a label stands twice in a, a"),
    ({"calibration": Calibration(pictures=-1)}, r"in the calibration: .* at `\$\.pictures`"),
])
def test_a_set_that_could_not_be_loaded_is_not_written(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    own: dict[str, Any] = {"name": "n", "version": "1", "labels": ("a", "b"), "spec": InputSpec(), "metrics": {},
                           "provenance": {}}
    with pytest.raises(WeightsError, match=f"such a set could not be loaded .*{words}"):
        save_weights(tmp_path / "inner", EmotionNet(3, 2), **(own | change))
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_is_loaded_again(tmp_path: Path) -> None:
    info = save_weights(tmp_path, EmotionNet(3, 2), name="n" * 64, version="1", labels=("a", "b"),
                        spec=InputSpec(side=32), metrics={}, provenance={})

    assert load_info(tmp_path) == info


def test_the_two_files_of_the_built_in_weights_agree() -> None:
    side = load_info().input.side
    crops = np.random.default_rng(9).integers(0, 256, (3, side, side), dtype=np.uint8)

    one, other = (load_classifier("builtin", device).classify(crops) for device in ("cpu", "torch:cpu"))

    assert np.abs(one - other).max() < 1e-4


def test_the_torch_classifier_takes_more_crops_than_its_largest_batch_and_none(
    eager: Classifier, crops: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotionnet.torch_classifier.BUCKETS", (1, 2, 4))

    many = eager.classify(crops[:13])

    assert many.shape == (13, len(CLASSES))
    assert np.allclose(many[-5:], eager.classify(crops[8:13]), atol=1e-5)
    assert eager.classify(crops[:0]).shape == (0, len(CLASSES))


def test_a_set_is_described_whole_and_leaves_no_parts(weights: WeightsInfo) -> None:
    assert load_info(weights.folder) == weights
    assert sorted(p.name for p in weights.folder.iterdir()) == ["other.json", "other.onnx", "other.safetensors"]
    assert weights.parameters == sum(p.numel() for p in load_network(weights).parameters())


def test_the_files_tell_nothing_of_the_machine_that_wrote_them(weights: WeightsInfo) -> None:
    here = str(Path(__file__).parents[2]).encode()

    assert all(here not in file.read_bytes() for file in weights.folder.iterdir())


def test_a_network_without_numbers_is_not_written(tmp_path: Path) -> None:
    broken = make_network()
    broken.state_dict()["backbone.3.conv.weight"][0, 0, 0, 0] = float("nan")

    with pytest.raises(WeightsError, match=r"backbone\.3\.conv\.weight holds values that are not numbers"):
        save_weights(tmp_path, broken, name="n", version="1", labels=CLASSES, spec=InputSpec(), metrics={},
                     provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_network_with_other_outputs_than_labels_is_not_written(network: EmotionNet, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has 5 outputs, but there are 2 labels"):
        save_weights(tmp_path, network, name="n", version="1", labels=("a", "b"), spec=InputSpec(), metrics={},
                     provenance={})


def without(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    """Returns a change that removes the tensor `name`."""
    return lambda tensors: tensors.pop(name)


def with_one(name: str, tensor: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], object]:
    """Returns a change that puts in `tensor` as `name`."""
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(("change", "words"), [
    (without("backbone.0.conv.weight"), "its backbone.0.conv.weight is missing, but EmotionNet"),
    (with_one("head.weight", torch.zeros(2)), "its head.weight is 2, but EmotionNet with the 5 labels"),
    (with_one("classify.linear.weight", torch.zeros(7, 1280)), "is 7x1280, but EmotionNet with the 5 labels of the "
     "JSON beside it has 5x1280"),
    (with_one("classify.linear.bias", torch.full((5,), float("nan"))), "linear.bias holds values that are not"),
])
def test_tensors_of_another_network_are_refused(
    copied: WeightsInfo, change: Callable[[dict[str, torch.Tensor]], object], words: str
) -> None:
    tensors = load_file(copied.folder / TENSORS)
    change(tensors)

    assert words in refusal(copied, save(tensors))


def test_truncated_safetensors_are_refused(copied: WeightsInfo) -> None:
    assert "is no readable safetensors" in refusal(copied, copied.read(".safetensors")[:100_000])


def test_safetensors_of_another_hash_are_refused(copied: WeightsInfo) -> None:
    (copied.folder / TENSORS).write_bytes(copied.read(".safetensors") + b" ")

    with pytest.raises(WeightsError, match="its sha256 is"):
        load_classifier(copied.folder, "torch:cpu")


def test_a_device_that_is_not_there_is_named(weights: WeightsInfo) -> None:
    with pytest.raises(RuntimeError, match=r"^device cuda:99 is not there \(.*\); use device cpu$"):
        load_classifier(weights.folder, "cuda:99")


def refusal(info: WeightsInfo, tensors: bytes) -> str:
    """Puts `tensors` in the set, with their hash, and returns the sentence with which torch's classifier refuses."""
    (info.folder / TENSORS).write_bytes(tensors)
    write_info(replace(info, sha256=info.sha256 | {TENSORS: hashlib.sha256(tensors).hexdigest()}))
    with pytest.raises(WeightsError) as caught:
        load_classifier(info.folder, "torch:cpu")
    assert str(caught.value).startswith(str(info.folder / TENSORS))
    return str(caught.value)

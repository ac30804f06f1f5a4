"""Sets of weights in 8 bits: made of any set, near to it, and the built-in one."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emotionnet.classifier import load_classifier
from emotionnet.preprocess import resize
from emotionnet.weights import WeightsError, load_info
from emotiontrain.data import load_data
from emotiontrain.quantize import quantize

SAME_ANSWERS = 0.95     # of the built-in set's copy; 98.7 % on all of validation


@pytest.fixture(scope="module")
def crops(data_dir: Path) -> NDArray[np.uint8]:
    """Every fifth validation picture, as the classifier takes them."""
    validation = load_data(str(data_dir / "fer2013" / "fer2013_kaggle_jpg.tar.xz"), use="validation").validation
    side = load_info().input.side
    return np.stack([resize(picture, side) for picture in validation.pictures[::5]])


def test_the_built_in_8_bit_set_answers_as_the_set_it_was_made_from(crops: NDArray[np.uint8]) -> None:
    info, whole = load_info("builtin-int8"), load_info()
    assert info.model_id == whole.model_id.replace("emotionnet-", "emotionnet-int8-")
    assert (info.labels, info.input, info.calibration) == (whole.labels, whole.input, whole.calibration)
    assert info.provenance["quantized"]["sha256"] == whole.sha256["emotionnet.onnx"]

    ours, theirs = (load_classifier(name).classify(crops) for name in ("builtin-int8", "builtin"))

    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > SAME_ANSWERS
    assert np.abs(ours - theirs).mean() < 0.01


@pytest.mark.parametrize("split", ["validation", "test"])
def test_its_measured_accuracy_is_that_of_the_set_it_was_made_from(split: str) -> None:
    ours, theirs = (load_info(name).metrics[split] for name in ("builtin-int8", "builtin"))

    assert ours["pictures"] == theirs["pictures"]
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.005)
    assert ours["votes"]["accuracy"] == pytest.approx(theirs["votes"]["accuracy"], abs=0.005)


def test_a_set_is_quantised_to_the_same_bytes_each_time_and_answers_alike(
    crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    info = load_info()
    made = [quantize(info, crops[:64], tmp_path / name, seed=0, command="a command") for name in ("one", "other")]

    assert made[0].sha256 == made[1].sha256
    assert load_info(tmp_path / "one").provenance["quantized"]["pictures"] == 64
    ours, theirs = (load_classifier(path).classify(crops[64:192]) for path in (tmp_path / "one", "builtin"))
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > SAME_ANSWERS - 0.03
    assert ours.sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_an_8_bit_set_is_not_quantised_again_nor_written_beside_its_source_nor_run_by_torch(
    crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"is in 8 bits already; give the set that it was made from$"):
        quantize(load_info("builtin-int8"), crops[:8], tmp_path, seed=0, command="")
    with pytest.raises(WeightsError, match=r"holds the set itself, and a folder is for one set; give another one$"):
        quantize(load_info(), crops[:8], load_info().folder, seed=0, command="")
    with pytest.raises(WeightsError, match=r"an 8-bit set is for CPUs: give the one it was made from$"):
        load_classifier("builtin-int8", "torch:cpu")

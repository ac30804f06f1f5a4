"""Training: what of the data is kept, a run that goes on as if never interrupted, and the way to a set of weights."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotionnet.weights import LABELS, load_info
from emotiontrain import cli
from emotiontrain.data import DataError, load_data
from emotiontrain.evaluate import figures

PER_LABEL = {"Training": 3, "PublicTest": 1, "PrivateTest": 1}
USAGES = {"train": ("Training",), "test": ("PublicTest", "PrivateTest")}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains on one thread: several wait for each other at every small step when the machine is busy."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder in Kaggle's layout: 21 training, 7 validation and 7 test pictures, all different."""
    folder = tmp_path_factory.mktemp("fer")
    random = np.random.default_rng(1)
    for usage, count in PER_LABEL.items():
        for label in LABELS:
            for index in range(count):
                put(folder, usage, label, index, random.integers(0, 256, (48, 48), dtype=np.uint8))
    return folder


def put(folder: Path, usage: str, label: str, index: int, picture: np.ndarray) -> None:
    """Writes a picture where Kaggle's set has it."""
    top = "train" if usage == "Training" else "test"
    path = folder / top / top / label / f"{usage}_{LABELS.index(label) * 1000 + index}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])


def copy_of(folder: Path, target: Path) -> Path:
    """Returns a copy of a folder of pictures that a test may change."""
    return Path(shutil.copytree(folder, target / "fer"))


def test_a_folder_is_read_by_split_and_label(faces: Path) -> None:
    data = load_data(str(faces))

    assert (len(data.train), len(data.validation), len(data.test)) == (21, 7, 7)
    assert data.train.counts() == dict.fromkeys(LABELS, 3)
    assert data.train.pictures.shape == (21, 48, 48)
    assert data.train.pictures.dtype == np.uint8
    assert sum(data.dropped.values()) == 0


def test_a_tar_of_the_folder_gives_the_same(faces: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "fer.tar.xz", "w:xz") as tar:
        tar.add(faces, "somewhere/inside")

    one, other = load_data(str(faces)), load_data(str(tmp_path / "fer.tar.xz"))

    assert all(np.array_equal(getattr(one, s).pictures, getattr(other, s).pictures)
               and np.array_equal(getattr(one, s).labels, getattr(other, s).labels)
               for s in ("train", "validation", "test"))


def test_what_is_in_test_or_validation_is_dropped_from_training_and_copies_with_it(
    faces: Path, tmp_path: Path
) -> None:
    folder = copy_of(faces, tmp_path)

    def picture(usage: str, label: str, index: int) -> np.ndarray:
        top = "train" if usage == "Training" else "test"
        path = folder / top / top / label / f"{usage}_{LABELS.index(label) * 1000 + index}.jpg"
        return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))

    clean = load_data(str(folder))
    copies = {
        ("Training", "sad", 10): picture("PrivateTest", "sad", 0),       # leaks from test
        ("Training", "fear", 11): picture("PublicTest", "happy", 0),     # leaks from validation, otherwise labelled
        ("PublicTest", "happy", 12): picture("PrivateTest", "happy", 0),
        ("Training", "angry", 13): picture("Training", "angry", 0),      # a copy: one stays
        ("Training", "neutral", 14): picture("Training", "disgust", 0),  # a copy with another label: none stays
        ("Training", "surprise", 15): np.full((48, 48), 7, np.uint8),
    }
    for (usage, label, index), content in copies.items():
        path = folder / ("train" if usage == "Training" else "test") / "lossless"
        path.mkdir(exist_ok=True)
        target = path / label / f"{usage}_{LABELS.index(label) * 1000 + index}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(bytes(cv2.imencode(".png", content)[1]))

    data = load_data(str(folder))

    assert data.dropped == {
        "validation: also in test": 1, "train: also in validation or test": 2, "train: constant picture": 1,
        "train: copies with other labels": 2, "train: copy": 1}
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 7, 7)
    assert np.array_equal(data.test.pictures, clean.test.pictures)


@pytest.mark.parametrize(("content", "words"), [
    (b"no tar at all", "cannot be read as a tar"),
    (b"\xfd7zXZ\x00\x00\x04cut", "cannot be read as a tar"),
    (None, "no such folder or file"),
])
def test_data_that_cannot_be_read_is_said_in_one_sentence(
    tmp_path: Path, content: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fer.tar.xz"
    if content is not None:
        path.write_bytes(content)

    assert cli.main(["data", str(path)]) == 66
    error = capsys.readouterr().err
    assert error.startswith(f"emotiontrain: {path}: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_truncated_tar_is_refused_rather_than_half_read(faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "fer.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(faces, "fer")
    path.write_bytes(path.read_bytes()[:-20_000])

    with pytest.raises(DataError, match="fetch it again"):
        load_data(str(path))


def test_a_label_without_pictures_and_a_broken_picture_are_named(faces: Path, tmp_path: Path) -> None:
    folder = copy_of(faces, tmp_path)
    broken = folder / "train" / "train" / "sad" / "Training_5000.jpg"
    broken.write_bytes(broken.read_bytes()[:10])
    with pytest.raises(DataError, match=r"Training_5000\.jpg: not a readable 48x48 picture"):
        load_data(str(folder))

    for file in broken.parent.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no train pictures of sad"):
        load_data(str(folder))


def test_kaggle_without_credentials_or_network_ends_at_once_with_both_ways_out(tmp_path: Path) -> None:
    pytest.importorskip("kagglehub", reason="needs emotiond[train]")
    taken = ("KAGGLE", "HTTP", "ALL_PROXY", "NO_PROXY")
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(taken)}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    own = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    done = subprocess.run(
        [sys.executable, "-m", "emotiontrain.cli", "data", "kaggle"], capture_output=True, text=True,
        check=False, env=kept | nowhere | own)

    assert done.returncode == 66
    assert "KAGGLE_USERNAME and KAGGLE_KEY, or give a local folder or tar" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_real_set_loses_what_its_list_of_copies_says(data_dir: Path) -> None:
    data = load_data(str(data_dir / "fer2013" / "fer2013_kaggle_jpg.tar.xz"))
    with (data_dir / "fer2013" / "fer2013_meta.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    read = Counter(row["usage"] for row in rows)
    dropped = Counter(data.dropped)
    assert len(data.test) == read["PrivateTest"] == 3589
    assert len(data.validation) + dropped["validation: also in test"] == read["PublicTest"] == 3589
    assert len(data.train) == 26_912
    lost = sum(n for why, n in dropped.items() if why.startswith("train"))
    assert len(data.train) + lost == read["Training"] == 28_709
    elsewhere = {row["dup_group"] for row in rows if row["usage"] != "Training" and row["dup_group"]}
    leaked = [row for row in rows if row["usage"] == "Training" and row["dup_group"] in elsewhere]
    assert dropped["train: also in validation or test"] == len(leaked)


def test_figures_are_those_worked_out_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2], np.int64)
    predicted = [0, 0, 1, 1, 2, 0]
    probabilities = np.full((6, len(LABELS)), 0.05, np.float32)
    probabilities[np.arange(6), predicted] = 0.7

    result = figures(probabilities, labels)

    assert result["accuracy"] == round(4 / 6, 4)
    assert [result["recall"][label] for label in LABELS[:4]] == [round(2 / 3, 4), 1.0, 0.5, 0.0]
    assert [result["precision"][label] for label in LABELS[:3]] == [round(2 / 3, 4), 0.5, 1.0]
    assert result["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 7, abs=1e-4)
    assert result["confusion"][0][:3] == [2, 1, 0]
    assert result["nll"] == pytest.approx(-(4 * np.log(0.7) + 2 * np.log(0.05)) / 6, abs=1e-4)


def test_the_built_in_weights_are_evaluated_and_the_figures_kept_only_when_asked(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "set"
    shutil.copytree(load_info().folder, weights)
    before = load_info(weights)

    assert cli.main(["evaluate", str(weights), str(faces), "--json", str(tmp_path / "figures.json")]) == 0
    assert load_info(weights) == before
    assert cli.main(["evaluate", str(weights), str(faces), "--split", "test", "--store"]) == 0

    assert json.loads((tmp_path / "figures.json").read_text())["pictures"] == 7
    stored = load_info(weights).metrics["test"]
    assert stored["pictures"] == 7
    assert np.sum(stored["confusion"]) == 7
    assert "on test, 7 pictures: accuracy" in capsys.readouterr().out


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [], ["train", "data"], ["train", "data", "run", "--side", "50"], ["evaluate", "w", "d", "--split", "x"],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
    assert "side is 50, not a multiple of 32" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_goes_on_exactly_as_if_it_had_not_been_interrupted(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="needs emotiond[train]")
    from safetensors.torch import load_file

    from emotionnet.preprocess import InputSpec
    from emotiontrain import train as module

    recipe = module.Recipe(epochs=2, batch=7, input=InputSpec(side=32))
    module.train(str(faces), tmp_path / "whole", recipe)

    first = module.train_one_epoch

    def interrupted(*arguments: object) -> float:
        if arguments[6] == 1:
            raise KeyboardInterrupt
        return first(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_one_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            module.train(str(faces), tmp_path / "twice", recipe)
    module.train(str(faces), tmp_path / "twice", recipe)

    for file in ("checkpoint.safetensors", "best.safetensors"):
        one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "twice" / file)
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    logs = [json.loads((tmp_path / folder / "log.json").read_text()) for folder in ("whole", "twice")]
    for log in logs:
        assert [epoch.pop("seconds") >= 0 for epoch in log["epochs"]] == [True, True]
        log["best"].pop("seconds")
    assert logs[0] == logs[1]

    with pytest.raises(module.RunError, match="another recipe"):
        module.train(str(faces), tmp_path / "twice", module.Recipe(epochs=3, batch=7, input=InputSpec(side=32)))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_pictures_to_a_set_of_weights_by_commands_alone(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="needs emotiond[train]")
    run, weights = str(tmp_path / "run"), str(tmp_path / "weights")

    assert cli.main(["train", str(faces), run, "--epochs", "1", "--batch", "7", "--side", "32"]) == 0
    assert cli.main(["export", run, weights, "--name", "own", "--version", "0.1", "--margin", "1.2"]) == 0
    assert cli.main(["evaluate", weights, str(faces), "--store"]) == 0

    info = load_info(weights)
    assert (info.model_id, info.input.side, info.input.margin) == ("own-0.1", 32, 1.2)
    assert info.provenance["finished"]
    assert info.provenance["recipe"]["epochs"] == 1
    assert info.provenance["data"]["train"] == dict.fromkeys(LABELS, 3)
    assert "--epochs 1 --batch 7" in info.provenance["commands"][0]
    assert info.metrics["validation"]["pictures"] == 7
    capsys.readouterr()


def test_a_folder_without_a_run_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="needs emotiond[train]")

    assert cli.main(["export", str(tmp_path), str(tmp_path / "out"), "--version", "1"]) == 1
    assert "holds no readable run" in capsys.readouterr().err
    assert cli.main(["train", str(tmp_path), str(tmp_path / "run")]) == 66


def test_a_batch_larger_than_the_data_is_refused(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="needs emotiond[train]")

    assert cli.main(["train", str(faces), str(tmp_path), "--batch", "64"]) == 66
    assert "21 training pictures do not fill one batch of 64" in capsys.readouterr().err

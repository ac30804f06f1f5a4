"""`emotiond model verify --data`: the card's accuracy measured again, with nothing but the base install."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from emotionnet.weights import BUILTIN, LABELS, load_info
from tests.support.commands import Ended, call
from tests.support.daemon import with_path
from tests.support.labelled import write_pictures

ONLY_BASE = ("import sys\nfor name in ('torch', 'ultralytics', 'emotiontrain'): sys.modules[name] = None\n"
             "import emotiond.cli; sys.exit(emotiond.cli.main(sys.argv[1:]))")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Returns a copy of the shipped set."""
    return Path(shutil.copytree(BUILTIN.parent, tmp_path / "weights"))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Returns 35 pictures of noise named like FER2013's test."""
    write_pictures(tmp_path / "fer", "test", LABELS, 5, prefix="PrivateTest_")
    return tmp_path / "fer"


def verify(weights: Path | str, data: Path) -> Ended:
    """Runs it in a process in which torch and the training package cannot be imported."""
    ended = subprocess.run(
        [*with_path(), sys.executable, "-c", ONLY_BASE, "model", "verify", str(weights), "--data", str(data)],
        capture_output=True, text=True, timeout=110, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def state(weights: Path, test: Any) -> None:
    """Puts figures of the test split into the JSON."""
    path = weights / "emotionnet.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"metrics": {"test": test}}))


def accuracy(weights: Path, faces: Path) -> float:
    """Returns the accuracy on `faces` as the command prints it."""
    state(weights, {"pictures": 35, "accuracy": 0.0})
    found = re.search(r"([\d.]+)% here", call("model", "verify", weights, "--data", faces).out)
    assert found
    return float(found[1]) / 100


def test_the_shipped_accuracy_is_reproduced_from_the_real_set(data_dir: Path) -> None:
    ended = verify("builtin", data_dir / "fer2013/fer2013_kaggle_jpg.tar.xz")

    stated = load_info().metrics["test"]
    assert (ended.code, ended.err) == (0, "")
    line = re.search(r"^test +3,589 pictures: accuracy ([\d.]+)% in the JSON, ([\d.]+)% here, ([\d.]+) points apart; "
                     r"2 pictures, 0\.06%, may differ$", ended.out, re.MULTILINE)
    assert line, ended.out
    assert float(line[1]) == pytest.approx(stated["accuracy"] * 100, abs=1e-6)
    assert float(line[2]) == pytest.approx(stated["accuracy"] * 100, abs=0.07)


def test_a_set_in_8_bits_is_verified_without_torch() -> None:
    ended = call("model", "verify", "builtin-int8")

    assert (ended.code, ended.err) == (0, "")
    assert "emotionnet-int8-" in ended.out
    assert "torch        not compared: a set in 8 bits is for CPUs" in ended.out


def test_two_pictures_apart_is_the_same_and_three_are_not(weights: Path, faces: Path) -> None:
    found = accuracy(weights, faces)

    for apart, code in ((0, 0), (2, 0), (3, 1)):
        away = apart / 35 if found < 0.5 else -apart / 35
        state(weights, {"pictures": 35, "accuracy": round(found + away, 4)})

        ended = call("model", "verify", weights, "--data", faces)

        assert ended.code == code, ended
        printed = re.search(r"([\d.]+) points apart", ended.out)
        assert printed
        assert float(printed[1]) == pytest.approx(apart / 35 * 100, abs=0.02)
        if code:
            assert re.fullmatch(r"emotiond: emotionnet-\S+ does not reproduce its accuracy on .+; give .+\n", ended.err)


def test_pictures_that_are_not_as_many_cannot_be_compared(weights: Path, faces: Path) -> None:
    state(weights, {"pictures": 36, "accuracy": 0.5})

    ended = call("model", "verify", weights, "--data", faces)

    assert ended.code == 66
    assert f"emotiond: {faces}: holds 35 test pictures, but emotionnet-" in ended.err
    assert "was measured on 36; give the whole set" in ended.err


@pytest.mark.parametrize("test", [
    None, {}, {"pictures": 35}, {"accuracy": 0.5}, [1, 2], {"pictures": "x", "accuracy": 1}])
def test_a_set_without_figures_cannot_be_compared(weights: Path, faces: Path, test: Any) -> None:
    state(weights, test)

    ended = call("model", "verify", weights, "--data", faces)

    assert ended.code == 1
    assert "has no accuracy on test to compare with; measure it with `emotiontrain evaluate" in ended.err


def test_data_that_cannot_be_used_ends_with_66(weights: Path, faces: Path, tmp_path: Path) -> None:
    (faces / "test/sad/PrivateTest_sad1.png").write_bytes(b"damaged")
    (tmp_path / "cut.tar.xz").write_bytes(b"\xfd7zXZ\x00cut")
    (tmp_path / "empty").mkdir()

    for path, words in (
        (faces, "PrivateTest_sad1.png: is no picture"), (tmp_path / "cut.tar.xz", "cannot be read as a tar ("),
        (tmp_path / "empty", "holds no test pictures"), (tmp_path / "no", "no such folder or file"),
    ):
        ended = call("model", "verify", weights, "--data", path)

        assert ended.code == 66
        assert words in ended.err
        assert len(ended.lines) == 1


def test_the_info_shows_the_calibration(weights: Path) -> None:
    path = weights / "emotionnet.json"
    content = json.loads(path.read_text())
    content.pop("calibration", None)
    path.write_text(json.dumps(content))
    plain = call("model", "info", weights).out
    path.write_text(json.dumps(content | {"calibration": {
        "temperature": 0.87, "abstain_below": 0.55, "split": "validation", "truth": "votes", "pictures": 2854,
        "ece_before": 0.106, "ece_after": 0.0251, "accepted": 0.771, "accuracy": 0.901}}))
    fitted = call("model", "info", weights).out
    path.write_text(json.dumps(content | {"calibration": {"split": "validation", "truth": "labels", "pictures": 36}}))

    few = call("model", "info", weights).out

    assert "calibration  none: temperature 1; 36 validation pictures are too few, export with 100 at least\n" in few
    assert "calibration  none: temperature 1\nabstains     below 0.4\n" in plain
    assert ("calibration  temperature 0.87, validation, 2,854 pictures, their votes: calibration error 10.6% before, "
            "2.5% after\nabstains     below 0.55: keeps 77.1% of those answers, 90.1% of them right\n") in fitted


def test_the_info_shows_metrics_and_provenance_in_lines_that_can_be_read() -> None:
    out = call("model", "info").out

    assert "\nmetrics\n    validation:\n      pictures: " in out
    assert "\nprovenance\n    data:\n" in out
    assert max(map(len, out.splitlines())) <= 132


def test_own_classes_under_fer2013s_names_are_measured_as_emotiontrain_does(weights: Path, tmp_path: Path) -> None:
    path = weights / "emotionnet.json"
    labels = [f"own-{label}" for label in LABELS]
    path.write_text(json.dumps(json.loads(path.read_text()) | {
        "labels": labels, "metrics": {"test": {"pictures": 28, "accuracy": 0.0}}}))
    for prefix in ("PublicTest_", "PrivateTest_"):
        write_pictures(tmp_path / "own", "test", labels, 2, prefix=prefix)

    assert "test         28 pictures: accuracy 0.00% in the JSON" in call(
        "model", "verify", weights, "--data", tmp_path / "own").out

"""The whole chain in one go: pictures, two epochs, an exported set of weights, and a replay that runs it."""

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from emotionnet.weights import LABELS, load_info
from tests.support.commands import run
from tests.support.daemon import with_path

PER_CLASS = {"Training": 60, "PublicTest": 20, "PrivateTest": 20}


@pytest.fixture(scope="module")
def pictures(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the first pictures of each class and split of FER2013."""
    folder, taken = tmp_path_factory.mktemp("fer"), Counter[tuple[str, str]]()
    with tarfile.open(data_dir / "fer2013" / "fer2013_kaggle_jpg.tar.xz") as tar:
        for member in tar:
            path = Path(member.name)
            key = (path.name.split("_")[0], path.parent.name)
            if member.isfile() and taken[key] < PER_CLASS.get(key[0], 0):
                taken[key] += 1
                tar.extract(member, folder, filter="data")
    assert sum(taken.values()) == 7 * sum(PER_CLASS.values())
    return folder


def emotiontrain(*arguments: str | Path) -> str:
    """Runs a command in a process of its own and returns its output."""
    ended = subprocess.run(
        [*with_path(), sys.executable, "-m", "emotiontrain", *map(str, arguments)], capture_output=True, text=True,
        timeout=200, check=False, stdin=subprocess.DEVNULL, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)      # under a minute on two quiet cores
def test_two_epochs_from_pictures_to_events(pictures: Path, data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs emotiond[train]")
    votes = data_dir / "fer2013" / "fer2013_meta.csv"
    weights = tmp_path / "weights"

    trained = emotiontrain("train", pictures, tmp_path / "run", "--votes", votes, "--vote-weight", "0.5",
                           "--epochs", "2", "--batch", "64", "--threads", "1", "--start", "builtin")
    assert "epoch 2: training loss" in trained
    emotiontrain("export", tmp_path / "run", weights, "--name", "own", "--version", "0.1",
                 "--data", pictures, "--votes", votes)
    emotiontrain("evaluate", weights, pictures, "--split", "test", "--json", tmp_path / "figures.json")

    emotiontrain("quantize", weights, pictures, tmp_path / "int8", "--pictures", "100")

    assert load_info(tmp_path / "int8").model_id == "own-int8-0.1"
    assert sum(path.stat().st_size for path in weights.iterdir()) < 8e6
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["figures"]["pictures"] == 7 * PER_CLASS["PrivateTest"]
    assert figures["figures"]["accuracy"] > 0.3      # it began with the built-in weights; by chance it would be .14
    (tmp_path / "emotiond.yaml").write_text(f"classifier: {{weights: {weights}}}\n")
    ended = run("replay", data_dir / "clips" / "one_woman_20s_360p.mp4", "-c", tmp_path / "emotiond.yaml",
                "--events", tmp_path / "events.jsonl")
    assert ended.code == 0, ended.err
    events = [json.loads(line)["data"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    faces = [face for event in events for face in event["faces"]]
    assert len(faces) > 400
    assert {event["model"] for event in events} == {"own-0.1"}
    assert {tuple(face["probabilities"]) for face in faces} == {LABELS}

"""How often the classifiers name FER2013's labels."""

import json
from pathlib import Path

from emotionnet.weights import BUILTIN
from tests.benchmarks.figures import Sheet
from tests.benchmarks.peers import packages, python
from tests.benchmarks.setting import ROOT, Setting, run_alone
from tests.conftest import DATA

TITLE = "Accuracy"
ABOUT = """\
The share of FER2013's PrivateTest, 48x48 crops of faces, that a classifier names as the set labels it, and as most
of ten taggers do (FER+, where most agree). EmotionNet's figures are those of its weights' own files, one network
without test-time augmentation ([how they were measured](training.md)); those of `fer` and `facex` are measured
here, each picture prepared as the package prepares a face that it found."""
TABLE = "FER2013, PrivateTest"
LADDER = ROOT / "training" / "ladder" / "ladder.json"
BUILTIN_NAME = "EmotionNet, built in"
LABELS, VOTES, PICTURES = "as labelled", "as most of ten see it", "pictures"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Reads our figures and measures the peers' classifiers."""
    add_own(sheet, BUILTIN_NAME, BUILTIN)
    add_own(sheet, "EmotionNet, taught by labels alone", LADDER)
    archive, table = DATA / "fer2013" / "fer2013_kaggle_jpg.tar.xz", DATA / "fer2013" / "fer2013_meta.csv"
    if packages() is None or not archive.exists():
        sheet.lacks("fer and facex: they need `make .venv/.peers` and FER2013 in the test data's folder.")
        return
    for name in ("fer", "facex"):
        try:
            run = run_alone("peer_accuracy", name, archive, table, 20 if setting.quick else 1, python=python())
        except RuntimeError as error:
            sheet.lacks(f"{name}: {str(error).strip().splitlines()[-1][:200]}")
            continue
        sheet.add(TABLE, name, LABELS, 100 * run["right"] / run["pictures"], "%")
        sheet.add(TABLE, name, PICTURES, run["pictures"])
    sheet.lacks("The emotions of ultralytics' row: its network looks at people, not at crops of faces.")


def add_own(sheet: Sheet, name: str, file: Path) -> None:
    """Adds what stands in the file of a set of weights."""
    if not file.exists():
        sheet.lacks(f"{name}: {file.name} is not there.")
        return
    found = json.loads(file.read_bytes())["metrics"]["test"]
    sheet.add(TABLE, name, LABELS, 100 * found["accuracy"], "%")
    sheet.add(TABLE, name, PICTURES, found["pictures"])
    if "votes" in found:
        sheet.add(TABLE, name, VOTES, 100 * found["votes"]["accuracy"], "%")

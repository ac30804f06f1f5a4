"""Small sets of pictures that tests make: FER2013's layout, and one of other classes."""

import shutil
from pathlib import Path

import cv2
import numpy as np

from emotionnet.weights import LABELS

PER_LABEL = {"Training": 3, "PublicTest": 1, "PrivateTest": 1}


def make_faces(folder: Path) -> Path:
    """Makes a set in Kaggle's layout: 21 training, 7 validation and 7 test pictures, all different."""
    random = np.random.default_rng(1)
    for usage, count in PER_LABEL.items():
        for label in LABELS:
            for index in range(count):
                put(fer2013_path(folder, usage, label, index), noise(random))
    return folder


def make_animals(folder: Path) -> Path:
    """Makes a set of cats and owls, 20 each, with colour, many sizes and types of file, in train/ alone."""
    random = np.random.default_rng(2)
    suffixes = ("jpg", "JPEG", "png", "bmp", "webp")
    for label in ("cat", "owl"):
        for index in range(20):
            height, width = random.integers(30, 200, 2)
            picture = random.integers(0, 256, (height, width, 3))
            put(folder / "train" / label / f"{index}.{suffixes[index % 5]}", picture)
    return folder


def noise(random: np.random.Generator) -> np.ndarray:
    """Returns a 48x48 picture."""
    return random.integers(0, 256, (48, 48))


def fer2013_path(folder: Path, usage: str, label: str, index: int) -> Path:
    """Returns where Kaggle's set has a picture."""
    top = "train" if usage == "Training" else "test"
    return folder / top / top / label / f"{usage}_{LABELS.index(label) * 1000 + index}.jpg"


def put(path: Path, picture: np.ndarray, kind: str | None = None) -> None:
    """Writes a picture as what its name's ending says, or as another kind under this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = kind or path.suffix
    best = [cv2.IMWRITE_JPEG_QUALITY, 100] if kind == ".jpg" else []
    path.write_bytes(bytes(cv2.imencode(kind, picture.astype(np.uint8), best)[1]))


def copy_of(folder: Path, target: Path) -> Path:
    """Returns a copy of a folder of pictures that a test may change."""
    return Path(shutil.copytree(folder, target / "copy"))

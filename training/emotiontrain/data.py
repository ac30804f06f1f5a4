"""FER2013 as folders of JPEGs, cleaned: https://www.kaggle.com/datasets/aadityasinghal/facial-expression-dataset.

The pictures' names say their split in the original challenge: Training, PublicTest (validation) or
PrivateTest (test). About one in twenty pictures is an exact copy of another, and 568 of the 7,178 test
pictures stand in the training set too; what is in validation or test is dropped from training here.
"""

import hashlib
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotionnet.weights import LABELS

KAGGLE_SET = "aadityasinghal/facial-expression-dataset"
PICTURE_SIDE = 48
_SPLITS = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}


class DataError(Exception):
    """The data cannot be used; the message says what is wrong and how to mend it."""


@dataclass(frozen=True)
class Split:
    """Pictures (N, 48, 48) uint8 with their labels (N,) int64, indices into LABELS."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.labels)

    def counts(self) -> dict[str, int]:
        """Returns the number of pictures of each label."""
        return dict(zip(LABELS, np.bincount(self.labels, minlength=len(LABELS)).tolist(), strict=True))


@dataclass(frozen=True)
class Dataset:
    """The cleaned splits and what cleaning dropped, by reason."""

    train: Split
    validation: Split
    test: Split
    dropped: dict[str, int]


def load_data(source: str) -> Dataset:
    """Reads and cleans FER2013.

    Args:
        source: a folder or a tar (`train/<label>/*.jpg`, `test/<label>/*.jpg`, at any depth), or
            `kaggle` to fetch the set with kagglehub (needs Kaggle's credentials).

    Raises:
        DataError: nothing there, unreadable pictures, a label or a split without pictures.
    """
    raw: dict[str, list[tuple[str, int, NDArray[np.uint8]]]] = {"train": [], "validation": [], "test": []}
    for name, label, content in sorted(_read_files(source), key=lambda item: item[:2]):
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None or picture.shape != (PICTURE_SIDE, PICTURE_SIDE):
            raise DataError(f"{name}: not a readable {PICTURE_SIDE}x{PICTURE_SIDE} picture; fetch the set again")
        raw[_SPLITS[name.split("_")[0]]].append((name, label, np.asarray(picture, np.uint8)))
    for split, items in raw.items():
        missing = set(range(len(LABELS))) - {label for _, label, _ in items}
        if missing:
            raise DataError(f"{source}: no {split} pictures of {', '.join(LABELS[i] for i in sorted(missing))}; "
                            "expected train/<label>/Training_*.jpg and test/<label>/{PublicTest,PrivateTest}_*.jpg")
    return _clean(raw)


def _clean(raw: dict[str, list[tuple[str, int, NDArray[np.uint8]]]]) -> Dataset:
    """Test stays whole; validation loses what is in test; training loses what is in either, and its own faults."""
    dropped: Counter[str] = Counter()
    digests = {split: [hashlib.sha256(p.tobytes()).digest() for _, _, p in items] for split, items in raw.items()}
    in_test, in_validation = set(digests["test"]), set(digests["validation"])
    labels_of: dict[bytes, set[int]] = {}
    for (_, label, _), digest in zip(raw["train"], digests["train"], strict=True):
        labels_of.setdefault(digest, set()).add(label)

    kept_validation = [item for item, digest in zip(raw["validation"], digests["validation"], strict=True)
                       if digest not in in_test]
    dropped["validation: also in test"] = len(raw["validation"]) - len(kept_validation)

    kept_train: list[tuple[str, int, NDArray[np.uint8]]] = []
    seen: set[bytes] = set()
    for item, digest in zip(raw["train"], digests["train"], strict=True):
        if digest in in_test or digest in in_validation:
            dropped["train: also in validation or test"] += 1
        elif item[2].min() == item[2].max():
            dropped["train: constant picture"] += 1
        elif len(labels_of[digest]) > 1:
            dropped["train: copies with other labels"] += 1
        elif digest in seen:
            dropped["train: copy"] += 1
        else:
            seen.add(digest)
            kept_train.append(item)
    return Dataset(_split(kept_train), _split(kept_validation), _split(raw["test"]), dict(dropped))


def _split(items: list[tuple[str, int, NDArray[np.uint8]]]) -> Split:
    return Split(np.stack([p for _, _, p in items]), np.array([label for _, label, _ in items], np.int64))


def _read_files(source: str) -> Iterator[tuple[str, int, bytes]]:
    """Yields (file name, label, content) of every picture whose parent folder is one of LABELS."""
    found = False
    path = _fetch_from_kaggle() if source == "kaggle" else Path(source)
    if path.is_dir():
        for file in path.rglob("*.jpg"):
            if file.parent.name in LABELS and file.name.split("_")[0] in _SPLITS:
                found = True
                yield file.name, LABELS.index(file.parent.name), file.read_bytes()
    elif path.is_file():
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    name = Path(member.name)
                    content = tar.extractfile(member) if member.isfile() else None
                    if content and name.parent.name in LABELS and name.name.split("_")[0] in _SPLITS:
                        found = True
                        yield name.name, LABELS.index(name.parent.name), content.read()
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{path}: cannot be read as a tar ({reason}); fetch it again") from error
    else:
        raise DataError(f"{path}: no such folder or file; give a folder, a tar or 'kaggle'")
    if not found:
        raise DataError(f"{path}: no FER2013 pictures (<label>/Training_*.jpg and so on) in it")


def _fetch_from_kaggle() -> Path:
    try:
        import kagglehub  # only this source needs it
    except ImportError as error:
        raise DataError("kaggle: needs kagglehub; install emotiond[train], or give a local folder or tar") from error
    try:
        return Path(kagglehub.dataset_download(KAGGLE_SET))
    except Exception as error:  # kagglehub's errors have no common base
        raise DataError(
            f"kaggle: {KAGGLE_SET} could not be fetched ({type(error).__name__}); check the network, put an API token "
            "in ~/.kaggle/kaggle.json or KAGGLE_USERNAME and KAGGLE_KEY, or give a local folder or tar") from error

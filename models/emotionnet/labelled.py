"""Labelled pictures: what their paths say, and the test ones read without training parts, to measure weights again.

Two layouts, in a folder or a tar: FER2013's, where `<label>/PrivateTest_*` is the test whatever folder it lies in, and
that of a set of one's own, `test/<label>/*`. The scaling is the one that `emotiontrain` measures with.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotionnet.pictures import DecodeError, PicturesError, decode, read_files, square
from emotionnet.preprocess import Grey, resize
from emotionnet.weights import LABELS

FER2013_SIDE, OWN_SIDE = 48, 128
"""Pixels of FER2013's pictures, and those that a set with others is brought to: more than the network takes, so that
augmentation can zoom."""

FER2013_USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
"""How the names of FER2013's pictures begin, and the split that this stands for."""

_FOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
SPLIT_FOLDERS = frozenset(_FOLDERS)
"""Names of folders that hold a split, in lower case."""


def fer2013_split(parts: Sequence[str]) -> str | None:
    """Returns the split of a file of FER2013, `<label>/<usage>_*`, which its folder's name tells too; else None."""
    usage, mark, _ = parts[-1].partition("_")
    return FER2013_USAGES.get(usage) if mark and len(parts) > 1 and parts[-2] in LABELS else None


def own_place(parts: Sequence[str], below: int = 1) -> tuple[str, str] | None:
    """Returns the split and the class of a file (of a folder for `below` 0); Kaggle's `train/train` is one split."""
    for index in reversed(range(len(parts) - 1 - below)):
        split = _FOLDERS.get(parts[index].lower())
        if split is not None:
            return split, parts[index + 1]
    return None


def read_test_pictures(source: Path, labels: Sequence[str], side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Reads the test pictures of a folder or a tar.

    Args:
        source: the folder or the tar, in one of the two layouts.
        labels: the classes, which are folders' names.
        side: of the crops in pixels.

    Returns:
        (N, side, side) uint8 crops, and (N,) indices into `labels`.

    Raises:
        PicturesError: nothing there, no test pictures of these labels, or a file that is no picture.
    """
    fer2013: list[tuple[int, Grey]] = []
    own: list[tuple[int, Grey]] = []
    larger = False
    for entry in read_files(source):
        if entry.content is None:
            continue
        usage = fer2013_split(entry.parts)
        split, label = (usage, entry.parts[-2]) if usage else own_place(entry.parts) or ("", "")
        if split != "test" or label not in labels:
            larger = larger or (split in {"train", "validation"} and not usage and _is_larger(entry.content))
            continue
        try:
            picture = decode(entry.content)
        except DecodeError as error:
            raise PicturesError(f"{source.joinpath(*entry.parts)}: is no picture that can be read ({error}); "
                                "fetch the set again") from error
        (fer2013 if usage else own).append((labels.index(label), picture))
    if not fer2013 and not own:
        raise PicturesError(
            f"{source}: holds no test pictures of {', '.join(labels)}; give FER2013, with <label>/PrivateTest_*.jpg, "
            "or a set with pictures in test/<label>/")
    chosen = fer2013 or own
    if (larger and not fer2013) or any(picture.shape != (FER2013_SIDE, FER2013_SIDE) for _, picture in chosen):
        chosen = [(label, square(picture, OWN_SIDE)) for label, picture in chosen]
    return (np.stack([resize(picture, side) for _, picture in chosen]),
            np.array([label for label, _ in chosen], np.int64))


def _is_larger(content: bytes) -> bool:
    """Returns whether a picture is not as FER2013's: then `emotiontrain` scales the small ones of its set up too."""
    try:
        return decode(content).shape != (FER2013_SIDE, FER2013_SIDE)
    except DecodeError:
        return False

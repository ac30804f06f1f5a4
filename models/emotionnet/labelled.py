"""Reads the labelled test pictures that a set of weights was measured on, to measure it again without training parts.

Two layouts, in a folder or a tar: FER2013's, where `<label>/PrivateTest_*` is the test whatever folder it lies in, and
that of a set of one's own, `test/<label>/*`. The scaling is the one that `emotiontrain` measures with.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotionnet.pictures import DecodeError, PicturesError, decode, read_files, square
from emotionnet.preprocess import Grey, resize

FER2013_SIDE, OWN_SIDE = 48, 96
"""Pixels of FER2013's pictures, and those that a set with others is brought to: more than the network takes, so that
augmentation can zoom."""

_FER2013 = ("Training_", "PublicTest_", "PrivateTest_")


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
    for entry in read_files(source):
        label = _label(entry.parts, labels)
        if entry.content is None or label is None:
            continue
        try:
            picture = decode(entry.content)
        except DecodeError as error:
            raise PicturesError(f"{source.joinpath(*entry.parts)}: is no picture that can be read ({error}); "
                                "fetch the set again") from error
        (fer2013 if entry.parts[-1].startswith(_FER2013) else own).append((label, picture))
    if not fer2013 and not own:
        raise PicturesError(
            f"{source}: holds no test pictures of {', '.join(labels)}; give FER2013, with <label>/PrivateTest_*.jpg, "
            "or a set with pictures in test/<label>/")
    chosen = fer2013 or own
    if any(picture.shape != (FER2013_SIDE, FER2013_SIDE) for _, picture in chosen):
        chosen = [(label, square(picture, OWN_SIDE)) for label, picture in chosen]
    return (np.stack([resize(picture, side) for _, picture in chosen]),
            np.array([label for label, _ in chosen], np.int64))


def _label(parts: Sequence[str], labels: Sequence[str]) -> int | None:
    """Returns the class of a test picture, None for anything else."""
    *folders, name = parts or ("",)
    if name.startswith(_FER2013):
        found = folders[-1] if folders and name.startswith("PrivateTest_") else None
    else:
        tests = [i for i, folder in enumerate(folders[:-1]) if folder.lower() == "test"]
        found = folders[tests[-1] + 1] if tests else None
    return labels.index(found) if found in labels else None

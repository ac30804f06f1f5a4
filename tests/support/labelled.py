"""Folders of labelled pictures, made of noise that a network can tell apart by its brightness."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def write_pictures(
    folder: Path, split: str, labels: Sequence[str], count: int, *, prefix: str = "", side: int = 48
) -> None:
    """Writes `count` pictures a label as `<split>/<label>/<prefix><number>.png`, all of them different.

    Args:
        folder: the set's.
        split: name of the split's folder.
        labels: names of the classes; each is brighter than the one behind it.
        count: of pictures for each.
        prefix: of their names.
        side: of the pictures in pixels.
    """
    random = np.random.default_rng(sum(split.encode()) + len(prefix))
    for index, label in enumerate(labels):
        (folder / split / label).mkdir(parents=True, exist_ok=True)
        light = 220 - 190 * index / max(len(labels) - 1, 1)
        for number in range(count):
            picture = random.normal(light, 25, (side, side)).clip(0, 255).astype(np.uint8)
            assert cv2.imwrite(str(folder / split / label / f"{prefix}{label}{number}.png"), picture)

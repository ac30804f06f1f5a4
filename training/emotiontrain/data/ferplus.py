"""Joins FER+'s votes to pictures whose names say nothing of their row: by the pixels in the challenge's own CSV.

FER+ (https://github.com/microsoft/FERPlus) lists its votes in the order of the rows of `fer2013.csv`
(https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge). Sets of
pictures made from that file have lost the order, but not the pixels.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotionnet.files import write_whole
from emotiontrain.data.layouts import FER2013_SIDE, Item, gather
from emotiontrain.data.votes import VotesError

NEAR = 6.0
"""Mean difference in grey levels up to which a picture is taken for a row's: what JPEG does to it stays below 3."""


def join_votes(source: str, pixels: Path, votes: Path, out: Path) -> tuple[int, int]:
    """Writes the votes as a CSV that `load_votes` reads, one line a picture.

    Args:
        source: FER2013 as pictures, as in `load_data`.
        pixels: `fer2013.csv`, with a column `pixels`.
        votes: FER+'s `fer2013new.csv`, as many rows in the same order.
        out: gets the CSV, whole or not at all.

    Returns:
        How many pictures have votes now, and how many found no row.

    Raises:
        DataError: the pictures cannot be read.
        VotesError: a CSV cannot be read, or the two do not belong together.
    """
    rows = _read_pixels(pixels)
    header, lines = _read_votes(votes)
    if len(rows) != len(lines):
        raise VotesError(f"{votes}: has {len(lines):,} rows, but {pixels} has {len(rows):,}; "
                         "give fer2013.csv and fer2013new.csv whole")
    items = [item for split in gather(source).splits.values() for item in split]
    if items[0].picture.shape != (FER2013_SIDE, FER2013_SIDE):
        raise VotesError(f"{source}: its pictures are not FER2013's; give the set that the votes belong to")
    found = match(items, rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *header])
    writer.writerows([item.path, *lines[row]] for item, row in zip(items, found, strict=True) if row is not None)
    if all(row is None for row in found):
        raise VotesError(f"{pixels}: no picture of {source} is in it; give the file that the set was made from")
    write_whole({out: text.getvalue().encode()})
    return sum(row is not None for row in found), sum(row is None for row in found)


def match(items: Sequence[Item], rows: NDArray[np.uint8]) -> list[int | None]:
    """Returns each picture's row: one with the same pixels, else the nearest left; each row serves once."""
    waiting: dict[bytes, list[int]] = defaultdict(list)
    for row in range(len(rows) - 1, -1, -1):
        waiting[rows[row].tobytes()].append(row)
    found: list[int | None] = []
    for item in items:
        same = waiting.get(item.picture.tobytes())
        found.append(same.pop() if same else None)
    left = np.array(sorted({*range(len(rows))} - set(found)), np.int64)
    for index, item in enumerate(items):
        if found[index] is None and len(left):
            distance = np.abs(rows[left].astype(np.int16) - item.picture.ravel()).mean(axis=1)
            nearest = int(distance.argmin())
            if distance[nearest] <= NEAR:
                found[index] = int(left[nearest])
                left = np.delete(left, nearest)
    return found


def _read_pixels(path: Path) -> NDArray[np.uint8]:
    """Returns (rows, 2304) grey levels."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [np.array(line["pixels"].split(), np.uint8) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise VotesError(f"{path}: is no fer2013.csv with a column `pixels` ({_reason(error)}); "
                         "fetch it from the challenge") from error
    if not rows or any(row.size != FER2013_SIDE ** 2 for row in rows):
        raise VotesError(f"{path}: its rows do not have {FER2013_SIDE}x{FER2013_SIDE} pixels each; fetch it again")
    return np.stack(rows)


def _read_votes(path: Path) -> tuple[list[str], list[list[str]]]:
    """Returns the names of FER+'s columns of votes, and each row's."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise VotesError(f"{path}: cannot be read as FER+'s CSV ({_reason(error)}); check the path") from error
    chosen = [index for index, name in enumerate(header) if name.strip().lower() not in ("usage", "image name")]
    if any(len(line) != len(header) for line in lines):
        raise VotesError(f"{path}: its rows have different lengths; fetch it again")
    return [header[index] for index in chosen], [[line[index] for index in chosen] for line in lines]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""Taggers' votes joined to pictures: FER+ (https://github.com/microsoft/FERPlus) has ten a picture."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from emotiontrain.data.sources import DataError

MOST_VOTES = 1_000_000
"""For one class of one picture."""

_ALIASES = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
_OTHERS = ("contempt", "unknown", "nf", "other")
_NAME = ("path", "name", "file", "image name")


class VotesError(DataError):
    """A file of votes cannot be used; the message says what is wrong and how to mend it."""


@dataclass(frozen=True)
class Votes:
    """Votes by picture.

    Attributes:
        path: of the file, for messages.
        rows: a picture's `<class>/<name>` where the file says the class, and its name alone where no other picture
            of the file has it, -> row of `counts`.
        counts: (N, classes + 1), the last column what is none of the classes.
    """

    path: Path
    rows: dict[str, int]
    counts: NDArray[np.int64]

    def of(self, pictures: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
        """Returns (len(pictures), classes + 1) counts of pictures (class, name); zeros where one has none."""
        out = np.zeros((len(pictures), self.counts.shape[1]), np.int64)
        for index, picture in enumerate(pictures):
            row = self._row(picture)
            if row is not None:
                out[index] = self.counts[row]
        return out

    def check(self, splits: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
        """Returns a sentence for each split of which fewer than half the pictures have votes.

        Args:
            splits: split -> class and name of its pictures.

        Raises:
            VotesError: no picture has votes, or several would have the votes of one.
        """
        used = Counter(self._row(picture) for pictures in splits.values() for picture in pictures)
        if set(used) <= {None}:
            name = next(name for pictures in splits.values() for _, name in pictures)
            raise VotesError(f"{self.path}: has votes on {next(iter(self.rows))} and so on, but the data's pictures "
                             f"have other names, {name} and so on; give the votes on these pictures")
        for pictures in splits.values():
            for label, name in pictures:
                row = self._row((label, name))
                if row is not None and used[row] > 1:
                    raise VotesError(f"{self.path}: has one row for {name}, but {used[row]} pictures of the data have "
                                     "this name; write <class>/<name> in the rows, or give each a name of its own")
        found = {split: sum(self._row(picture) is not None for picture in pictures)
                 for split, pictures in splits.items()}
        return [f"votes: on only {found[split]:,} of {len(pictures):,} {split} pictures"
                for split, pictures in splits.items() if 2 * found[split] < len(pictures)]

    def _row(self, picture: tuple[str, str]) -> int | None:
        return self.rows.get("/".join(picture), self.rows.get(picture[1]))


def load_votes(path: Path, labels: Sequence[str]) -> Votes:
    """Reads a CSV of votes: one column that names the picture, one a label, any of contempt, unknown, NF and other.

    FER+'s own names of the labels (anger, happiness, sadness) and a prefix `fp_` are understood, small and capital
    letters are one, and other columns are ignored. A row without a name is left out: FER+ has
    those, where it took a picture away.

    Raises:
        VotesError: unreadable, no column of names, a label without a column, no rows, a picture with two rows, or a
            count that is no whole number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or ())
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise VotesError(f"{path}: cannot be read as a CSV of votes ({reason}); check the path") from error
    columns: dict[str, str] = {}
    lowered = [label.lower() for label in labels]
    for column in header:
        short = column.strip().lower().removeprefix("fp_")
        columns.setdefault(short if short in lowered else _ALIASES.get(short, short), column)
    shown = ", ".join(map(repr, header)) or "none"
    name_column = next((columns[name] for name in _NAME if name in columns), None)
    if name_column is None:
        raise VotesError(f"{path}: no column names the picture; its columns are {shown}; call that one of "
                         f"{', '.join(_NAME)}, and put commas between columns")
    missing = [label for label, column in zip(labels, lowered, strict=True) if column not in columns]
    if missing:
        raise VotesError(f"{path}: no column for {', '.join(missing)}; its columns are {shown}; add one for each class "
                         "of the data, or give votes on these classes")
    wanted = [columns[label] for label in lowered]
    others = [columns[other] for other in _OTHERS if other in columns and other not in lowered]
    counts = np.zeros((len(lines), len(labels) + 1), np.int64)
    rows: dict[str, int] = {}
    names: list[str] = []
    for index, (number, line) in enumerate(lines):
        parts = PurePath(line[name_column] or "").parts
        names.append(parts[-1] if parts else "")
        key = "/".join(parts[-2:]) if len(parts) > 1 and parts[-2] in labels else names[-1]
        if key in rows:
            raise VotesError(f"{path}, line {number}: a second row for {key}; leave one")
        try:
            counts[index, :-1] = [_count(line[column], column) for column in wanted]
            counts[index, -1] = sum(_count(line[column], column) for column in others)
        except ValueError as error:
            raise VotesError(f"{path}, line {number}: {error}") from error
        if key:
            rows[key] = index
    if not rows:
        raise VotesError(f"{path}: has no rows of votes; give a file that has")
    alone = Counter(names)
    for index, name in enumerate(names):
        if name and alone[name] == 1:
            rows.setdefault(name, index)
    return Votes(path, rows, counts)


def _count(text: str | None, column: str) -> int:
    """Returns a number of votes; an empty cell is 0, and None one that a short line lacks."""
    if text is None:
        raise ValueError(f"has no column {column!r}; give each line as many columns as the first")
    digits = text.strip() or "0"
    if not digits.isdecimal() or len(digits) > 20 or int(digits) > MOST_VOTES:
        raise ValueError(f"{column!r} is {text[:40]!r}, no whole number from 0 to {MOST_VOTES:,}; correct it")
    return int(digits)


def shares(votes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns each picture's distribution over the classes, (N, classes).

    A row is all zero where the picture has no votes, or where more went to contempt, unknown or no face at all
    than to any class.
    """
    counted = votes[:, :-1].astype(np.float32)
    usable = (counted.max(axis=1) >= votes[:, -1]) & (counted.sum(axis=1) > 0)
    return np.where(usable[:, None], counted / np.maximum(counted.sum(axis=1, keepdims=True), 1), 0)


def majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the class that more than half of all votes went to, (N,); -1 where there is none."""
    top = votes[:, :-1].argmax(axis=1)
    clear = 2 * votes[np.arange(len(votes)), top] > votes.sum(axis=1)
    return np.where(clear, top, -1)

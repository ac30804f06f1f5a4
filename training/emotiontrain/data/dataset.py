"""Pictures with their labels, cleaned: FER2013, or a set of the user's own.

FER2013 (https://www.kaggle.com/datasets/aadityasinghal/facial-expression-dataset): about one in twenty pictures is an
exact copy of another, and 568 of the 7,178 test pictures stand in the training set too. What is in validation or
test, or nearly, is dropped from training here.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotiontrain.data.duplicates import near_copies
from emotiontrain.data.layouts import SPLITS, Gathered, Item, gather
from emotiontrain.data.sources import DataError
from emotiontrain.data.votes import Votes, load_votes

__all__ = ["DataError", "Dataset", "Split", "clean", "load_data"]

_FER2013_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4965, 4830, 3171),
    "validation": (467, 56, 496, 895, 607, 653, 415),
    "test": (491, 55, 528, 879, 626, 594, 416),
}
"""Pictures of each label in the challenge's set, before cleaning."""


@dataclass(frozen=True)
class Split:
    """Pictures with their labels.

    Attributes:
        names: N names, the last component of the pictures' paths.
        pictures: (N, S, S) uint8 grey.
        labels: (N,) int64, indices into the dataset's labels.
        votes: (N, classes + 1) int64, taggers' votes for each class and for anything else; None where none were given.
    """

    names: list[str]
    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Returns the number of pictures."""
        return len(self.labels)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "Split":
        """Returns the pictures that a mask (N,) or indices name."""
        names = np.array(self.names, object)[chosen].tolist()
        return Split(names, self.pictures[chosen], self.labels[chosen],
                     None if self.votes is None else self.votes[chosen])


@dataclass(frozen=True)
class Dataset:
    """The cleaned splits.

    Attributes:
        labels: the classes, in alphabetical order.
        train: what to learn from.
        validation: what to choose the best epoch with.
        test: what to measure the end with; empty where a set of the user's own has none.
        dropped: pictures that cleaning dropped, by reason.
        examples: a few names of each reason; copies that contradict each other stand together, with their labels.
        notes: sentences about what is odd in the set but can be used.
    """

    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    dropped: dict[str, int]
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def counts(self, split: Split) -> dict[str, int]:
        """Returns the number of pictures of each label in `split`."""
        return dict(zip(self.labels, np.bincount(split.labels, minlength=len(self.labels)).tolist(), strict=True))


def load_data(source: str, votes: Path | None = None, *, use: str = "train") -> Dataset:
    """Reads and cleans a set of pictures.

    Args:
        source: a folder or a tar in one of the two layouts of `layouts`, or `kaggle` to fetch FER2013 with kagglehub
            (needs Kaggle's credentials). Pictures of a set of the user's own are made square and of one size.
        votes: a CSV of taggers' votes, as `votes.load_votes` reads it.
        use: what it is read for; to measure `validation` or `test`, there need be no training pictures.

    Raises:
        DataError: nothing there, unreadable pictures, a class that lacks pictures in a split.
        VotesError: the votes cannot be used, or are not of these pictures.
    """
    gathered = gather(source, use)
    if gathered.fer2013:
        gathered.notes.extend(_compare_counts(gathered))
    joined = load_votes(votes, gathered.labels) if votes else None
    if joined:
        gathered.notes.extend(joined.check({
            split: [(item.label, item.name) for item in items] for split, items in gathered.splits.items()}))
    side = next(len(item.picture) for items in gathered.splits.values() for item in items)
    train, validation, test = (_split(gathered.splits[split], gathered.labels, joined, side) for split in SPLITS)
    gathered.splits.clear()  # frees the memory of the single pictures
    return clean(gathered.labels, train, validation, test, source=source, notes=gathered.notes)


def clean(
    labels: tuple[str, ...], train: Split, validation: Split, test: Split, *, source: str = "the data",
    notes: Sequence[str] = (),
) -> Dataset:
    """Test stays whole; validation loses what is in test; training loses what is in either, and its own faults.

    Args:
        labels: the classes.
        train: as read.
        validation: as read.
        test: as read; may be empty.
        source: what messages call the set.
        notes: sentences that the dataset shall carry beside its own.

    Raises:
        DataError: no picture of a class is left.
    """
    digests = {id(split): [hashlib.sha256(p.tobytes()).digest() for p in split.pictures]
               for split in (train, validation, test)}
    in_test = set(digests[id(test)])
    fresh = np.array([digest not in in_test for digest in digests[id(validation)]], bool)
    held = in_test | set(digests[id(validation)])
    copies: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests[id(train)]):
        copies.setdefault(digest, []).append(index)

    near = near_copies(train.pictures, np.concatenate([validation.pictures, test.pictures]))
    dropped: Counter[str] = Counter({"validation: also in test": int((~fresh).sum())})
    examples = {"validation: also in test": validation.select(~fresh).names[:3]}
    keep = np.zeros(len(train), bool)
    for index, (name, picture, digest) in enumerate(zip(train.names, train.pictures, digests[id(train)], strict=True)):
        same = copies[digest]
        example = name
        if digest in held:
            reason = "train: also in validation or test"
        elif near[index]:
            reason = "train: near copy of a picture in validation or test"
        elif picture.min() == picture.max():
            reason = "train: constant picture"
        elif len(set(train.labels[same].tolist())) > 1:
            reason = "train: copies with other labels"
            example = " = ".join(f"{train.names[i]} ({labels[train.labels[i]]})" for i in same)
        elif index != same[0]:
            reason = "train: copy"
        else:
            keep[index] = True
            continue
        dropped[reason] += 1
        few = examples.setdefault(reason, [])
        if len(few) < 3 and example not in few:
            few.append(example)
    data = Dataset(labels, train.select(keep), validation.select(fresh), test, dict(dropped), examples,
                   (*notes, *_constant("validation", validation.select(fresh)), *_constant("test", test)))
    for name, before, after in (("train", train, data.train), ("validation", validation, data.validation)):
        gone = [label for label, count in data.counts(after).items() if not count]
        if len(before) and gone:
            raise DataError(f"{source}: no {name} pictures of {', '.join(gone)} are left without copies and constant "
                            "pictures; give others")
    return data


def _split(items: list[Item], labels: tuple[str, ...], votes: Votes | None, side: int) -> Split:
    pictures = np.stack([item.picture for item in items]) if items else np.zeros((0, side, side), np.uint8)
    indices = np.array([labels.index(item.label) for item in items], np.int64)
    return Split([item.name for item in items], pictures, indices,
                 None if votes is None else votes.of([(item.label, item.name) for item in items]))


def _constant(name: str, split: Split) -> list[str]:
    darkest, brightest = split.pictures.min(axis=(1, 2)), split.pictures.max(axis=(1, 2))
    found = [split.names[index] for index in np.flatnonzero(darkest == brightest)]
    more = ", ..." if len(found) > 3 else ""
    return [f"{name}: {len(found)} constant and kept ({', '.join(found[:3])}{more})"] if found else []


def _compare_counts(gathered: Gathered) -> list[str]:
    """Returns a sentence for each split that is not as large as the challenge's."""
    notes: list[str] = []
    for split, published in _FER2013_COUNTS.items():
        counts = gathered.counts(split)
        other = [f"{label} {count} instead of {wanted}"
                 for label, count, wanted in zip(gathered.labels, counts, published, strict=True) if count != wanted]
        if other and sum(counts):
            notes.append(f"{split}: {sum(counts)} pictures read, FER2013 has {sum(published)} ({', '.join(other)})")
    return notes

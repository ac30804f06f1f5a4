"""What a source's folders and names say: which split a picture belongs to, and which class it shows.

FER2013 as Kaggle has it: the names of the pictures say their split in the original challenge, `train/<class>/
Training_*` and `test/<class>/{PublicTest,PrivateTest}_*`, where PublicTest is validation. Anything else is a set of
the user's own: `train/<class>/*`, and where they exist `validation/<class>/*` and `test/<class>/*`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emotionnet.labelled import FER2013_SIDE, OWN_SIDE
from emotionnet.pictures import SUFFIXES, DecodeError, decode, square
from emotionnet.weights import LABELS
from emotiontrain.data.sources import DataError, read_source

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1
"""Share of each class that is validation where a set has none."""

_USAGES = {"Training": "train", "PublicTest": "validation", "PrivateTest": "test"}
_FOLDERS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
_LAYOUTS = ("expected train/<class>/ with pictures and, where there are such splits, validation/<class>/ and "
            "test/<class>/; or FER2013's train/<class>/Training_*.jpg and test/<class>/{PublicTest,PrivateTest}_*.jpg")


@dataclass(frozen=True)
class Item:
    """A picture of a class; `name` is the last component of `path`, which begins below the source."""

    name: str
    label: str
    path: str
    picture: NDArray[np.uint8]


@dataclass
class Gathered:
    """What a source holds, before cleaning.

    Attributes:
        labels: the classes, in alphabetical order.
        splits: by SPLITS, sorted by name.
        fer2013: whether the names are FER2013's.
        notes: sentences about what is odd but can be used.
    """

    labels: tuple[str, ...]
    splits: dict[str, list[Item]]
    fer2013: bool
    notes: list[str] = field(default_factory=list)

    def counts(self, split: str) -> list[int]:
        """Returns the number of pictures of each class."""
        counts = Counter(item.label for item in self.splits[split])
        return [counts[label] for label in self.labels]


def gather(source: str) -> Gathered:
    """Reads and decodes every picture of `source`.

    Raises:
        DataError: no pictures in a known layout, some that cannot be read, or a class that lacks pictures in a split.
    """
    fer2013, own = _Pile(), _Pile()
    console = Console(stderr=True)
    for entry in track(read_source(source), "reading", None, console=console, transient=True,
                       disable=not console.is_terminal):
        if entry.content is None:
            own.note_folder(entry.parts)
        elif (usage := _usage(entry.parts)) is not None:
            fer2013.add(usage, entry.parts[-2], entry.parts, entry.content, FER2013_SIDE)
        elif (place := _place(entry.parts)) is not None:
            own.add(*place, entry.parts, entry.content)
    for pile in (fer2013, own):
        pile.refuse_broken(source)
    if fer2013.pictures and own.pictures:
        others = _some([item.path for items in own.splits.values() for item in items])
        raise DataError(f"{source}: holds FER2013's pictures and, under other names, {others}; put these elsewhere")
    if fer2013.pictures:
        return _check(source, Gathered(LABELS, fer2013.sorted(), fer2013=True), SPLITS)
    if not own.pictures:
        raise DataError(f"{source}: no pictures ({', '.join(sorted(SUFFIXES))}) in a known layout; {_LAYOUTS}")
    return _own(source, own)


def _own(source: str, pile: "_Pile") -> Gathered:
    labels = tuple(sorted({label for _, label in pile.folders}))
    if len(labels) < 2:
        raise DataError(f"{source}: has the class {', '.join(labels)} alone; give 2 at least, each a folder in train/")
    given = [split for split in SPLITS if any(split == of for of, _ in pile.folders)]
    gathered = _check(source, Gathered(labels, pile.of_one_size(), fer2013=False), ["train", *given])
    if "validation" not in given:
        _hold_out(source, gathered)
    return gathered


def _check(source: str, gathered: Gathered, splits: Iterable[str]) -> Gathered:
    for split in dict.fromkeys(splits):
        missing = [label for label, count in zip(gathered.labels, gathered.counts(split), strict=True) if not count]
        if missing:
            raise DataError(f"{source}: no {split} pictures of {', '.join(missing)}; every class needs some in each "
                            f"split; {_LAYOUTS}")
    return gathered


def _hold_out(source: str, gathered: Gathered) -> None:
    """Moves a tenth of each class, one picture at least, from training to validation: those whose hash is least."""
    rank = {item.path: hashlib.sha256(item.name.encode("utf-8", "surrogateescape")).digest()
            for item in gathered.splits["train"]}
    chosen: set[str] = set()
    for label in gathered.labels:
        paths = sorted((item.path for item in gathered.splits["train"] if item.label == label),
                       key=lambda path: (rank[path], path))
        if len(paths) < 2:
            raise DataError(f"{source}: only one picture of {label}; give more, or a validation folder")
        chosen.update(paths[:max(round(HELD_OUT * len(paths)), 1)])
    gathered.splits["validation"] = [item for item in gathered.splits["train"] if item.path in chosen]
    gathered.splits["train"] = [item for item in gathered.splits["train"] if item.path not in chosen]
    gathered.notes.append(f"no validation folder: {len(chosen)} training pictures, a tenth of each class, are held out")


def _usage(parts: Sequence[str]) -> str | None:
    """Returns the split where the path is one of FER2013's."""
    usage, mark, _ = parts[-1].partition("_")
    return _USAGES.get(usage) if mark and len(parts) > 1 and parts[-2] in LABELS else None


def _place(parts: Sequence[str], below: int = 1) -> tuple[str, str] | None:
    """Returns the split and the class of a file (of a folder for `below` 0); Kaggle's `train/train` is one split."""
    for index in reversed(range(len(parts) - 1 - below)):
        split = _FOLDERS.get(parts[index].lower())
        if split is not None:
            return split, parts[index + 1]
    return None


def _some(names: Sequence[str], most: int = 3) -> str:
    """Returns the number of names and the first few."""
    first = ", ".join(sorted(names)[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} picture{'s' if len(names) > 1 else ''} ({first})"


class _Pile:
    """Pictures of one layout as they are read."""

    def __init__(self) -> None:
        self.splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
        self.folders: set[tuple[str, str]] = set()
        self.broken: dict[str, str] = {}
        self.pictures = 0

    def note_folder(self, parts: Sequence[str]) -> None:
        """Remembers a class's folder, which may turn out to be empty."""
        place = _place(parts, below=0)
        if place is not None and place[1].lower() not in _FOLDERS:
            self.folders.add(place)

    def add(self, split: str, label: str, parts: Sequence[str], content: bytes, side: int | None = None) -> None:
        """Decodes a picture; with `side`, one of another size counts as broken, otherwise it is made square."""
        path = PurePosixPath(*parts)
        self.pictures += 1
        self.folders.add((split, label))
        try:
            picture = decode(content)
        except DecodeError as error:
            self.broken[str(path)] = str(error)
            return
        if picture.shape != (FER2013_SIDE, FER2013_SIDE):
            if side:
                self.broken[str(path)] = f"{picture.shape[1]}x{picture.shape[0]}, not {side}x{side}"
                return
            picture = square(picture, OWN_SIDE)
        self.splits[split].append(Item(path.name, label, str(path), picture))

    def refuse_broken(self, source: str) -> None:
        if self.broken:
            first = "; ".join(f"{path}: {why}" for path, why in sorted(self.broken.items())[:3])
            more = ", ..." if len(self.broken) > 3 else ""
            raise DataError(f"{source}: {len(self.broken)} of {self.pictures} pictures cannot be used ({first}{more}); "
                            "fetch them again or remove them")

    def sorted(self) -> dict[str, list[Item]]:
        """Returns the splits in an order that does not depend on the source's."""
        return {split: sorted(items, key=lambda item: (item.name, item.label, item.path))
                for split, items in self.splits.items()}

    def of_one_size(self) -> dict[str, list[Item]]:
        """Returns the splits, sorted; pictures as small as FER2013's are scaled up where others are larger."""
        splits = self.sorted()
        if all(len(item.picture) == FER2013_SIDE for items in splits.values() for item in items):
            return splits
        return {split: [Item(item.name, item.label, item.path, square(item.picture, OWN_SIDE)) for item in items]
                for split, items in splits.items()}

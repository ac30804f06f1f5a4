"""What a source's folders and names say: which split a picture belongs to, and which class it shows.

FER2013 as Kaggle has it: the names of the pictures say their split in the original challenge, `train/<class>/
Training_*` and `test/<class>/{PublicTest,PrivateTest}_*`, where PublicTest is validation. Anything else is a set of
the user's own: `train/<class>/*`, and where they exist `validation/<class>/*` and `test/<class>/*`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from emotionnet.labelled import FER2013_SIDE, FER2013_USAGES, OWN_SIDE, SPLIT_FOLDERS, fer2013_split, own_place
from emotionnet.pictures import SUFFIXES, DecodeError, decode, square
from emotionnet.weights import LABELS, LONGEST_LABEL
from emotiontrain.data.sources import DataError, read_source

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1
"""Share of each class that is validation where a set has none."""

_USAGES = {split: usage for usage, split in FER2013_USAGES.items()}
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


def gather(source: str, use: str = "train") -> Gathered:
    """Reads and decodes every picture of `source`.

    Args:
        source: as `read_source` takes it.
        use: the split that it is read for; without training pictures, validation or test can still be measured.

    Raises:
        DataError: no pictures in a known layout, some that cannot be read, or a class that lacks pictures in a split.
    """
    fer2013, own = _Pile(), _Pile()
    others, elsewhere = Counter[str](), Counter[str]()
    console = Console(stderr=True)
    for entry in track(read_source(source, others), "reading", None, console=console, transient=True,
                       disable=not console.is_terminal):
        if entry.content is None:
            own.note_folder(entry.parts)
        elif (usage := fer2013_split(entry.parts)) is not None:
            fer2013.add(usage, entry.parts[-2], entry.parts, entry.content, FER2013_SIDE)
        elif (place := own_place(entry.parts)) is not None:
            own.add(*place, entry.parts, entry.content)
        else:
            elsewhere["/".join(entry.parts[:-2] or entry.parts[:-1]) or "."] += 1
    for pile in (fer2013, own):
        pile.refuse_broken(source)
    if fer2013.pictures and own.pictures:
        found = _some([item.path for items in own.splits.values() for item in items])
        raise DataError(f"{source}: holds FER2013's pictures and, under other names, {found}; put these elsewhere")
    if fer2013.pictures:
        gathered = Gathered(LABELS, fer2013.sorted(), fer2013=True)
        given = [split for split in SPLITS if gathered.splits[split]]
        _check(source, gathered, SPLITS if use == "train" or "train" in given else given, own)
    elif own.pictures:
        gathered = _own(source, own, use)
    elif elsewhere:
        raise DataError(f"{source}: no pictures below train/, but {_list(elsewhere)}; "
                        "put the folders of the classes below train/")
    else:
        raise DataError(f"{source}: no pictures ({', '.join(sorted(SUFFIXES))}) in a known layout; {_LAYOUTS}")
    gathered.notes.extend(_ignored(elsewhere, others))
    return gathered


def _ignored(elsewhere: Counter[str], others: Counter[str]) -> Iterator[str]:
    if elsewhere:
        yield f"ignored, as not below train/<class>/, val/<class>/ or test/<class>/: {_list(elsewhere)}"
    kinds = [f"{count:,} {suffix or 'without an ending'}" for suffix, count in (+others).most_common()]
    if kinds:
        more = ", ..." if len(kinds) > 5 else ""
        yield f"ignored, as no pictures of a kind that is read: {', '.join(kinds[:5])}{more}"


def _own(source: str, pile: "_Pile", use: str) -> Gathered:
    labels = tuple(sorted({label for _, label in pile.folders}))
    if len(labels) < 2:
        raise DataError(f"{source}: has the class {', '.join(labels)} alone; give 2 at least, each a folder in train/")
    for label in labels:
        if len(label) > LONGEST_LABEL or not label.isprintable():
            raise DataError(f"{source}: a class's folder is named {label!a}; give it a name of at most "
                            f"{LONGEST_LABEL} printable characters")
    given = [split for split in SPLITS if any(split == of for of, _ in pile.folders)]
    if use == "train" or "train" in given:
        given = list(dict.fromkeys(("train", *given)))
    gathered = Gathered(labels, pile.of_one_size(), fer2013=False)
    _check(source, gathered, given, pile)
    if "train" in given and "validation" not in given:
        _hold_out(source, gathered)
    return gathered


def _check(source: str, gathered: Gathered, splits: Iterable[str], pile: "_Pile") -> None:
    for split in splits:
        missing = [label for label, count in zip(gathered.labels, gathered.counts(split), strict=True) if not count]
        if missing:
            looked = (f"{missing[0]}/{_USAGES[split]}_*" if gathered.fer2013 else
                      f"{pile.roots.get(split, split)}/{missing[0]}/")
            raise DataError(f"{source}: no {split} pictures of {', '.join(missing)} (looked for {looked}); "
                            "every class needs some in each split")


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


def _some(names: Sequence[str], most: int = 3) -> str:
    """Returns the number of names and the first few."""
    first = ", ".join(sorted(names)[:most]) + (", ..." if len(names) > most else "")
    return f"{_pictures(len(names))} ({first})"


def _list(folders: Counter[str], most: int = 3) -> str:
    """Returns folders with how many pictures each has, the fullest first."""
    named = [f"{folder}/ ({_pictures(count)})" for folder, count in folders.most_common(most)]
    return ", ".join(named) + (", ..." if len(folders) > most else "")


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' if count != 1 else ''}"


class _Pile:
    """Pictures of one layout as they are read."""

    def __init__(self) -> None:
        self.splits: dict[str, list[Item]] = {split: [] for split in SPLITS}
        self.folders: set[tuple[str, str]] = set()
        self.roots: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.pictures = 0

    def note_folder(self, parts: Sequence[str]) -> None:
        """Remembers a split's folder, or a class's, which may turn out to be empty."""
        place = own_place(parts, below=0)
        if place is not None and place[1].lower() not in SPLIT_FOLDERS:
            self.folders.add(place)
        elif parts and (root := own_place((*parts, ""), below=0)) is not None:
            self.roots[root[0]] = "/".join(parts)

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

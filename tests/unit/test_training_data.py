"""What of a set of pictures is read, held out and dropped."""

import csv
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotionnet.weights import LABELS
from emotiontrain import cli
from emotiontrain.data import Dataset, load_data
from emotiontrain.data.duplicates import near_copies
from emotiontrain.data.votes import majority
from tests.support.picture_sets import copy_of, fer2013_path, noise, put

DROPPED = {
    "validation: also in test": 46, "train: also in validation or test": 703,
    "train: near copy of a picture in validation or test": 1019, "train: copies with other labels": 67,
    "train: copy": 908}


@pytest.fixture(scope="module")
def real(data_dir: Path) -> Dataset:
    """FER2013 from its tar, with FER+'s votes."""
    return load_data(str(data_dir / "fer2013" / "fer2013_kaggle_jpg.tar.xz"), data_dir / "fer2013" / "fer2013_meta.csv")


def sizes(data: Dataset) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def test_fer2013_is_read_by_the_usage_in_its_names(faces: Path) -> None:
    data = load_data(str(faces))

    assert data.labels == LABELS
    assert sizes(data) == (21, 7, 7)
    assert data.counts(data.train) == dict.fromkeys(LABELS, 3)
    assert data.train.pictures.shape == (21, 48, 48)
    assert data.train.pictures.dtype == np.uint8
    assert sum(data.dropped.values()) == 0


@pytest.mark.parametrize("layout", ["faces", "animals"])
def test_a_tar_of_a_folder_gives_the_same(layout: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(layout)
    with tarfile.open(tmp_path / "set.tar.xz", "w:xz") as tar:
        tar.add(folder, "somewhere/inside")

    one, other = load_data(str(folder)), load_data(str(tmp_path / "set.tar.xz"))

    for split in ("train", "validation", "test"):
        a, b = getattr(one, split), getattr(other, split)
        assert a.names == b.names
        assert np.array_equal(a.pictures, b.pictures)
        assert np.array_equal(a.labels, b.labels)


def test_a_set_of_own_classes_is_made_square_grey_and_a_tenth_of_each_class_held_out(animals: Path) -> None:
    data = load_data(str(animals))

    assert data.labels == ("cat", "owl")
    assert sizes(data) == (36, 4, 0)
    assert data.counts(data.validation) == {"cat": 2, "owl": 2}
    assert [s.pictures.shape[1:] for s in (data.train, data.validation, data.test)] == [(128, 128)] * 3
    assert "4 training pictures, a tenth of each class, are held out" in " ".join(data.notes)
    again = load_data(str(animals))
    assert again.validation.names == data.validation.names


def test_what_is_held_out_stays_so_when_pictures_are_added(animals: Path, tmp_path: Path) -> None:
    folder, random = copy_of(animals, tmp_path), np.random.default_rng(3)
    before = load_data(str(folder)).validation
    for index in range(5):
        put(folder / "train" / "cat" / f"more{index}.png", noise(random))

    after = load_data(str(folder)).validation

    owls = [name for name, label in zip(before.names, before.labels, strict=True) if label]
    assert [name for name, label in zip(after.names, after.labels, strict=True) if label] == owls


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_a_users_own_validation_and_test_folders_are_used(validation: str, animals: Path, tmp_path: Path) -> None:
    folder, random = copy_of(animals, tmp_path), np.random.default_rng(4)
    for split, count in ((validation, 3), ("test", 2)):
        for label in ("cat", "owl"):
            for index in range(count):
                put(folder / split / label / f"{index}.png", noise(random))

    data = load_data(str(folder))

    assert sizes(data) == (40, 6, 4)
    assert data.notes == ()


def test_the_middle_of_a_wide_picture_is_kept_and_scaled_by_area(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    wide = np.zeros((256, 400))
    wide[:, 72:328] = np.kron(random.integers(0, 2, (128, 128)) * 200, np.ones((2, 2)))
    put(tmp_path / "train" / "a" / "wide.png", wide)
    for name in ("a/0", "b/0", "b/1"):
        put(tmp_path / "train" / f"{name}.png", noise(random))

    data = load_data(str(tmp_path))

    every = dict(zip(data.train.names + data.validation.names,
                     np.concatenate([data.train.pictures, data.validation.pictures]), strict=True))
    assert np.array_equal(every["wide.png"], wide[::2, 72:328:2])


def test_a_set_of_48_pixels_stays_as_it_is(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    for name in ("a/0", "a/1", "b/0", "b/1"):
        put(tmp_path / "train" / f"{name}.png", noise(random))

    assert load_data(str(tmp_path)).train.pictures.shape == (2, 48, 48)


def test_a_linked_class_folder_is_read_and_a_loop_of_links_ends(animals: Path, tmp_path: Path) -> None:
    folder = copy_of(animals, tmp_path)
    (folder / "train" / "owl").rename(tmp_path / "elsewhere")
    (folder / "train" / "owl").symlink_to(tmp_path / "elsewhere")
    (folder / "train" / "cat" / "loop").symlink_to(folder)

    assert sizes(load_data(str(folder))) == (36, 4, 0)


def test_what_is_in_test_or_validation_is_dropped_from_training_and_copies_with_it(
    faces: Path, tmp_path: Path
) -> None:
    folder = copy_of(faces, tmp_path)

    def picture(usage: str, label: str, index: int) -> np.ndarray:
        return np.asarray(cv2.imread(str(fer2013_path(folder, usage, label, index)), cv2.IMREAD_GRAYSCALE))

    clean = load_data(str(folder))
    random = np.random.default_rng(7)
    leaked = cv2.GaussianBlur(noise(random).astype(np.float32), (0, 0), 3)
    leaked = np.clip((leaked - 128) * 8 + 128, 0, 255)
    copies = {
        ("Training", "sad", 10): picture("PrivateTest", "sad", 0),       # leaks from test
        ("Training", "fear", 11): picture("PublicTest", "happy", 0),     # leaks from validation, otherwise labelled
        ("PublicTest", "happy", 12): picture("PrivateTest", "happy", 0),
        ("Training", "angry", 13): picture("Training", "angry", 0),      # a copy: one stays
        ("Training", "neutral", 14): picture("Training", "disgust", 0),  # a copy with another label: none stays
        ("Training", "surprise", 15): np.full((48, 48), 7),
        ("PublicTest", "angry", 16): leaked,
        ("Training", "angry", 17): leaked * 0.8 + 10,
        ("PrivateTest", "fear", 18): np.full((48, 48), 9),
    }
    for (usage, label, index), content in copies.items():
        put(fer2013_path(folder, usage, label, index), content, kind=".png")

    data = load_data(str(folder))

    assert data.dropped == {
        "validation: also in test": 1, "train: also in validation or test": 2, "train: constant picture": 1,
        "train: near copy of a picture in validation or test": 1, "train: copies with other labels": 2,
        "train: copy": 1}
    assert sizes(data) == (20, 8, 8)
    assert np.array_equal(data.test.pictures[[n in clean.test.names for n in data.test.names]], clean.test.pictures)
    assert data.examples["train: constant picture"] == ["Training_6015.jpg"]
    assert data.examples["train: copies with other labels"] == [
        "Training_1000.jpg (disgust) = Training_4014.jpg (neutral)"]
    assert "test: 1 constant and kept (PrivateTest_2018.jpg)" in data.notes


def test_fewer_or_more_pictures_than_the_published_set_are_counted(
    faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", str(faces)]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "train: 21 pictures read, FER2013 has 28709 (angry 3 instead of 3995, disgust 3 instead of 436" in said
    assert "test: 7 pictures read, FER2013 has 3589" in said


def shifted(picture: np.ndarray) -> np.ndarray:
    return np.pad(picture, ((0, 0), (1, 0)), "edge")[:, :-1]


def rescaled(picture: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), (48, 48)))


def compressed(picture: np.ndarray) -> np.ndarray:
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("change", "least"), [(shifted, 0.8), (rescaled, 0.98), (compressed, 0.98)])
def test_near_copies_are_found_and_strangers_are_not(
    real: Dataset, change: Callable[[np.ndarray], np.ndarray], least: float
) -> None:
    known, strangers = real.test.pictures[:200], real.test.pictures[200:400]
    copies = np.stack([change(picture) for picture in known])

    assert near_copies(copies, known).mean() >= least
    assert near_copies(strangers, known).mean() <= 0.01


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_real_set_loses_what_its_list_of_copies_says(real: Dataset, data_dir: Path) -> None:
    with (data_dir / "fer2013" / "fer2013_meta.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    read = Counter(row["usage"] for row in rows)
    assert sizes(real) == (26_012, 3543, 3589)
    assert real.dropped == DROPPED
    assert real.counts(real.test) == Counter(row["label"] for row in rows if row["usage"] == "PrivateTest")
    assert len(real.validation) + DROPPED["validation: also in test"] == read["PublicTest"] == 3589
    assert len(real.train) + sum(n for why, n in DROPPED.items() if why.startswith("train")) == read["Training"]
    elsewhere = {row["dup_group"] for row in rows if row["usage"] != "Training" and row["dup_group"]}
    leaked = [row for row in rows if row["usage"] == "Training" and row["dup_group"] in elsewhere]
    assert DROPPED["train: also in validation or test"] == len(leaked)
    assert [note for note in real.notes if "FER2013 has" in note] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_taggers_votes_are_joined_to_the_real_set(real: Dataset, data_dir: Path) -> None:
    with (data_dir / "fer2013" / "fer2013_meta.csv").open(encoding="utf-8", newline="") as file:
        rows = {tuple(row["path"].split("/")[1:]): row for row in csv.DictReader(file)}
    names = dict(zip(LABELS, ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"), strict=True))

    for split, clear in ((real.test, 2720), (real.validation, None), (real.train, None)):
        assert split.votes is not None
        winners: list[int] = []
        for name, label in zip(split.names, split.labels, strict=True):
            row = rows[LABELS[label], name]
            votes = {column.removeprefix("fp_"): int(row[column]) for column in row if column.startswith("fp_")}
            best = max(votes, key=lambda voted: votes[voted])
            wins = 2 * votes[best] > sum(votes.values()) and best in names.values()
            winners.append([*names.values()].index(best) if wins else -1)
        assert majority(split.votes).tolist() == winners
        assert clear is None or sum(winner >= 0 for winner in winners) == clear


def test_hidden_files_are_no_pictures(faces: Path, tmp_path: Path) -> None:
    folder = copy_of(faces, tmp_path)
    for name in ("._Training_1.jpg", ".cache/sad/Training_2.jpg", "Thumbs.db"):
        path = folder / "train" / "train" / "sad" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")

    assert sizes(load_data(str(folder))) == (21, 7, 7)

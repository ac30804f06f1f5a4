"""What `emotiontrain data` shows: tables, the taggers' votes, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotiontrain import cli
from emotiontrain.data import DataError, Dataset, load_data
from emotiontrain.data.votes import VotesError, load_votes, majority, shares

HEADER = "name,cat,owl,other"


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Returns a set of two classes: ten pictures of each in train/, two in validation/."""
    random = np.random.default_rng(1)
    for split, count in (("train", 10), ("validation", 2)):
        for label in ("cat", "owl"):
            folder = tmp_path / "set" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                path = folder / f"{split}-{label}{index}.png"
                assert cv2.imwrite(str(path), random.integers(0, 256, (64, 64), dtype=np.uint8))
    return tmp_path / "set"


def votes_file(folder: Path, lines: Sequence[str], header: str = HEADER) -> Path:
    path = folder / "votes.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def rows_of(data: Dataset, votes: str) -> list[str]:
    return [f"{name},{votes}" for split in (data.train, data.validation) for name in split.names]


def test_the_counts_of_each_split_and_class_are_printed_as_a_table(
    animals: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", str(animals)]) == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "validation", "test"] in lines
    assert ["cat", "10", "2", "0"] in lines
    assert ["owl", "10", "2", "0"] in lines
    assert ["all", "20", "4", "0"] in lines


def test_votes_are_joined_by_name_and_described(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = votes_file(tmp_path, [
        "train-cat0.png,9,1,0", "train-cat1.png,2,8,0", "train-cat2.png,5,5,0", "train-cat3.png,3,2,5",
        "folder/train-owl0.png,0,6,4", "nobody.png,1,0,0"])

    data = load_data(str(animals), path)

    assert data.train.votes is not None
    joined = dict(zip(data.train.names, data.train.votes.tolist(), strict=True))
    assert joined["train-cat0.png"] == [9, 1, 0]
    assert joined["train-owl0.png"] == [0, 6, 4]
    assert joined["train-owl1.png"] == [0, 0, 0]
    winner = dict(zip(data.train.names, majority(data.train.votes).tolist(), strict=True))
    assert [winner[f"train-cat{i}.png"] for i in range(4)] == [0, 1, -1, -1]
    share = dict(zip(data.train.names, shares(data.train.votes).tolist(), strict=True))
    assert share["train-cat2.png"] == [0.5, 0.5]
    assert share["train-cat3.png"] == [0, 0]

    assert cli.main(["data", str(animals), "--votes", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "with votes 5 0" in said
    assert "with a clear majority 3 0" in said
    assert "where it is the label 66.7% -" in said
    assert "votes: on only 5 of 20 train pictures" in said


def test_pictures_of_one_name_keep_their_own_votes_where_the_file_says_their_class(
    animals: Path, tmp_path: Path
) -> None:
    for label in ("cat", "owl"):
        (animals / "train" / label / f"train-{label}0.png").rename(animals / "train" / label / "same.png")
    path = votes_file(tmp_path, ["train/cat/same.png,7,3,0", "train/owl/same.png,1,9,0"])

    data = load_data(str(animals), path)

    assert data.train.votes is not None
    assert {(data.labels[label], *votes) for name, label, votes in zip(
        data.train.names, data.train.labels, data.train.votes.tolist(), strict=True) if name == "same.png"} == {
            ("cat", 7, 3, 0), ("owl", 1, 9, 0)}

    path = votes_file(tmp_path, ["same.png,7,3,0"])
    with pytest.raises(VotesError, match=r"one row for same\.png, but 2 pictures of the data have this name"):
        load_data(str(animals), path)


def test_capital_letters_of_classes_and_columns_do_not_matter(tmp_path: Path) -> None:
    path = votes_file(tmp_path, ["a.png, 3 ,1,"], "Name,CAT,owl,Other")

    assert load_votes(path, ("Cat", "Owl")).of([("Cat", "a.png")]).tolist() == [[3, 1, 0]]


def test_what_is_ignored_is_named(animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (animals / "validation").rename(animals / "validate")
    for name in ("one.gif", "two.GIF", ".hidden.gif", "README"):
        (animals / "train" / "cat" / name).write_bytes(b"GIF89a")

    assert cli.main(["data", str(animals)]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "ignored, as not below train/<class>/, val/<class>/ or test/<class>/: validate/ (4 pictures)" in said
    assert "ignored, as no pictures of a kind that is read: 2 .gif, 1 without an ending" in said


def test_a_set_with_nothing_but_test_pictures_can_be_measured_and_not_trained_on(animals: Path) -> None:
    (animals / "train").rename(animals / "test")
    for folder in (animals / "validation").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    data = load_data(str(animals), use="test")

    assert (data.labels, len(data.train), len(data.validation), len(data.test)) == (("cat", "owl"), 0, 0, 20)
    with pytest.raises(DataError, match=r"no train pictures of cat, owl \(looked for train/cat/\)"):
        load_data(str(animals))


def test_the_original_columns_of_fer_plus_are_understood(tmp_path: Path) -> None:
    path = votes_file(tmp_path, ["Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0", "Training,,1,0,0,0,0,0,0,0,0,9"],
                      "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF")
    labels = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

    assert load_votes(path, labels).of([("angry", "fer0000000.png")]).tolist() == [[3, 2, 0, 0, 4, 1, 0, 0]]


@pytest.mark.parametrize(("header", "line", "words"), [
    ("picture,cat,owl", "a.png,1,2", "no column names the picture; its columns are 'picture', 'cat', 'owl'; call that"),
    ("name;cat;owl", "a.png;1;2", "its columns are 'name;cat;owl'; call that one of path, name, file, image name, and "
                                  "put commas between columns"),
    ("name,cat", "a.png,1", "no column for owl; its columns are 'name', 'cat'; add one for each class"),
    (HEADER, "train-cat0.png,1,two,0", "line 2: 'owl' is 'two', no whole number from 0 to 1,000,000; correct it"),
    (HEADER, "train-cat0.png,1,-1,0", "line 2: 'owl' is '-1', no whole number"),
    (HEADER, "train-cat0.png,1,0.5,0", "line 2: 'owl' is '0.5', no whole number"),
    (HEADER, f"train-cat0.png,1,{'9' * 9999},0", f"line 2: 'owl' is '{'9' * 40}', no whole number"),
    (HEADER, "train-cat0.png,1,0,1000001", "line 2: 'other' is '1000001', no whole number"),
    (HEADER, "train-cat0.png,1", "line 2: has no column 'owl'; give each line as many columns as the first"),
    (HEADER, "train-cat0.png,1,0,0\nelsewhere/train-cat0.png,1,0,0", "line 3: a second row for train-cat0.png"),
    (HEADER, "stranger.png,1,2,0", "the data's pictures have other names, train-cat0.png and so on"),
    (HEADER, "", "has no rows of votes"),
    (HEADER, 'a.png,"1', "cannot be read as a CSV of votes"),
    (HEADER, "a\0.png,1,2,0", ""),
])
def test_votes_that_cannot_be_used_are_said_in_one_sentence(
    header: str, line: str, words: str, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = votes_file(tmp_path, [line], header)

    assert cli.main(["data", str(animals), "--votes", str(path)]) == 66
    error = capsys.readouterr().err
    assert error.startswith(f"emotiontrain: {path}")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"\xff\xfen\0a\0m\0e\0"])
def test_a_file_of_votes_that_is_not_there_or_no_text_is_said(
    content: bytes | None, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "votes.csv"
    if content:
        path.write_bytes(content)

    assert cli.main(["data", str(animals), "--votes", str(path)]) == 66
    assert f"{path}: cannot be read as a CSV of votes (" in capsys.readouterr().err


def test_the_contact_sheet_shows_each_class_twice_and_is_the_same_again(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs emotiond[train]")
    path = tmp_path / "new" / "sheet.png"

    assert cli.main(["data", str(animals), "--sheet", str(path)]) == 0

    assert f"contact sheet: {path}" in capsys.readouterr().out
    content = path.read_bytes()
    sheet = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    height, width = sheet.shape
    assert 250 <= height <= 600
    assert 1500 <= width <= 2500
    left, right = sheet[:, :width // 2], sheet[:, width // 2:]
    for half in (left, right):
        assert (half < 200).mean() > 0.2      # pictures in both halves
    assert np.abs(left[-150:, -400:].astype(float) - right[-150:, -400:]).mean() > 5
    assert cli.main(["data", str(animals), "--sheet", str(path)]) == 0
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]


def test_a_sheet_that_cannot_be_written_leaves_nothing(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs emotiond[train]")
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    (tmp_path / "sheet.png").mkdir()

    assert cli.main(["data", str(animals), "--sheet", str(tmp_path / "file" / "sheet.png")]) == 1
    assert "sheet.png: cannot be written (" in capsys.readouterr().err
    assert cli.main(["data", str(animals), "--sheet", str(tmp_path / "sheet.png")]) == 1
    assert "sheet.png: cannot be written (Is a directory)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "set", "sheet.png"]
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", str(animals), "--sheet", "sheet.jpg"])
    assert caught.value.code == 2

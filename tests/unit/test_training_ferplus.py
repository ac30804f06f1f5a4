"""FER+'s votes find their pictures by the pixels alone."""

import csv
import random
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotiontrain import cli
from emotiontrain.data.votes import load_votes

COUNT = 400
LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")


@pytest.fixture(scope="module")
def published(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with some real pictures, and the two files as they are published, rows in another order."""
    folder = tmp_path_factory.mktemp("ferplus")
    with (data_dir / "fer2013" / "fer2013_meta.csv").open(newline="") as file:
        meta = {row["path"]: row for row in csv.DictReader(file)}
    rows: list[tuple[str, np.ndarray]] = []
    with tarfile.open(data_dir / "fer2013" / "fer2013_kaggle_jpg.tar.xz") as tar:
        for index, member in enumerate(m for m in tar if m.isfile()):
            if index % 89 == 0:
                tar.extract(member, folder / "set", filter="data")
                path = "/".join(Path(member.name).parts[-3:])
                picture = cv2.imread(str(folder / "set" / member.name), cv2.IMREAD_GRAYSCALE)
                rows.append((path, np.asarray(picture)))
    random.Random(1).shuffle(rows)
    with (folder / "fer2013.csv").open("w") as pixels, (folder / "fer2013new.csv").open("w") as votes:
        pixels.write("emotion,pixels,Usage\n")
        votes.write(f"Usage,Image name,{','.join(COLUMNS)}\n")
        for number, (path, picture) in enumerate(rows):
            if number % 10 == 0:      # what JPEG did to some of them
                picture = np.clip(picture.astype(int) + np.random.default_rng(number).integers(-3, 4, (48, 48)), 0, 255)
            pixels.write(f"0,{' '.join(map(str, picture.ravel()))},{meta[path]['usage']}\n")
            votes.write(f"x,fer{number:07}.png,{','.join(meta[path]['fp_' + name] for name in COLUMNS)}\n")
    return folder


def test_every_picture_gets_its_own_votes(
    published: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "votes.csv"
    assert cli.main(["votes", str(published / "set"), str(published / "fer2013.csv"),
                     str(published / "fer2013new.csv"), str(out)]) == 0

    files = list((published / "set").rglob("*.jpg"))
    assert f"{len(files)} pictures with votes" in capsys.readouterr().out
    assert len(files) == 404
    pictures = [(file.parent.name, file.name) for file in files]
    given = load_votes(data_dir / "fer2013" / "fer2013_meta.csv", LABELS).of(pictures)
    assert (load_votes(out, LABELS).of(pictures) == given).all()


def test_files_that_do_not_belong_together_are_refused(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels, votes, out = published / "fer2013.csv", published / "fer2013new.csv", tmp_path / "votes.csv"
    lines = pixels.read_text().splitlines(keepends=True)
    (tmp_path / "short.csv").write_text("".join(lines[:-1]))
    (tmp_path / "cut.csv").write_text("".join([*lines[:-1], "0,1 2 3,Training\n"]))
    (tmp_path / "letters.csv").write_text("".join([*lines[:-1], "0,a b,Training\n"]))
    (tmp_path / "others.csv").write_text("emotion,pixels,Usage\n" + f"0,{'7 ' * 2304},Training\n" * (len(lines) - 1))
    for one, two, words in (
        (tmp_path / "short.csv", votes, "404 rows, but"), (tmp_path / "cut.csv", votes, "do not have 48x48 pixels"),
        (tmp_path / "letters.csv", votes, "is no fer2013.csv"), (votes, pixels, "is no fer2013.csv"),
        (tmp_path / "others.csv", votes, "no picture of"), (tmp_path / "no", votes, "No such file"),
        (pixels, tmp_path / "no", "cannot be read as FER+'s CSV (No such file"),
    ):
        assert cli.main(["votes", str(published / "set"), str(one), str(two), str(out)]) == 66
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
        assert not out.exists()

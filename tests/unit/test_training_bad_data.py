"""What is said of a set of pictures that cannot be used: one sentence, exit code 66."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from emotiontrain import cli
from emotiontrain.data import DataError, load_data
from tests.support.picture_sets import copy_of, fer2013_path, noise, put


def error_of(source: Path | str, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs `emotiontrain data` on what cannot be used and returns the one sentence that it says."""
    assert cli.main(["data", str(source)]) == 66
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("emotiontrain: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(("content", "words"), [
    (b"no tar at all", "cannot be read as a tar"),
    (b"\xfd7zXZ\x00\x00\x04cut", "cannot be read as a tar"),
    (None, "no such folder or file"),
])
def test_data_that_cannot_be_read_is_said_in_one_sentence(
    tmp_path: Path, content: bytes | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fer.tar.xz"
    if content is not None:
        path.write_bytes(content)

    error = error_of(path, capsys)
    assert error.startswith(f"emotiontrain: {path}: ")
    assert words in error


@pytest.mark.parametrize("mode", ["w:xz", "w:gz", "w"])
def test_a_truncated_tar_is_refused_rather_than_half_read(
    mode: Literal["w:xz", "w:gz", "w"], faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fer.tar"
    with tarfile.open(path, mode) as tar:
        tar.add(faces, "fer")
        end = tar.offset     # in front of the zeros that end an archive
    whole = path.read_bytes()

    for length in (len(whole) - 20_000, len(whole) // 2, *([end, end - 300] if mode == "w" else [])):
        path.write_bytes(whole[:length])
        assert "fetch it again" in error_of(path, capsys)


def test_a_member_of_a_tar_that_claims_a_terabyte_is_refused_unread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = tarfile.TarInfo("train/happy/Training_1.jpg")
    member.size = 1 << 40
    (tmp_path / "bomb.tar").write_bytes(member.tobuf() + bytes(1024))

    error = error_of(tmp_path / "bomb.tar", capsys)
    assert "Training_1.jpg: has 1,099,511,627,776 bytes, more than the 67,108,864" in error


@pytest.mark.parametrize("side", [9000, 100_000])
def test_a_picture_that_claims_too_many_pixels_is_refused_undecoded(
    side: int, animals: Path, tmp_path: Path
) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    folder = copy_of(animals, tmp_path)
    png = io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
    (folder / "train" / "cat" / "bomb.png").write_bytes(png.getvalue())

    # a process of its own: OpenCV reads its limit when it is imported, which other tests did long before
    done = subprocess.run(
        [sys.executable, "-m", "emotiontrain", "data", str(folder)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 66
    assert "1 of 41 pictures cannot be used (train/cat/bomb.png: more than 64 million pixels)" in done.stderr


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "bmp", "webp"])
def test_pictures_that_are_cut_off_are_counted_and_the_first_named(
    suffix: str, animals: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(animals, tmp_path)
    broken = sorted((folder / "train" / "owl").glob(f"*.{suffix}"))
    for file in broken:
        file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])

    error = error_of(folder, capfd)     # what decoders say on their own would be a second line
    assert f"4 of 40 pictures cannot be used (train/owl/{broken[0].name}: " in error
    assert "...); fetch them again or remove them" in error


def test_a_picture_of_fer2013_of_another_size_is_named(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(faces, tmp_path)
    put(fer2013_path(folder, "Training", "sad", 50), np.zeros((50, 40)))

    assert "train/train/sad/Training_5050.jpg: 40x50, not 48x48" in error_of(folder, capsys)


@pytest.mark.parametrize("emptied", ["train", "validation", "test"])
def test_a_class_without_pictures_in_one_split_is_named(
    emptied: str, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, random = copy_of(animals, tmp_path), np.random.default_rng(8)
    for split in ("validation", "test"):
        for label in ("cat", "owl"):
            put(folder / split / label / "one.png", noise(random))
    for file in (folder / emptied / "owl").iterdir():
        file.unlink()
    said = f"no {emptied} pictures of owl (looked for {emptied}/owl/); every class needs some in each split\n"
    assert error_of(folder, capsys).endswith(said)

    (folder / emptied / "owl").rmdir()
    assert error_of(folder, capsys).endswith(said)


def test_a_label_of_fer2013_without_pictures_is_named(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of(faces, tmp_path)
    for file in (folder / "train" / "train" / "sad").iterdir():
        file.unlink()

    assert "no train pictures of sad (looked for sad/Training_*)" in error_of(folder, capsys)


def test_folders_of_classes_in_the_wrong_place_are_named(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no pictures below train/, but cat/ (20 pictures), owl/ (20 pictures); put the folders of the classes " \
        "below train/" in error_of(animals / "train", capsys)

    folder = copy_of(animals, tmp_path)
    (folder / "train" / ("owl" * 30)).mkdir()
    assert "give it a name of at most 64 printable characters" in error_of(folder, capsys)


def test_sets_that_cannot_be_trained_on_say_why(
    animals: Path, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "no pictures (.bmp, .jpeg, .jpg, .png, .webp) in a known layout; expected" in error_of(
        tmp_path / "empty", capsys)

    alone = copy_of(animals, tmp_path / "alone")
    shutil.rmtree(alone / "train" / "owl")
    assert "has the class cat alone; give 2 at least" in error_of(alone, capsys)

    few = copy_of(animals, tmp_path / "few")
    for file in [*(few / "train" / "owl").iterdir()][1:]:
        file.unlink()
    assert "only one picture of owl" in error_of(few, capsys)

    same = copy_of(animals, tmp_path / "same")
    for index, file in enumerate((same / "train" / "owl").iterdir()):
        put(file, np.full((60, 60), 10 * index), kind=".png")
    assert "no train pictures of owl are left without copies and constant pictures" in error_of(same, capsys)

    mixed = copy_of(faces, tmp_path / "mixed")
    put(mixed / "train" / "happy" / "mine.png", np.zeros((48, 48)))
    assert "holds FER2013's pictures and, under other names, 1 picture (train/happy/mine.png)" in error_of(
        mixed, capsys)


def test_kaggle_without_credentials_or_network_ends_at_once_with_both_ways_out(tmp_path: Path) -> None:
    pytest.importorskip("kagglehub", reason="needs emotiond[train]")
    taken = ("KAGGLE", "HTTP", "ALL_PROXY", "NO_PROXY")
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(taken)}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    own = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    done = subprocess.run(
        [sys.executable, "-m", "emotiontrain", "data", "kaggle"], capture_output=True, text=True,
        check=False, env=kept | nowhere | own)

    assert done.returncode == 66
    assert "KAGGLE_USERNAME and KAGGLE_KEY, or give a local folder or tar" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_that_cannot_be_read_is_named(animals: Path, tmp_path: Path) -> None:
    folder = copy_of(animals, tmp_path)
    (folder / "train" / "cat" / "loop.jpg").symlink_to("loop.jpg")

    with pytest.raises(DataError, match=r"loop\.jpg: cannot be read \(Too many levels of symbolic links\)"):
        load_data(str(folder))

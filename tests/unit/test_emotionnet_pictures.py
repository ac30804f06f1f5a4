"""Labelled test pictures, read without the training package: which ones count, and what is refused."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotionnet import preprocess
from emotionnet.labelled import read_test_pictures
from emotionnet.pictures import LARGEST_FILE, PicturesError
from emotiontrain.data import load_data
from tests.support.labelled import write_pictures

LABELS = ("bright", "dark")
FER2013 = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Returns a set of one's own with 3 test pictures a label."""
    for split, count in (("train", 4), ("test", 3)):
        write_pictures(tmp_path / "set", split, LABELS, count)
    return tmp_path / "set"


def pack(folder: Path, tar: Path) -> Path:
    with tarfile.open(tar, "w:xz") as file:
        file.add(folder, "some/where")
    return tar


def refusal(source: Path) -> str:
    with pytest.raises(PicturesError) as caught:
        read_test_pictures(source, LABELS, 32)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("side", [32, 64, 96])
def test_only_the_pictures_below_test_are_read(own: Path, side: int) -> None:
    crops, labels = read_test_pictures(own, LABELS, side)

    assert crops.shape == (6, side, side)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert crops[labels == 0].mean() > 200 > 60 > crops[labels == 1].mean()


def test_a_tar_gives_the_same_as_its_folder(own: Path, tmp_path: Path) -> None:
    one, other = (read_test_pictures(source, LABELS, 64) for source in (own, pack(own, tmp_path / "set.tar.xz")))

    for label in (0, 1):
        assert sorted(map(bytes, one[0][one[1] == label])) == sorted(map(bytes, other[0][other[1] == label]))


def test_labels_are_numbered_as_the_weights_have_them(own: Path) -> None:
    crops, labels = read_test_pictures(own, ("dark", "else", "bright"), 32)

    assert crops[labels == 2].mean() > 200 > 60 > crops[labels == 0].mean()
    assert set(labels.tolist()) == {0, 2}


def test_of_fer2013_the_private_test_is_read_and_nothing_else(tmp_path: Path) -> None:
    for folder, prefix, count in (("train/train", "Training_", 3), ("test/test", "PublicTest_", 2),
                                  ("test/test", "PrivateTest_", 1)):
        write_pictures(tmp_path, folder, FER2013, count, prefix=prefix)

    assert sorted(read_test_pictures(tmp_path, FER2013, 64)[1].tolist()) == list(range(7))


@pytest.mark.parametrize("side", [48, 130])
def test_the_crops_are_those_that_the_training_package_measures(tmp_path: Path, side: int) -> None:
    for split, count in (("train", 4), ("validation", 2), ("test", 3)):
        write_pictures(tmp_path, split, LABELS, count, side=side)
    wide = np.random.default_rng(0).integers(0, 256, (side, side + 14 * (side > 48), 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "test/dark/colour.png"), wide)

    crops, labels = read_test_pictures(tmp_path, LABELS, 64)

    test = load_data(str(tmp_path)).test
    assert sorted(map(bytes, crops)) == sorted(bytes(preprocess.resize(picture, 64)) for picture in test.pictures)
    assert np.bincount(labels).tolist() == np.bincount(test.labels).tolist() == [3, 4]


def test_names_like_fer2013s_in_classes_of_ones_own_count_by_their_folders(tmp_path: Path) -> None:
    for split, prefix, count in (("train", "PrivateTest_", 4), ("val", "Training_", 2), ("test", "Training_", 3),
                                 ("test", "PublicTest_", 2), ("test", "PrivateTest_", 1)):
        write_pictures(tmp_path, split, LABELS, count, prefix=prefix)

    crops, labels = read_test_pictures(tmp_path, LABELS, 64)

    test = load_data(str(tmp_path)).test
    assert np.bincount(labels).tolist() == np.bincount(test.labels).tolist() == [6, 6]
    assert sorted(map(bytes, crops)) == sorted(bytes(preprocess.resize(picture, 64)) for picture in test.pictures)


def test_small_test_pictures_are_scaled_as_their_larger_training_pictures_are(tmp_path: Path) -> None:
    for split, side in (("train", 200), ("validation", 48), ("test", 48)):
        write_pictures(tmp_path, split, LABELS, 3, side=side)

    crops, _ = read_test_pictures(tmp_path, LABELS, 64)

    test = load_data(str(tmp_path)).test
    assert test.pictures.shape[1] == 128
    assert sorted(map(bytes, crops)) == sorted(bytes(preprocess.resize(picture, 64)) for picture in test.pictures)


def test_hard_links_in_a_tar_are_pictures_as_in_its_folder(own: Path, tmp_path: Path) -> None:
    (own / "test/bright/again.png").hardlink_to(own / "test/bright/bright0.png")
    with tarfile.open(packed := pack(own, tmp_path / "set.tar.xz")) as tar:
        assert [member.name for member in tar if member.islnk()]

    one, other = read_test_pictures(own, LABELS, 32), read_test_pictures(packed, LABELS, 32)

    assert len(one[1]) == 7
    assert sorted(map(bytes, one[0])) == sorted(map(bytes, other[0]))


def test_a_link_to_what_the_tar_does_not_hold_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("test/dark/dark0.png")
    member.type, member.linkname = tarfile.LNKTYPE, "../../etc/passwd"
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.addfile(member)

    assert "test/dark/dark0.png is a link to ../../etc/passwd, which is not in front of it" in refusal(
        tmp_path / "set.tar")


def test_a_damaged_picture_is_named(own: Path) -> None:
    picture = own / "test/dark/dark1.png"
    for content in (b"", b"no picture", picture.read_bytes()[:10], b"\xff\xd8\xff\xe0cut off"):
        picture.write_bytes(content)

        reason = "cut off" if len(content) > 10 or content.startswith(b"\x89") else "no picture"
        assert refusal(own) == f"{picture}: is no picture that can be read ({reason}); fetch the set again"


def test_a_file_that_claims_to_be_huge_is_not_read(own: Path) -> None:
    with (own / "test/dark/huge.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)

    assert "huge.png: has 67,108,865 bytes, more than the 67,108,864 that a picture may have" in refusal(own)


def test_damaged_tars_and_what_is_none_are_refused(own: Path, tmp_path: Path) -> None:
    cut = pack(own, tmp_path / "cut.tar.xz")
    cut.write_bytes(cut.read_bytes()[:-3000])
    (tmp_path / "text.tar").write_text("no tar")

    plain = pack(own, tmp_path / "plain.tar")
    plain.write_bytes(plain.read_bytes()[:2000])      # in the middle of a header, where tarfile sees the end

    for path in (cut, tmp_path / "text.tar", plain):
        assert refusal(path).startswith(f"{path}: cannot be read as a tar (")
    assert "no such folder or file" in refusal(tmp_path / "nowhere")


def test_a_folder_without_test_pictures_of_the_labels_is_refused(own: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PicturesError, match=r"holds no test pictures of glad, sad; give FER2013, .* or a set with"):
        read_test_pictures(own, ("glad", "sad"), 32)
    assert "holds no test pictures of bright, dark" in refusal(tmp_path / "empty")

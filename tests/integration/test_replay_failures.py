"""A replay whose outputs cannot be written: what is said, what stays, and that nothing of yesterday is lost before."""

import re
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.commands import Ended, call
from tests.support.disks import small_disk
from tests.support.pictures import face_frames, numbered_frames, read_picture, smiling_face, write_photo
from tests.support.replays import bodies, read
from tests.support.videos import write_video
from tests.support.waiting import free_port


def full(path: Path) -> Path:
    """Makes a file on a disk that is full."""
    path.symlink_to("/dev/full")
    return path


@pytest.mark.parametrize(("option", "name"), [
    ("--annotate", "out.mp4"), ("--table", "out.csv"), ("--timeline", "out.html")])
def test_on_a_full_disk_one_output_fails_in_one_sentence_and_nothing_else_is_lost(
    option: str, name: str, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "smile.mp4", face_frames(20, 320, 240))
    others = {"--annotate": "ok.mp4", "--table": "ok.csv", "--timeline": "ok.html"}
    del others[option]

    ended = call("replay", video, "--events", tmp_path / "events.jsonl", option, full(tmp_path / name),
                 *(argument for key, value in others.items() for argument in (key, tmp_path / value)))

    assert ended.code == 1
    assert ended.err == f"emotiond: {tmp_path / name}: cannot be written (No space left on device); name another file\n"
    assert "smile" in ended.out
    assert len(bodies(tmp_path / "events.jsonl")) == 20
    for value in others.values():
        assert (tmp_path / value).stat().st_size > 0
    if option != "--annotate":
        assert len(read(tmp_path / "ok.mp4")[0]) == 20


def test_a_full_picture_is_told_in_one_sentence(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.jpg", smiling_face())

    ended = call("replay", photo, "--annotate", full(tmp_path / "out.png"))

    assert (ended.code, ended.lines) == (1, [
        f"emotiond: {tmp_path / 'out.png'}: cannot be written (No space left on device); name another file"])


@pytest.mark.parametrize("name", ["out.mp4", "out.png"])
def test_what_could_not_be_ended_does_not_stay(name: str, tmp_path: Path) -> None:
    source = (write_photo(tmp_path / "photo.jpg", smiling_face()) if name == "out.png" else
              write_video(tmp_path / "smile.mp4", face_frames(60, 320, 240)))
    with small_disk(tmp_path / "small") as folder:
        ended = call("replay", source, "--annotate", folder / name)

        assert ended.code == 1
        assert "No space left on device" in ended.err
        assert not list(folder.iterdir())


def refuse(*arguments: str | Path) -> Ended:
    ended = call("replay", *arguments)
    assert ended.out == ""
    assert len(ended.lines) == 1
    return ended


def test_what_cannot_be_written_is_said_before_anything_is_analysed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "smile.mp4", face_frames(3, 320, 240))
    content = video.read_bytes()

    for arguments, code, words in (
            (["--annotate", tmp_path / "missing" / "out.mp4"], 1, "No such file or directory"),
            (["--annotate", tmp_path / "out.avi"], 2, ".mp4"),
            (["--annotate", video], 2, "is one of the sources"),
            ([video, "--annotate", tmp_path / "out.mp4"], 2, "one file for 2 sources"),
            (["--annotate", tmp_path], 2, "is one of the sources"),
            (["--table", tmp_path / "out.txt"], 2, ".csv or .parquet"),
            (["--timeline", tmp_path / "out.pdf"], 2, ".html or .png"),
            (["--blur"], 2, "--annotate")):
        ended = refuse(video, *arguments)
        assert ended.code == code, arguments
        assert words in ended.err
    assert video.read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smile.mp4"]


def test_a_replay_that_is_refused_or_opens_nothing_leaves_files_as_they_are(tmp_path: Path) -> None:
    video = write_video(tmp_path / "smile.mp4", face_frames(3, 320, 240))
    (tmp_path / "broken.mp4").write_text("no video")
    names = ["events.jsonl", "out.mp4", "table.csv", "chart.html"]
    if find_spec("pyarrow"):
        names.append("table.parquet")
    for name in names:
        (tmp_path / name).write_text("of yesterday")
    unreachable = f"redis://127.0.0.1:{free_port()}/0"

    for table in names[2::2]:
        outputs = [argument for option, name in zip(
            ("--events", "--annotate", "--table", "--timeline"), [*names[:2], table, names[3]], strict=True)
            for argument in (option, tmp_path / name)]
        assert refuse(video, "--redis", unreachable, *outputs).code == 69
        assert call("replay", tmp_path / "broken.mp4", *outputs).code == 66
        assert call("replay", video, "--start-time", "yesterday", *outputs).code == 2

        assert {name: (tmp_path / name).read_text() for name in names} == dict.fromkeys(names, "of yesterday")


@pytest.mark.parametrize("mode", ["frames", "aggregate"])
def test_a_video_without_a_face_leaves_no_events_of_yesterday(mode: str, tmp_path: Path) -> None:
    wall = write_video(tmp_path / "wall.mp4", numbered_frames(3, 320, 240))
    (tmp_path / "mode.yaml").write_text(f"privacy: {{mode: {mode}}}\n")
    (tmp_path / "events.jsonl").write_text("of yesterday")
    table = ["--table", tmp_path / "table.csv"] if mode == "frames" else []

    ended = call("replay", wall, "-c", tmp_path / "mode.yaml", "--events", tmp_path / "events.jsonl", *table)

    assert (ended.code, (tmp_path / "events.jsonl").read_text()) == (0, "")
    assert not table or (tmp_path / "table.csv").read_text().count("\n") == 1      # the titles


def test_pictures_wider_than_h264_has_them_are_said_with_a_mend(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", numbered_frames(2, 16_400, 32), codec="ffv1", pix_fmt="gray")

    ended = call("replay", video, "--annotate", tmp_path / "out.mp4")

    assert (ended.code, len(ended.lines)) == (1, 1)
    assert re.search(r"out\.mp4: .* 16400 x \d+ .*16384.*; leave --annotate out, or scale the video", ended.err)
    assert not (tmp_path / "out.mp4").exists()


def test_a_picture_too_wide_for_jpeg_is_said_with_a_mend_and_is_a_png(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.full((32, 66_000), 128, np.uint8))

    ended = call("replay", tmp_path / "wide.png", "--annotate", tmp_path / "out.jpg")

    assert (ended.code, ended.lines) == (1, [
        f"emotiond: {tmp_path / 'out.jpg'}: a picture of 66000 x 32 pixels is too large for .jpg; name a .png, or give "
        "a smaller picture"])
    assert not (tmp_path / "out.jpg").exists()
    assert call("replay", tmp_path / "wide.png", "--annotate", tmp_path / "out.png").code == 0
    assert read_picture(tmp_path / "out.png").shape == (32, 66_000, 3)

"""Which files a replay writes: refused before anything starts where they cannot be, and nothing is overwritten."""

import os
from pathlib import Path

import pytest

from emotiond.errors import CommandError, UsageError
from emotiond.outputs.files import Files, plan_files


def plan(
    annotate: Path | None = None, *, events: Path | None = None, timeline: Path | None = None,
    table: Path | None = None, sources: dict[str, str] | None = None,
) -> Files:
    return plan_files(events, annotate, timeline, table, sources or {"video": "video.mp4"})


def plan_one(option: str, path: Path, sources: dict[str, str] | None = None) -> Files:
    events, annotate, timeline, table = (
        path if option == name else None for name in ("events", "annotate", "timeline", "table"))
    return plan(annotate, events=events, timeline=timeline, table=table, sources=sources)


def test_one_source_has_the_file_that_is_named(tmp_path: Path) -> None:
    assert plan(tmp_path / "out.mp4").annotated == {"video": tmp_path / "out.mp4"}
    assert plan(tmp_path / "out.PNG", sources={"a": "a.jpg"}).annotated == {"a": tmp_path / "out.PNG"}
    assert not list(tmp_path.iterdir())      # nothing is made before there is something to write


@pytest.mark.parametrize("there", [True, False])
def test_several_sources_have_a_folder_with_a_file_each_named_as_their_streams(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    sources = {"video": "video.mkv", "photo": "photo.jpeg", "scan": "scan.tif", "camera": "rtsp://camera/a.mp4?b"}

    assert plan(folder, sources=sources).annotated == {
        "video": folder / "video.mp4", "photo": folder / "photo.jpeg", "scan": folder / "scan.png",
        "camera": folder / "camera.mp4"}
    assert folder.is_dir()


def test_one_source_may_have_a_folder_too(tmp_path: Path) -> None:
    assert plan(tmp_path).annotated == {"video": tmp_path / "video.mp4"}


def test_one_file_for_several_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.mp4 is one file for 2 sources; name a folder"):
        plan(tmp_path / "out.mp4", sources={"a": "a.mp4", "b": "b.mp4"})


@pytest.mark.parametrize(("option", "name", "mend"), [
    ("annotate", "out.avi", r"\.mp4"), ("annotate", "out.png", r"\.mp4"), ("timeline", "out.svg", r"\.html or \.png"),
    ("timeline", "out", r"\.html"), ("table", "out.xlsx", r"\.csv or \.parquet"), ("table", "out", r"\.csv")])
def test_a_name_that_says_no_format_is_refused_with_those_that_do(
    option: str, name: str, mend: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"--{option}: .*{mend}"):
        plan_one(option, tmp_path / name)


def test_a_picture_is_not_written_as_a_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.jpg or \.jpeg or \.png"):
        plan(tmp_path / "out.mp4", sources={"photo": "photo.jpg"})


def test_pictures_alone_have_no_timeline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pictures have no time"):
        plan(timeline=tmp_path / "out.html", sources={"photo": "photo.jpg"})


@pytest.mark.parametrize("link", ["", "symlink", "hardlink"])
@pytest.mark.parametrize("option", ["annotate", "table", "timeline", "events"])
def test_no_source_is_overwritten_by_whatever_name(option: str, link: str, tmp_path: Path) -> None:
    name = {"annotate": "a.mp4", "table": "a.csv", "timeline": "a.html", "events": "a.jsonl"}[option]
    source, target = tmp_path / name, tmp_path / f"other-{name}"
    source.write_text("a recording")
    if link:
        getattr(target, f"{link}_to")(source)

    with pytest.raises(UsageError, match="is one of the sources"):
        plan_one(option, target if link else source, {"a": str(source)})
    assert source.read_text() == "a recording"


def test_a_folder_that_holds_the_sources_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a recording")

    with pytest.raises(UsageError, match="is one of the sources"):
        plan(tmp_path, sources={"a": str(tmp_path / "a.mp4")})


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two outputs"):
        plan(events=tmp_path / "out.csv", table=tmp_path / "out.csv")
    with pytest.raises(UsageError, match="two outputs"):
        plan(tmp_path, timeline=tmp_path / "photo.png", sources={"photo": "photo.png", "video": "video.mp4"})


def test_devices_and_pipes_may_be_named_twice_and_a_pipe_is_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")      # opening it would wait for a reader
    (tmp_path / "nothing.html").symlink_to("/dev/null")

    plan(events=Path("/dev/null"), timeline=tmp_path / "nothing.html", table=tmp_path / "pipe.csv")


@pytest.mark.parametrize("option", ["annotate", "table", "timeline", "events"])
def test_a_folder_that_is_missing_is_said_before_work_starts(option: str, tmp_path: Path) -> None:
    name = {"annotate": "a.mp4", "table": "a.csv", "timeline": "a.html", "events": "a.jsonl"}[option]
    with pytest.raises(CommandError, match=rf"{name}: cannot be written \(No such file or directory\); name another"):
        plan_one(option, tmp_path / "missing" / name)


def test_what_was_there_before_stays_until_there_is_something_to_write(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_text("an older one")

    plan(tmp_path / "out.mp4")

    assert (tmp_path / "out.mp4").read_text() == "an older one"

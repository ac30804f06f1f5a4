"""What `emotiond replay` takes and where its events go: folders, globs, pictures, terminals, pipes, interrupts."""

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import cv2
import pytest

from tests.support.commands import call, replay_apart, run_in_terminal, table_rows
from tests.support.events import Entry
from tests.support.pictures import face_frames, numbered_frames, smiling_face, write_photo
from tests.support.videos import write_repeated, write_video
from tests.support.waiting import free_port, poll

START = "2026-01-31T12:00:00.250Z"
START_MS = round(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000) + 250


@pytest.fixture(scope="module")
def smile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of one smiling face."""
    return write_video(tmp_path_factory.mktemp("smile") / "smile.mp4", face_frames(45, 320, 240))


def test_a_redis_that_is_not_there_is_said_in_one_sentence_without_the_password(smile: Path) -> None:
    ended = call("replay", smile, "--redis", f"redis://:s3cr3t-hunter2@127.0.0.1:{free_port()}/0")

    assert ended.code == 69
    assert re.fullmatch(r"emotiond: Redis at \S+ failed \(connection: .*\); check redis\.url.*\n", ended.err)
    assert "s3cr3t" not in ended.err


def test_events_go_to_stdout_and_the_table_to_stderr(smile: Path) -> None:
    ended = call("replay", smile, "--events", "-")

    assert ended.code == 0
    assert [json.loads(line)["data"]["frame"] for line in ended.out.splitlines()] == list(range(45))
    assert table_rows(ended.err)["smile"]["frames"] == "45"


def test_speed_paces_a_recording_by_its_own_times(smile: Path) -> None:
    ended = call("replay", smile, "--speed", "2.0")

    assert float(table_rows(ended.out)["smile"]["fps"]) <= 31.5      # 15 a second, twice as fast


@pytest.mark.parametrize("pattern", ["", "/*.mkv", "/**/*.mkv"])
def test_a_folder_or_a_glob_is_replayed_in_order_of_name(pattern: str, tmp_path: Path) -> None:
    for name in ("b", "c", "a"):
        write_video(tmp_path / f"{name}.mkv", numbered_frames(5, 64, 64))
    (tmp_path / "notes.txt").write_text("not a video")

    ended = call("replay", f"{tmp_path}{pattern}")

    assert ended.code == 0
    assert [line.split()[:2] for line in ended.out.splitlines()[1:]] == [["a", "5"], ["b", "5"], ["c", "5"]]


def test_files_of_one_name_become_streams_of_their_own(smile: Path, tmp_path: Path) -> None:
    (tmp_path / "my smile!.mp4").symlink_to(smile)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my smile!.mp4").symlink_to(smile)

    ended = call("replay", tmp_path / "my smile!.mp4", tmp_path / "other" / "my smile!.mp4", "--events", "-")

    subjects = [json.loads(line)["subject"] for line in ended.out.splitlines()]
    assert subjects == ["my-smile"] * 45 + ["my-smile-2"] * 45


def test_a_terminal_shows_progress_and_a_table_that_fits(smile: Path, tmp_path: Path) -> None:
    name = "a-recording-with-a-long-name-of-its-own"
    (tmp_path / f"{name}.mp4").symlink_to(smile)

    ended = run_in_terminal("replay", tmp_path, columns=80)

    assert ended.code == 0
    assert "45/45" in ended.out
    first, tracks = ended.out.replace("\r", "").strip().split("\n\n")
    titles, row = (line.rstrip() for line in first.splitlines()[-2:])
    assert re.fullmatch(r"stream +frames +with face +per frame +fps +unsure +emotions", titles)
    assert re.fullmatch(rf"{name[:15]}[\w-]*… +45 +\d+\.\d% +\d\.\d\d +\d+\.\d +\d+% +happy \d+%", row)
    assert max(map(len, [titles, row, *tracks.splitlines()])) <= 80
    assert re.fullmatch(r" *#1 +0:00\.0 +0:02\.9 +45 +happy \d+% *", tracks.splitlines()[1])


def test_times_of_a_variable_rate_stay(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.9, 1.0, 3.0]
    video = write_video(tmp_path / "uneven.mp4", face_frames(6, 320, 240), times=times)

    ended = call("replay", video, "--start-time", START, "--events", "-")

    events = [json.loads(line) for line in ended.out.splitlines()]
    assert [event["data"]["pts"] for event in events] == pytest.approx(times, abs=1e-4)
    captured = [Entry((0, 0), {"time": event["time"]}).captured_ms - START_MS for event in events]
    assert captured == pytest.approx([round(seconds * 1000) for seconds in times], abs=1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_photo(tmp_path / "photo.jpg", smiling_face())


def test_a_picture_prints_its_face_with_emotion_and_probabilities(photo: Path) -> None:
    ended = call("replay", photo)

    assert (ended.code, ended.err) == (0, "")
    assert "photo" in ended.out.replace("\n", "")      # a long path goes over several lines
    assert re.search(r"\d+,\d+ \d+x\d+ +happy\b", ended.out)
    for label in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
        assert label in ended.out
    assert len(re.findall(r"(?<!\d)[01]?\.\d\d\b", ended.out)) >= 7


def test_a_folder_of_pictures_is_replayed_and_one_without_a_face_is_named(photo: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), next(numbered_frames(1)))

    ended = call("replay", tmp_path, "--events", "-")

    assert ended.code == 0
    assert [json.loads(line)["subject"] for line in ended.out.splitlines()] == ["photo"]
    assert "wall" in ended.err


def test_an_interrupt_ends_it_with_whole_lines(smile: Path, tmp_path: Path) -> None:
    long = write_repeated(smile, tmp_path / "long.mp4", seconds=60)
    out = tmp_path / "events.jsonl"

    with replay_apart(long, "--speed", "realtime", "--events", out) as child:
        poll(lambda: out.exists() and out.stat().st_size, 60, "no event")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)

    assert child.returncode == 130
    assert "Traceback" not in err
    frames = [json.loads(line)["data"]["frame"] for line in out.read_text().splitlines()]
    assert frames == list(range(len(frames)))


def test_a_reader_of_the_events_that_leaves_ends_it_quietly(smile: Path, tmp_path: Path) -> None:
    long = write_repeated(smile, tmp_path / "long.mp4", seconds=60)

    with replay_apart(long, "--events", "-") as child:
        assert child.stdout
        assert child.stderr
        assert child.stdout.readline().startswith('{"specversion":"1.0"')
        child.stdout.close()
        err = child.stderr.read()
        assert child.wait(60) == 0

    assert "Traceback" not in err
    assert "died" not in err


@pytest.mark.parametrize(("destination", "reason"), [
    ("/dev/full", "No space left on device"), ("/nowhere/events.jsonl", "No such file or directory")])
def test_events_that_cannot_be_written_are_told_in_one_sentence(destination: str, reason: str, smile: Path) -> None:
    ended = call("replay", smile, "--events", destination)

    assert ended.code == 1
    assert re.fullmatch(rf"emotiond: {destination}.*{reason}.*; .*\n", ended.err)


def test_a_recording_is_never_overwritten_by_its_events(smile: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(smile.read_bytes())

    ended = call("replay", copy, "--events", copy)

    assert copy.read_bytes() == smile.read_bytes()
    assert ended.code == 2
    assert str(copy) in ended.err


@pytest.mark.parametrize(("option", "value", "mend"), [
    ("--speed", "fast", "realtime"), ("--speed", "0", "above zero"), ("--speed", "nan", "above zero"),
    ("--start-time", "yesterday", "2026-01-31T12:00:00Z"), ("--start-time", "2026-01-31T12:00:00", "zone"),
    ("--start-time", "1960-01-01T00:00:00Z", "1970"), ("--workers", "0", "above zero"), ("--workers", "two", "")])
def test_wrong_options_are_told_with_a_mend(option: str, value: str, mend: str) -> None:
    ended = call("replay", "x.mp4", option, value)

    assert ended.code == 2
    assert option in ended.lines[-1]
    assert mend in ended.lines[-1]
    assert "_" not in ended.lines[-1]

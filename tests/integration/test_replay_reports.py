"""`emotiond replay`'s table, timeline and summary: their numbers are those of the events of the same run."""

import csv
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotiond.outputs.table import column_names
from emotionnet.weights import LABELS
from tests.conftest import require
from tests.support.commands import Ended, call
from tests.support.disks import small_disk
from tests.support.pictures import Place, face_frames, read_picture, smiling_face, write_photo
from tests.support.videos import write_video

START = "2026-01-31T12:00:00.250Z"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEMO = Path(sys.modules["emotiond"].__file__ or "").parent / "demo" / "portrait.mp4"
DOCS = Path(__file__).parents[2] / "docs" / "replay.md"


@dataclass(frozen=True)
class Run:
    """A replay of two videos, one with two faces, and what it left."""

    ended: Ended
    folder: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "all.jsonl").read_text().splitlines()]

    def of(self, stream: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["subject"] == stream]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("reports")
    pair = write_video(folder / "pair.mkv", face_frames(
        40, 640, 360, where=lambda n: [(20, 40, 200), *([(330, 40 + n % 7, 220)] if n % 20 > 4 else [])]))
    (folder / "all.yaml").write_text("publish_empty: true\n")
    ended = call("replay", DEMO, pair, "-c", folder / "all.yaml", "--start-time", START, "--events",
                 folder / "all.jsonl", "--table", folder / "table.csv", "--timeline", folder / "chart.html")
    assert (ended.code, ended.err) == (0, "")
    return Run(ended, folder)


def micros(event: dict[str, Any]) -> int:
    return (datetime.fromisoformat(event["time"]) - EPOCH) // timedelta(microseconds=1)


def expected_rows(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows that a table should have, made of events alone."""
    return [{
        "stream": event["data"]["stream"], "frame": event["data"]["frame"], "time": event["time"],
        "pts": event["data"]["pts"], "track_id": face["track_id"], **face["box"], "score": face["score"],
        "emotion": face["emotion"], "confidence": face["confidence"], "smoothed_emotion": face["smoothed"]["emotion"],
        "smoothed_confidence": face["smoothed"]["confidence"], "abstained": face["abstained"],
        "carried": face.get("carried", False),
        **{f"p_{label}": value for label, value in face["probabilities"].items()}, "model": event["data"]["model"],
    } for event in events for face in event["data"]["faces"]]


def test_a_csv_has_a_row_for_each_face_with_the_numbers_of_its_event(replayed: Run) -> None:
    with (replayed.folder / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    expected = expected_rows(replayed.events)
    assert len(rows) == len(expected) > 200
    assert list(rows[0]) == column_names(LABELS)
    for row, face in zip(rows, expected, strict=True):
        read = {name: text if isinstance(face[name], str) else json.loads(text) for name, text in row.items()}
        assert read == face


def test_a_parquet_table_has_the_same_rows_typed_in_groups(
    replayed: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("pyarrow")
    from importlib import import_module
    monkeypatch.setattr("emotiond.outputs.table.BATCH_ROWS", 32)
    monkeypatch.setattr("emotiond.outputs.table.GROUP_ROWS", 64)

    assert call("replay", DEMO, "--start-time", START, "--table", tmp_path / "table.parquet").code == 0

    parquet: Any = import_module("pyarrow.parquet")
    table = parquet.read_table(tmp_path / "table.parquet")
    rows = table.to_pylist()
    expected = expected_rows(replayed.of("portrait"))
    for row in rows:
        assert row["time"].tzinfo is not None
        row["time"] = row["time"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert rows == expected
    assert parquet.ParquetFile(tmp_path / "table.parquet").num_row_groups == -(-len(expected) // 64)
    types = {field.name: str(field.type) for field in table.schema}
    assert (types["time"], types["frame"], types["p_happy"], types["abstained"]) == (
        "timestamp[us, tz=UTC]", "int64", "double", "bool")


def test_a_parquet_table_whose_disk_fills_up_fails_in_one_sentence_and_the_events_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("pyarrow")
    monkeypatch.setattr("emotiond.outputs.table.BATCH_ROWS", 4)
    monkeypatch.setattr("emotiond.outputs.table.GROUP_ROWS", 8)
    with small_disk(tmp_path / "small") as folder:
        ended = call("replay", DEMO, "--table", folder / "out.parquet", "--events", tmp_path / "events.jsonl")
        assert not list(folder.iterdir())      # without its end nobody could read it

    assert ended.code == 1
    assert re.fullmatch(r"emotiond: \S+out\.parquet: cannot be written \(No space left on device\); .*\n", ended.err)
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 140


def figures(page: str) -> list[dict[str, Any]]:
    """Returns the numbers that a page carries."""
    embedded, = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    return json.loads(embedded)["streams"]


def test_the_numbers_of_a_timeline_are_those_of_the_events(replayed: Run) -> None:
    streams = figures((replayed.folder / "chart.html").read_text())

    assert [stream["stream"] for stream in streams] == ["portrait", "pair"]
    for stream in streams:
        events = replayed.of(stream["stream"])
        begin, bin_us = micros(events[0]), stream["bin_us"]
        assert (datetime.fromisoformat(stream["start"]) - EPOCH) // timedelta(microseconds=1) == begin
        assert stream["end_us"] == micros(events[-1]) - begin
        analysed, faces, tracks = Counter[int](), Counter[tuple[int, str | None]](), dict[int, list[Any]]()
        for event in events:
            place = (micros(event) - begin) // bin_us
            analysed[place] += 1
            for face in event["data"]["faces"]:
                emotion = None if face["abstained"] else face["smoothed"]["emotion"]
                faces[place, emotion] += 1
                tracks.setdefault(face["track_id"], []).append(
                    (micros(event) - begin, place, emotion, face["smoothed"]["confidence"]))
        bins = range(len(stream["analysed"]))
        assert stream["analysed"] == [analysed[place] for place in bins]
        assert min(stream["analysed"]) > 0
        drawn = {**stream["faces"], None: stream["unsure"]}
        assert {(place, emotion): counts[place] for emotion, counts in drawn.items() for place in bins
                if counts[place]} == faces
        assert {track["track_id"] for track in stream["tracks"]} == set(tracks)
        assert stream["more_tracks"] == 0
        for track in stream["tracks"]:
            seen = tracks[track["track_id"]]
            assert (track["first_us"], track["last_us"], track["frames"]) == (seen[0][0], seen[-1][0], len(seen))
            shown = {**track["emotions"], None: track["unsure"]}
            assert shown == {None: 0} | Counter(emotion for _, _, emotion, _ in seen)
            assert [bar[0] for bar in track["bars"]] == sorted({place for _, place, _, _ in seen})
            for place, emotion, frames, of, confidence in track["bars"]:
                inside = [(e, c) for _, p, e, c in seen if p == place]
                assert (frames, of) == (Counter(e for e, _ in inside)[emotion], len(inside))
                assert frames == max(Counter(e for e, _ in inside).values())
                assert confidence == pytest.approx(sum(c for e, c in inside if e == emotion) / frames, abs=6e-5)


class Page(HTMLParser):
    """Reads a page: what stands open, and what it asks for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.asked, self.tags = list[str](), list[str](), Counter[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.asked += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "path", "rect", "line", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "path", "rect", "line", "br"):
            assert self.open.pop() == tag


def test_a_page_is_whole_asks_for_nothing_and_has_a_table_beside_each_drawing(replayed: Run) -> None:
    page = Page((replayed.folder / "chart.html").read_text())

    assert not page.open
    assert not page.asked
    assert page.tags["figure"] == 2
    assert page.tags["table"] == 4
    assert page.tags["script"] == 2


def test_a_timeline_as_a_picture_has_the_colours_of_what_was_seen(replayed: Run, tmp_path: Path) -> None:
    from emotiond.palette import colour_of, to_rgb
    pair = replayed.folder / "pair.mkv"

    assert call("replay", DEMO, pair, "--timeline", tmp_path / "chart.png").code == 0

    picture = read_picture(tmp_path / "chart.png")
    assert picture.shape[1] == 1500
    seen = Counter(face["smoothed"]["emotion"] for event in replayed.events for face in event["data"]["faces"]
                   if not face["abstained"])
    for emotion, count in seen.items():
        drawn = (picture == np.array(to_rgb(colour_of(emotion)))).all(axis=-1).mean()
        assert (drawn > 0.01) == (count > 0.05 * seen.total()), emotion


@pytest.mark.parametrize(("module", "option", "name", "instead"), [
    ("matplotlib", "--timeline", "out.png", ".html"), ("pyarrow", "--table", "out.parquet", ".csv")])
def test_a_library_that_is_missing_is_said_before_work_starts(
    module: str, option: str, name: str, instead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)

    ended = call("replay", DEMO, option, tmp_path / name)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (f"emotiond: {tmp_path / name}: needs {module}, which is not installed; "
                         f"pip install 'emotiond[report]', or name a {instead}\n")
    assert not list(tmp_path.iterdir())


def test_the_base_install_makes_pages_tables_and_videos_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("matplotlib", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    video = write_video(tmp_path / "smile.mp4", face_frames(5, 320, 240))

    ended = call("replay", video, "--annotate", tmp_path / "out.mp4", "--timeline", tmp_path / "out.html",
                 "--table", tmp_path / "out.csv")

    assert (ended.code, ended.err) == (0, "")


def clock(us: int) -> str:
    return f"{us // 60_000_000}:{us // 1_000_000 % 60:02}.{us // 100_000 % 10}"


def test_the_summary_tells_who_was_seen_from_when_to_when_and_how(replayed: Run) -> None:
    _, tracks = replayed.ended.out.strip().split("\n\n")
    titles, *rows = (re.split(r"\s{2,}", line.strip()) for line in tracks.splitlines())

    assert titles == ["stream", "track", "from", "to", "frames", "emotions"]
    expected: list[list[str]] = []
    for stream in ("portrait", "pair"):
        events = replayed.of(stream)
        seen: dict[int, list[tuple[int, str]]] = {}
        for event in events:
            for face in event["data"]["faces"]:
                emotion = "unsure" if face["abstained"] else face["smoothed"]["emotion"]
                seen.setdefault(face["track_id"], []).append((micros(event) - micros(events[0]), emotion))
        for track, frames in seen.items():
            shares = Counter(emotion for _, emotion in frames).most_common(3)
            expected.append([stream, f"#{track}", clock(frames[0][0]), clock(frames[-1][0]), str(len(frames)),
                             ", ".join(f"{emotion} {count / len(frames):.0%}" for emotion, count in shares)])
    expected.sort(key=lambda row: -int(row[4]))
    assert rows[:8] == expected[:8]
    assert rows[8:] == [[f"and {len(expected) - 8} more tracks, seen for less"]]


def test_the_summary_counts_smoothed_emotions_as_the_events_have_them(replayed: Run) -> None:
    titles, *rows = (re.split(r"\s{2,}", line.strip()) for line in replayed.ended.out.split("\n\n")[0].splitlines())

    for stream, row in zip(("portrait", "pair"), rows, strict=True):
        faces = [face for event in replayed.of(stream) for face in event["data"]["faces"]]
        shown = Counter(face["smoothed"]["emotion"] for face in faces if not face["abstained"])
        cells = dict(zip(titles, row, strict=True))
        assert cells["stream"] == stream
        assert cells["unsure"] == f"{sum(face['abstained'] for face in faces) / len(faces):.0%}"
        assert cells["emotions"] == ", ".join(
            f"{emotion} {count / len(faces):.0%}" for emotion, count in shown.most_common(3))


def test_of_many_tracks_the_summary_shows_a_few_and_counts_the_rest(tmp_path: Path) -> None:
    places: list[list[Place]] = [[(200 * ((n // 5 + k) % 3), 60, 200) for k in range(1 + n % 2)] for n in range(60)]
    video = write_video(tmp_path / "a.mp4", face_frames(60, 640, 360, where=lambda n: places[n]), fps=2)

    ended = call("replay", video, "--events", tmp_path / "events.jsonl")

    tracks = {face["track_id"] for line in (tmp_path / "events.jsonl").read_text().splitlines()
              for face in json.loads(line)["data"]["faces"]}
    rows = ended.out.strip().split("\n\n")[1].splitlines()
    assert len(tracks) > 9
    assert len(rows) == 1 + 8 + 1
    assert rows[-1] == f"and {len(tracks) - 8} more tracks, seen for less"


def test_pictures_have_no_tracks_in_the_summary(tmp_path: Path) -> None:
    ended = call("replay", write_photo(tmp_path / "photo.jpg", smiling_face()))

    assert "happy" in ended.out
    assert "frames" not in ended.out


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()
            if line.startswith("emotiond ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_of_the_page_does_what_it_says(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "parquet" in line:
        require("pyarrow")
    monkeypatch.chdir(tmp_path)
    for name in ("recordings", "photos"):
        (tmp_path / name).mkdir()
    for video in ("video.mp4", "recordings/a.mp4", "recordings/b.mkv"):
        write_video(tmp_path / video, face_frames(6, 320, 240))
    write_photo(tmp_path / "photos" / "photo.jpg", smiling_face())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}

    ended = call(*line.split()[1:])

    assert (ended.code, ended.err) == (0, "")
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} - {
        str(path.relative_to(tmp_path)) for path in before}
    assert made
    assert all((tmp_path / name).stat().st_size for name in made)

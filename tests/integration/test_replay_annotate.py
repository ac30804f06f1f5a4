"""`emotiond replay --annotate`: what is drawn is read back from the pixels and held against the events."""

import signal
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from emotiond.draw import text_size
from emotiond.palette import EMOTIONS, UNSURE, to_rgb
from tests.support.commands import call, replay_apart
from tests.support.pictures import (
    Picture,
    Place,
    face_frames,
    numbered_frames,
    read_picture,
    smiling_face,
    write_photo,
)
from tests.support.replays import DEMO, START, annotate, bodies, read
from tests.support.videos import write_repeated, write_video
from tests.support.waiting import poll

COLOURS = {**EMOTIONS, None: UNSURE}
NEAR = 2      # pixels between an edge as the event says and as it is drawn and coded


def length(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / 1_000_000


def shown(face: dict[str, Any]) -> str | None:
    return None if face["abstained"] else face["smoothed"]["emotion"]


def edges_drawn(picture: Picture, face: dict[str, Any]) -> list[float]:
    """Finds left, top, right and bottom of a face's box by its colour.

    Of the columns or rows near the event's edge that have much of the colour it is the innermost but for half of the
    line, since a label may lie outside. NaN where there is none.
    """
    left, top, right, bottom = edges(face)
    like = np.abs(picture.astype(int) - to_rgb(COLOURS[shown(face)])).max(axis=-1) < 70
    half = max(round(text_size(picture) / 8), 2) // 2
    least = 0.25 if shown(face) is None else 0.6

    def find(lines: NDArray[np.bool_], at: int, inwards: int) -> float:
        places = [place for place in range(at - 8, at + 9) if 0 <= place < len(lines) and lines[place].mean() > least]
        return max(places, key=lambda place: place * inwards) - half * inwards if places else np.nan

    columns, rows = like[top:bottom + 1].T, like[:, left:right + 1]
    return [find(columns, left, 1), find(rows, top, 1), find(columns, right, -1), find(rows, bottom, -1)]


def edges(face: dict[str, Any]) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of a face's box as its event says."""
    box = face["box"]
    return box["x"], box["y"], box["x"] + box["width"] - 1, box["y"] + box["height"] - 1


def assert_drawn(pictures: list[Picture], events: list[dict[str, Any]]) -> int:
    """Asserts that each face has its box where its event says; returns how many faces there were."""
    faces = 0
    for picture, event in zip(pictures, events, strict=True):
        for face in event["faces"]:
            assert edges_drawn(picture, face) == pytest.approx(edges(face), abs=NEAR), (event["frame"], face)
            faces += 1
    return faces


@dataclass(frozen=True)
class Demo:
    """The demo's clip, annotated plainly and blurred, and the bodies of the events of all its frames."""

    plain: Path
    blurred: Path
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    plain, events = annotate(DEMO, folder, target="plain.mp4")
    blurred, same = annotate(DEMO, folder, "--blur", target="blurred.mp4")
    assert same == events
    return Demo(plain, blurred, events)


def moving(number: int) -> list[tuple[float, float, float]]:
    """A head that goes to the right, ten pixels a picture."""
    return [(40 + 10 * number, 30 + 3 * (number % 5), 250)]


@pytest.mark.parametrize(("rotation", "sar", "pix_fmt", "size"), [
    (0, None, "yuv420p", (640, 360)), (90, None, "yuv420p", (640, 360)), (180, None, "yuv420p", (640, 360)),
    (270, None, "yuv420p", (640, 360)), (0, Fraction(2), "yuv420p", (640, 360)),
    (90, Fraction(16, 11), "yuv420p", (640, 360)), (0, None, "yuv444p", (639, 359)), (0, None, "yuv444p", (641, 360)),
    (0, None, "yuvj420p", (640, 360)), (0, None, "gray", (640, 360))])
def test_boxes_are_where_the_events_say_in_every_frame_at_its_own_time(
    rotation: int, sar: Fraction | None, pix_fmt: str, size: tuple[int, int], tmp_path: Path
) -> None:
    times = [0, 0.05, 0.1, 0.3, 0.31, 0.5, 1.75, 1.8, 1.9, 2.0, 2.1, 2.5]
    pictures = list(face_frames(len(times), *size, where=moving))
    stored = [np.ascontiguousarray(np.rot90(picture, -rotation // 90)) for picture in pictures]
    if sar:
        narrow = [(round(picture.shape[1] / sar / 2) * 2, picture.shape[0]) for picture in stored]
        stored = [np.asarray(cv2.resize(p, to), np.uint8) for p, to in zip(stored, narrow, strict=True)]
    name, codec = {"yuvj420p": ("a.mov", "mjpeg"), "gray": ("a.mkv", "ffv1")}.get(pix_fmt, ("a.mp4", "libx264"))
    video = write_video(tmp_path / name, stored, times=times, codec=codec, pix_fmt=pix_fmt, sar=sar, rotation=rotation)

    annotated, events = annotate(video, tmp_path)

    shown_pictures, shown_times = read(annotated)
    assert [event["pts"] for event in events] == pytest.approx(times, abs=1e-4)
    assert length(annotated) == pytest.approx(times[-1] + times[-1] - times[-2], abs=1e-3)   # the last one is shown too
    assert shown_times == pytest.approx([event["pts"] - events[0]["pts"] for event in events], abs=2e-6)
    assert assert_drawn(shown_pictures, events) == len(times)
    height, width = shown_pictures[0].shape[:2]
    assert width == events[0]["width"] + events[0]["width"] % 2
    assert height > events[0]["height"]
    for original, picture in zip(pictures, shown_pictures, strict=True):      # what is not drawn over is as it was
        corner = np.s_[-60:, :30]
        there = picture[:events[0]["height"], :events[0]["width"]]
        assert np.abs(there[corner].astype(int) - original[corner]).mean() < 4


def test_the_demos_clip_has_all_its_frames_with_faces_and_without(demo: Demo) -> None:
    pictures, times = read(demo.plain)
    events = demo.events
    assert len(pictures) == len(events) == 180
    assert times == pytest.approx([event["pts"] for event in events], abs=2e-6)
    assert sum(not event["faces"] for event in events) > 10
    assert assert_drawn(pictures, events) == 140
    assert min(later - earlier for earlier, later in pairwise(times)) > 0
    content = demo.plain.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")      # it plays before all of it is there


def test_colours_stay_as_they_are_and_so_does_what_the_file_says_of_them(demo: Demo) -> None:
    with av.open(str(DEMO)) as original, av.open(str(demo.plain)) as copy:
        one, other = original.streams.video[0].codec_context, copy.streams.video[0].codec_context
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
            assert getattr(one, tag) == getattr(other, tag)
    for before, after in zip(read(DEMO)[0][::20], read(demo.plain)[0][::20], strict=True):
        unlike = np.abs(after[:360].astype(int) - before).max(axis=-1)
        assert np.median(unlike) <= 3


def test_the_boxes_of_a_group_are_where_the_events_say(data_dir: Path, tmp_path: Path) -> None:
    with av.open(str(data_dir / "clips" / "group7_classroom_720p.mp4")) as container:
        some = [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f, _ in zip(
            container.decode(video=0), range(12), strict=False)]
    annotated, events = annotate(write_video(tmp_path / "group.mp4", some), tmp_path)

    pictures, _ = read(annotated)
    away = [abs(drawn - said) for picture, event in zip(pictures, events, strict=True) for face in event["faces"]
            for drawn, said in zip(edges_drawn(picture, face), edges(face), strict=True)]
    assert len(away) > 4 * 50
    assert np.mean(np.array(away) <= NEAR) > 0.9      # labels and nearer faces cover some


def test_events_are_byte_identical_with_and_without_other_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    video = write_video(tmp_path / "walk.mp4", face_frames(60, where=lambda n: moving(n) if n < 50 else []))
    all_of_them = ["--annotate", "out.mp4", "--blur", "--timeline", "chart.html", "--table", "table.csv"]
    for name, outputs in (("alone", []), ("annotated", ["--annotate", "out.mp4"]), ("all", all_of_them)):
        assert call("replay", video, "--start-time", START, "--events", f"{name}.jsonl", *outputs).code == 0

    assert (tmp_path / "annotated.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert (tmp_path / "all.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert all(body["faces"] for body in bodies(tmp_path / "alone.jsonl"))      # empty frames are no events


def found_again(video: Path, folder: Path, score: float) -> list[dict[str, Any]]:
    """Returns the events of all frames of a video, also for faces that the detector hardly believes."""
    (folder / "any.yaml").write_text(f"publish_empty: true\ndetector: {{score: {score}, width: 1280}}\n")
    assert call("replay", video, "-c", folder / "any.yaml", "--events", folder / "again.jsonl").code == 0
    return bodies(folder / "again.jsonl")


def test_blurred_faces_are_found_no_more_and_others_are(demo: Demo, tmp_path: Path) -> None:
    events = demo.events
    seen = sum(len(event["faces"]) for event in events)
    again = found_again(demo.plain, tmp_path, 0.6)
    hidden = found_again(demo.blurred, tmp_path, 0.2)
    assert sum(len(event["faces"]) for event in again) > 0.9 * seen
    believed = [face["score"] for event in events for face in event["faces"]]
    assert max(face["score"] for event in hidden for face in event["faces"]) < 0.6 < 0.7 * np.median(believed)
    for one, other, event in zip(read(demo.plain)[0], read(demo.blurred)[0], events, strict=True):
        for face in event["faces"]:
            inside = inner(face["box"])
            assert detail(other[inside]) < 0.15 * detail(one[inside])


def inner(box: dict[str, int]) -> tuple[slice, slice]:
    """Returns the part of a box that its lines leave."""
    return (slice(box["y"] + 8, box["y"] + box["height"] - 8), slice(box["x"] + 8, box["x"] + box["width"] - 8))


def detail(pixels: Picture) -> float:
    return float(cv2.Laplacian(pixels, cv2.CV_64F).var())


def test_a_face_is_blurred_too_in_frames_that_it_was_missed_in(tmp_path: Path) -> None:
    """A head whose upper half is behind something is not found, and many would know it."""
    covered = smiling_face().copy()
    covered[:175] = 120
    heads = {True: smiling_face(), False: covered}
    missed = range(10, 14)
    pictures = [next(face_frames(1, where=lambda n: [(200, 60, 240)], face=heads[number not in missed]))
                for number in range(24)]

    blurred, events = annotate(write_video(tmp_path / "a.mp4", pictures), tmp_path, "--blur")

    assert [event["frame"] for event in events if not event["faces"]] == list(missed)
    box = events[9]["faces"][0]["box"]
    for original, picture in zip(pictures, read(blurred)[0], strict=True):
        assert detail(picture[inner(box)]) < 0.1 * detail(original[inner(box)])


@pytest.mark.parametrize("setting", ["score: 0.99", "min_face: 300", "max_faces: 1"])
def test_faces_that_the_configuration_leaves_out_are_blurred_too(setting: str, tmp_path: Path) -> None:
    left: Place = (60, 80, 200)
    pictures = list(face_frames(3, where=lambda n: [left, (360, 40, 260)]))
    photo = write_photo(tmp_path / "photo.jpg", pictures[0])
    (tmp_path / "few.yaml").write_text(f"detector: {{{setting}}}\n")

    for source, target in ((write_video(tmp_path / "a.mp4", pictures), "out.mp4"), (photo, "out.png")):
        ended = call("replay", source, "-c", tmp_path / "few.yaml", "--events", tmp_path / "few.jsonl",
                     "--annotate", tmp_path / target, "--blur")

        assert (ended.code, ended.err) == (0, "")
        assert all(len(event["faces"]) < 2 for event in bodies(tmp_path / "few.jsonl"))
        for picture in read(tmp_path / target)[0] if target == "out.mp4" else [read_picture(tmp_path / target)]:
            for x, y, side in (left, (360, 40, 260)):
                middle = np.s_[round(y + side / 3):round(y + 2 * side / 3), round(x + side / 3):round(x + 2 * side / 3)]
                assert detail(picture[middle]) < 0.1 * detail(pictures[0][middle])


def test_a_picture_is_annotated_and_blurred(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.jpg", smiling_face(), orientation=6)

    (plain, event), (blurred, _) = ((read_picture(path), event[0]) for path, event in (
        annotate(photo, tmp_path, target="plain.png"), annotate(photo, tmp_path, "--blur", target="blurred.jpg")))

    assert plain.shape == blurred.shape == (event["height"], event["width"], 3)
    assert assert_drawn([plain], [event]) == 1
    inside = inner(event["faces"][0]["box"])
    assert detail(blurred[inside]) < 0.1 * detail(plain[inside])


def test_several_sources_go_into_a_folder_named_as_their_streams(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_photo(tmp_path / "in" / "photo.jpg", smiling_face())
    write_video(tmp_path / "in" / "smile.mkv", face_frames(5, 320, 240))
    write_video(tmp_path / "in" / "wall.mp4", numbered_frames(5, 320, 240))
    (tmp_path / "in" / "broken.mp4").write_text("no video")

    ended = call("replay", tmp_path / "in", "--annotate", tmp_path / "out")

    assert ended.code == 1      # the broken one
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["photo.jpg", "smile.mp4", "wall.mp4"]
    assert [len(read(tmp_path / "out" / name)[0]) for name in ("smile.mp4", "wall.mp4")] == [5, 5]


def test_a_video_whose_pictures_change_their_size_keeps_all_of_them(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{width}.ts", face_frames(4, width, height))
             for width, height in ((640, 360), (320, 240))]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))

    annotated, events = annotate(tmp_path / "both.ts", tmp_path)

    pictures, _ = read(annotated)
    assert [(event["width"], event["height"]) for event in events] == [(640, 360)] * 4 + [(320, 240)] * 4
    assert len({picture.shape for picture in pictures}) == 1
    assert len(pictures) == 8
    assert_drawn(pictures[:4], events[:4])


@pytest.mark.parametrize("size", [(2, 2), (16, 16), (33, 17), (2, 64), (4096, 32), (32, 2048)])
def test_pictures_of_any_size_become_a_video(size: tuple[int, int], tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", numbered_frames(3, *size), codec="ffv1", pix_fmt="gray")

    annotated, events = annotate(video, tmp_path)

    assert len(events) == len(read(annotated)[0]) == 3


def test_an_interrupted_replay_leaves_a_video_of_what_was_seen(tmp_path: Path) -> None:
    long = write_repeated(DEMO, tmp_path / "long.mp4", seconds=60)
    events = tmp_path / "events.jsonl"

    with replay_apart(long, "--speed", "realtime", "--events", events, "--annotate", tmp_path / "out.mp4") as child:
        poll(lambda: events.exists() and events.stat().st_size > 2000, 60, "no event")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)

    assert (child.returncode, err) == (130, "")
    assert len(read(tmp_path / "out.mp4")[0]) >= len(bodies(events)) > 0

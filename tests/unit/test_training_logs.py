"""What a run leaves to look at: each epoch once, however often the run was interrupted."""

import csv
import math
import os
import resource
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="needs emotiond[train]")
pytest.importorskip("matplotlib", reason="needs emotiond[train]")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from emotiontrain.logs import CSV, CURVES, EVENTS, write_logs
from emotiontrain.logs import _write_events as write_events


def log_of(epochs: int) -> list[dict[str, Any]]:
    """Returns a log as training makes it."""
    return [{
        "epoch": epoch, "learning_rate": 0.001 / epoch, "train_loss": 1.5 + 1 / epoch, "accuracy": 0.7 - 0.3 / epoch,
        "nll": 0.9 + 0.4 / epoch, "votes_accuracy": 0.8 - 0.3 / epoch, "seconds": 60.0 + epoch}
        for epoch in range(1, epochs + 1)]


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """Returns step -> value as TensorBoard reads them; a step that is there twice fails."""
    events = EventAccumulator(str(folder))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_every_number_of_every_epoch_stands_in_the_csv(tmp_path: Path) -> None:
    log = log_of(3)

    write_logs(tmp_path, log)

    with (tmp_path / CSV).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == log


def test_tensorboard_reads_each_epoch_once_while_the_file_only_grows(tmp_path: Path) -> None:
    grown = b""
    for epochs in (1, 2, 3, 3, 5):
        write_logs(tmp_path, log_of(epochs))
        content = (tmp_path / EVENTS).read_bytes()
        assert content.startswith(grown)
        grown = content

    for tag, name in (("validation/accuracy", "accuracy"), ("validation/votes_accuracy", "votes_accuracy"),
                      ("validation/nll", "nll"), ("train/loss", "train_loss"),
                      ("train/learning_rate", "learning_rate")):
        assert scalars(tmp_path, tag) == pytest.approx({entry["epoch"]: entry[name] for entry in log_of(5)})


def test_a_run_that_goes_on_from_an_earlier_epoch_leaves_no_epoch_twice(tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(4))
    resumed = log_of(5)
    for entry in resumed[3:]:      # the fourth was written but its checkpoint was not: it is run again
        entry["accuracy"] += 0.01

    write_logs(tmp_path, resumed[:4])
    write_logs(tmp_path, resumed)

    with (tmp_path / CSV).open(encoding="utf-8", newline="") as file:
        assert [float(row["accuracy"]) for row in csv.DictReader(file)] == [e["accuracy"] for e in resumed]
    assert scalars(tmp_path, "validation/accuracy") == pytest.approx({e["epoch"]: e["accuracy"] for e in resumed})


@pytest.mark.parametrize("left", [0, 5, 30, 200, -7])
def test_events_that_were_cut_off_are_made_whole(left: int, tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(2))
    path = tmp_path / EVENTS
    path.write_bytes(path.read_bytes()[:left])

    write_logs(tmp_path, log_of(3))

    assert list(scalars(tmp_path, "train/loss")) == [1, 2, 3]


def test_a_file_of_events_that_is_none_is_replaced(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_bytes(os.urandom(300))

    write_logs(tmp_path, log_of(2))

    assert list(scalars(tmp_path, "train/loss")) == [1, 2]


@pytest.mark.parametrize("epochs", [1, 2, 120])
def test_curves_are_a_picture_of_lines_and_words(epochs: int, tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(epochs))

    picture = cv2.imread(str(tmp_path / CURVES))
    assert picture is not None
    assert picture.shape == (800, 700, 3)
    assert (picture.std(axis=2) > 30).sum() > 100      # the coloured lines or points


def test_a_run_without_votes_or_one_that_diverged_is_drawn_too(tmp_path: Path) -> None:
    log = log_of(3)
    for entry in log:
        del entry["votes_accuracy"]
    log[2] |= {"train_loss": math.nan, "nll": math.inf}

    write_logs(tmp_path, log)

    assert cv2.imread(str(tmp_path / CURVES)) is not None
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    with pytest.raises(KeyError):
        events.Scalars("validation/votes_accuracy")
    assert np.isnan(scalars(tmp_path, "train/loss")[3])


def test_an_epoch_is_later_than_the_one_before_it_by_its_seconds(tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(3))

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("train/loss")]
    assert np.diff(times).tolist() == pytest.approx([62, 63])
    assert times[-1] == pytest.approx(time.time(), abs=60)


@contextmanager
def no_room_beyond(size: int) -> Generator[None]:
    """Lets no file grow beyond `size` bytes, as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_made_good_once_there_is_room(tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(1))
    curves, events = (tmp_path / CURVES).read_bytes(), (tmp_path / EVENTS).read_bytes()

    with no_room_beyond(10_000), pytest.raises(OSError, match=r"curves\.png: cannot be written \(File too large\)"):
        write_logs(tmp_path, log_of(2))
    assert (tmp_path / CURVES).read_bytes() == curves
    with no_room_beyond(len(events) + 50), pytest.raises(OSError, match=r"emotiontrain: cannot be written \(File too"):
        write_events(tmp_path / EVENTS, log_of(2))
    assert len((tmp_path / EVENTS).read_bytes()) == len(events) + 50
    assert not list(tmp_path.glob("*.part"))

    write_logs(tmp_path, log_of(2))
    assert list(scalars(tmp_path, "train/loss")) == [1, 2]


def test_a_log_that_cannot_be_written_is_said_and_the_older_one_stays(tmp_path: Path) -> None:
    write_logs(tmp_path, log_of(1))
    before = (tmp_path / CSV).read_bytes()
    (tmp_path / CURVES).unlink()
    (tmp_path / CURVES).mkdir()
    (tmp_path / f"{CSV}.part").mkdir()

    with pytest.raises(OSError, match=r"log\.csv: cannot be written"):
        write_logs(tmp_path, log_of(2))
    (tmp_path / f"{CSV}.part").rmdir()
    with pytest.raises(OSError, match=r"curves\.png: cannot be written"):
        write_logs(tmp_path, log_of(2))

    (tmp_path / CURVES).rmdir()
    (tmp_path / EVENTS).unlink()
    (tmp_path / EVENTS).mkdir()
    with pytest.raises(OSError, match=r"emotiontrain: cannot be written"):
        write_logs(tmp_path, log_of(2))

    assert (tmp_path / CSV).read_bytes() != before
    assert not list(tmp_path.glob("*.part"))

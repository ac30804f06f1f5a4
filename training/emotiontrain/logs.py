"""What a run leaves to look at: a table, its curves, and TensorBoard's events."""

import csv
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from emotionnet.files import write_whole

Event: Any = vars(event_pb2)["Event"]        # protobuf makes its classes as it is imported, unseen by type checkers
Summary: Any = vars(summary_pb2)["Summary"]

CSV, CURVES, EVENTS = "log.csv", "curves.png", "events.out.tfevents.emotiontrain"

_TAGS = {"train_loss": "train/loss", "learning_rate": "train/learning_rate", "nll": "validation/nll",
         "accuracy": "validation/accuracy", "votes_accuracy": "validation/votes_accuracy", "seconds": "train/seconds"}


def write_logs(folder: Path, log: Sequence[dict[str, Any]]) -> None:
    """Writes all epochs so far as CSV, as PNG and for TensorBoard.

    Args:
        folder: of the run.
        log: an entry an epoch, each with `epoch` from 1 and its numbers.

    Raises:
        OSError: a file cannot be written; an older one stays.
    """
    if not log:
        return
    write_whole({folder / CSV: _table(log), folder / CURVES: _draw(log)})
    _write_events(folder / EVENTS, log)


def _table(log: Sequence[dict[str, Any]]) -> bytes:
    columns = dict.fromkeys(name for entry in log for name in entry)  # a set without votes has fewer
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(log)
    return text.getvalue().encode()


def _draw(log: Sequence[dict[str, Any]]) -> bytes:
    """Returns a PNG: losses, accuracies and learning rate over the epochs, one below the other."""
    figure = Figure((7, 8), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    losses, accuracies, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.5))
    _plot(losses, log, "train_loss", "training (varied pictures, smoothed targets)")
    _plot(losses, log, "nll", "validation", best=min, text="{:.4f}")
    losses.set_ylabel("loss (nats)")
    _plot(accuracies, log, "accuracy", "validation, labels", scale=100, best=max, text="{:.2f} %")
    _plot(accuracies, log, "votes_accuracy", "validation, taggers' majority", scale=100, best=max,
          text="{:.2f} %")
    accuracies.set_ylabel("accuracy (%)")
    _plot(rates, log, "learning_rate", "at the epoch's end")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("epoch")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, accuracies, rates):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def _plot(
    axes: Axes, log: Sequence[dict[str, Any]], name: str, label: str, *, scale: float = 1,
    best: Callable[[Iterable[float]], float] | None = None, text: str = "",
) -> None:
    """Draws one number over the epochs that have it; its best value is marked and, by `text`, named in the legend."""
    points = [(entry["epoch"], entry[name] * scale) for entry in log if name in entry]
    if not points:
        return
    epochs, values = zip(*points, strict=True)
    line = axes.plot(epochs, values, marker="o" if len(points) < 20 else "", markersize=3, label=label)[0]
    if best:
        index = values.index(best(values))
        axes.plot(epochs[index], values[index], "o", color=line.get_color())
        line.set_label(f"{label}: best {text.format(values[index])} at epoch {epochs[index]}")


def _write_events(path: Path, log: Sequence[dict[str, Any]]) -> None:
    """Makes the file hold each epoch once; only what it lacks is appended, for a TensorBoard that reads it already.

    Wall times are the run's start plus the time that epochs took, so that pauses do not show.
    """
    try:
        present = path.read_bytes() if path.exists() else b""
        start = _start_of(present) or time.time() - sum(entry.get("seconds", 0) for entry in log)
        content = _events(log, start)
        if not content.startswith(present):
            write_whole({path: content})
            return
        with path.open("ab") as file:      # also where the last epoch was written in part
            file.write(content[len(present):])
    except OSError as error:
        if error.strerror is None:         # from `write_whole`, which says it all
            raise
        raise OSError(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from error


def _events(log: Sequence[dict[str, Any]], start: float) -> bytes:
    """Returns the file: a record that says the version and when the run began, then one an epoch."""
    content = BytesIO()
    writer = RecordWriter(content)
    events: list[Any] = [Event(wall_time=start, file_version="brain.Event:2")]
    for entry in log:
        start += entry.get("seconds", 0)
        values = [Summary.Value(tag=tag, simple_value=entry[name]) for name, tag in _TAGS.items() if name in entry]
        events.append(Event(wall_time=start, step=entry["epoch"], summary=Summary(value=values)))
    for event in events:
        writer.write(event.SerializeToString())
    return content.getvalue()


def _start_of(content: bytes) -> float | None:
    """Returns the wall time of the first record of a file that `_events` made."""
    if len(content) < 12:
        return None
    length = struct.unpack_from("<Q", content)[0]
    try:
        return Event.FromString(content[12:12 + length]).wall_time or None  # behind the length and its checksum
    except DecodeError:
        return None

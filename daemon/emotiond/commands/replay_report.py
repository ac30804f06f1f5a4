"""What a replay says at its end: a row for each video, a row for each face of a picture."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from emotiond.events import FrameEvent


@dataclass
class Result:
    """What came of one source.

    Attributes:
        name: the stream's name.
        source: the file or URL.
        seconds: from opening it to its last event.
        read: frames read.
        dropped: frames dropped.
        with_face: frames with a face.
        faces: faces in all of them.
        emotions: how often each was seen.
        decode_errors: packets not decoded and frames that came out damaged.
        error: why it could not be opened, or broke off.
        events: of pictures, to be shown face by face.
    """

    name: str
    source: str
    seconds: float = 0.0
    read: int = 0
    dropped: int = 0
    with_face: int = 0
    faces: int = 0
    emotions: Counter[str] = field(default_factory=Counter[str])
    decode_errors: int = 0
    error: str | None = None
    events: list[FrameEvent] = field(default_factory=list[FrameEvent])


def print_report(results: list[Result], console: Console) -> None:
    """Prints the tables that fit what was replayed."""
    pictures = [result for result in results if result.events]
    if pictures:
        console.print(_faces_table(pictures))
    done = [result for result in results if result.read]
    if any(not result.events for result in done):
        console.print(_summary_table(done))


def _summary_table(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("stream", no_wrap=True)
    for title in ("frames", "dropped", "with a face", "faces/frame", "frames/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("emotions")
    for r in results:
        analyzed = max(r.read - r.dropped, 1)
        emotions = ", ".join(f"{name} {count / r.faces:.0%}" for name, count in r.emotions.most_common(3))
        table.add_row(r.name, str(r.read), str(r.dropped), f"{r.with_face} ({r.with_face / analyzed:.0%})",
                      f"{r.faces / analyzed:.2f}", f"{analyzed / max(r.seconds, 1e-6):.1f}", emotions)
    return table


def _faces_table(results: list[Result]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("picture", "box", "emotion", "probabilities"):
        table.add_column(title, no_wrap=title != "probabilities")
    for result in results:
        for face in (face for event in result.events for face in event.faces):
            ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])
            table.add_row(Path(result.source).name, f"{face.box.x},{face.box.y} {face.box.width}x{face.box.height}",
                          f"{face.emotion} {face.confidence:.2f}", ", ".join(f"{name} {p:.2f}" for name, p in ranked))
    return table

"""What a replay says at its end: a row for each video, for its most seen tracks, for each face of a picture."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from emotiond.events import Face, FrameEvent
from emotiond.outputs.files import is_picture
from emotiond.outputs.tracks import TrackFigures, Tracks, format_clock

TRACKS_SHOWN = 8     # of all videos together


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
        abstained: faces whose emotion is unsure.
        emotions: how often each was shown by the others, smoothed.
        tracks: who was seen, from when to when and how.
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
    abstained: int = 0
    emotions: Counter[str] = field(default_factory=Counter[str])
    tracks: Tracks = field(default_factory=Tracks)
    decode_errors: int = 0
    error: str | None = None
    events: list[FrameEvent] = field(default_factory=list[FrameEvent])


def make_console(stream: TextIO) -> Console:
    """Returns a console as wide as the terminal, and without a limit that would cut tables in pipes and logs."""
    return Console(file=stream, width=None if stream.isatty() else 200, highlight=False)


def print_report(results: list[Result], console: Console) -> None:
    """Prints the tables that fit what was replayed."""
    done = [result for result in results if result.read]
    pictures = [result for result in done if is_picture(result.source)]
    for picture in pictures:
        faces = [face for event in picture.events for face in event.faces]
        if faces:
            console.print(_faces_table(picture.source, faces))
    empty = [Path(picture.source).name for picture in pictures if not picture.faces]
    if empty:
        console.print(f"no face: {', '.join(empty)}", markup=False)
    videos = [result for result in done if not is_picture(result.source)]
    if videos:
        shown = 3 if console.width >= 100 else 1
        console.print(_summary_table(videos, shown))
        _print_tracks(videos, shown, console)


def print_counts(results: list[Result], console: Console) -> None:
    """Prints how many frames were analysed, where nothing else may be told of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stream", no_wrap=True)
    for title in ("frames", "dropped", "fps"):
        table.add_column(title, justify="right", no_wrap=True)
    for r in results:
        if r.read:
            rate = (r.read - r.dropped) / max(r.seconds, 1e-6)
            table.add_row(r.name, str(r.read), str(r.dropped), f"{rate:.1f}")
    console.print(table)


def _summary_table(results: list[Result], shown: int) -> Table:
    """A line for each video, with the `shown` most frequent emotions of faces that did not abstain."""
    drops = any(result.dropped for result in results)
    table = Table(box=None, pad_edge=False)
    table.add_column("stream", no_wrap=True, overflow="ellipsis", max_width=18 if shown == 1 else None)
    for title in ("frames", *(["dropped"] if drops else []), "with face", "per frame", "fps", "unsure"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("emotions")
    for r in results:
        analyzed = max(r.read - r.dropped, 1)
        emotions = ", ".join(f"{name} {count / r.faces:.0%}" for name, count in r.emotions.most_common(shown))
        unsure = f"{r.abstained / max(r.faces, 1):.0%}"
        table.add_row(r.name, str(r.read), *([str(r.dropped)] if drops else []), f"{r.with_face / analyzed:.1%}",
                      f"{r.faces / analyzed:.2f}", f"{analyzed / max(r.seconds, 1e-6):.1f}", unsure, emotions)
    return table


def _print_tracks(results: list[Result], shown: int, console: Console) -> None:
    """Prints a line for each of the most seen tracks, with its `shown` most frequent emotions, smoothed."""
    tracks = [(result.name, track) for result in results for track in result.tracks.most_seen(TRACKS_SHOWN)]
    if not tracks:
        return
    tracks.sort(key=lambda pair: -pair[1].frames)
    several = len(results) > 1
    table = Table(box=None, pad_edge=False)
    if several:
        table.add_column("stream", no_wrap=True, overflow="ellipsis", max_width=18 if shown == 1 else None)
    for title in ("track", "from", "to", "frames"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("emotions")
    for name, track in tracks[:TRACKS_SHOWN]:
        table.add_row(*([name] if several else []), f"#{track.id}", format_clock(track.first_us),
                      format_clock(track.last_us), str(track.frames), _shares(track, shown))
    console.print()
    console.print(table)
    more = sum(result.tracks.count for result in results) - min(len(tracks), TRACKS_SHOWN)
    if more:
        console.print(f"and {more} more {'track' if more == 1 else 'tracks'}, seen for less", markup=False)


def _shares(track: TrackFigures, shown: int) -> str:
    return ", ".join(f"{emotion or 'unsure'} {count / track.frames:.0%}"
                     for emotion, count in track.emotions.most_common(shown))


def _faces_table(source: str, faces: list[Face]) -> Table:
    """A line for each face, a column for each probability, the highest bold, a question mark where it abstained."""
    table = Table(box=None, pad_edge=False, title=Text(source), title_justify="left", title_style="bold")
    table.add_column("face", no_wrap=True)
    table.add_column("emotion", no_wrap=True)
    for label in faces[0].probabilities:
        table.add_column(label, justify="right")
    for face in faces:
        cells = [f"[bold]{p:.2f}[/bold]" if label == face.emotion else f"{p:.2f}"
                 for label, p in face.probabilities.items()]
        table.add_row(f"{face.box.x},{face.box.y} {face.box.width}x{face.box.height}",
                      f"{face.emotion}{'?' if face.abstained else ''}", *cells)
    return table

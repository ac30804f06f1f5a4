"""`emotiond replay`: videos and pictures through the daemon's own way, as if live."""

import argparse
import contextlib
import glob
import logging
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import redis.exceptions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from emotiond.config import Config
from emotiond.config_file import load_config, make_config
from emotiond.crew import Crew
from emotiond.errors import CommandError, NoInputError, UnavailableError
from emotiond.events import FrameEvent, frame_fields, to_json_line
from emotiond.frames import Frame
from emotiond.log import setup_logging
from emotiond.pipeline import Pipeline
from emotiond.publisher import Publisher
from emotiond.spool import MemorySpool
from emotiond.store import connect, describe, embedded_valkey
from emotiond.stream import Playback, StreamReader

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp",
          ".h264", ".h265", ".hevc", ".mjpeg", ".gif")
PATIENCE_SECONDS = 30.0  # without progress, before Redis counts as gone at the end


@dataclass
class _Result:
    """What came of one source."""

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
    events: list[FrameEvent] = field(default_factory=list[FrameEvent])  # pictures only


def main(args: argparse.Namespace) -> int:
    """Replays; 0, 1 when a part failed, 66 when nothing could be opened, 69 when Redis is not there."""
    setup_logging(level="error")
    logging.getLogger("emotiond.stream").setLevel(logging.CRITICAL)  # what befalls a source is in the report
    config = _config(args)
    sources = _expand(args.sources)
    with contextlib.ExitStack() as stack:
        sink = _Sink(stack, args, config)
        pipeline = Pipeline(config, sink.emit, wait_for_room=sink.wait_for_room)
        sink.connect(stack, pipeline)
        pipeline.start()
        results: list[_Result] = []
        try:
            with _progress() as progress:
                for name, source in _named(sources):
                    results.append(_replay(pipeline, sink, name, source, args, progress))
        finally:
            pipeline.stop_reading(time.monotonic() + 10)
            pipeline.finish(time.monotonic() + 10, drain=False)
        sink.drain()
    _report(results, Console(file=sys.stderr if str(args.events) == "-" else sys.stdout))
    if all(result.error and not result.read for result in results):
        raise NoInputError("\n".join(str(result.error) for result in results))
    failed = [result for result in results if result.error or result.decode_errors]
    for result in failed:
        print(f"emotiond: {result.source}: {result.error or ''}{'; ' if result.error and result.decode_errors else ''}"
              + (f"{result.decode_errors} packets or frames are damaged" if result.decode_errors else ""),
              file=sys.stderr)
    return 1 if failed else 0


class _Sink:
    """Takes the events: counts them, writes them as JSON lines, hands them to Redis."""

    def __init__(self, stack: contextlib.ExitStack, args: argparse.Namespace, config: Config) -> None:
        self._config = config
        self._file: BinaryIO | None = None
        self._spool: MemorySpool | None = None
        self._publisher: Publisher | None = None
        self.result = _Result("", "")
        self.keep_events = False
        if args.events:
            try:
                self._file = sys.stdout.buffer if str(args.events) == "-" else stack.enter_context(
                    args.events.open("wb"))
            except OSError as error:
                raise CommandError(f"{args.events}: cannot be written ({error.strerror}); name another file") from None

    def connect(self, stack: contextlib.ExitStack, pipeline: Pipeline) -> None:
        """Starts publishing, where a Redis is given."""
        url = self._config.redis.url
        if url is None:
            return
        if url == "embedded":
            url = stack.enter_context(embedded_valkey())
        client = connect(self._config.redis, url)
        try:
            client.ping()
        except (redis.exceptions.RedisError, OSError) as error:
            raise UnavailableError(describe(error, url)) from None
        self._spool = MemorySpool(self._config.spool.max_bytes, lambda stream: pipeline.metrics.events_dropped.labels(
            stream, "spool_full").inc())
        self._publisher = Publisher(client, url, self._config.redis, self._spool, pipeline.metrics,
                                    self._config.instance)
        crew = Crew()
        crew.start("publisher", self._publisher.run)
        stack.callback(crew.join, time.monotonic() + 3600)
        stack.callback(self._publisher.stop)

    def begin(self, reader: StreamReader, result: _Result, keep_events: bool) -> None:
        """Events are of this stream from now on."""
        self.result, self.keep_events = result, keep_events
        if self._spool:
            self._spool.add_stream(reader.name)

    def emit(self, event: FrameEvent, frame: Frame) -> None:
        """Takes one event."""
        result = self.result
        result.with_face += bool(event.faces)
        result.faces += len(event.faces)
        result.emotions.update(face.emotion for face in event.faces)
        if self.keep_events:
            result.events.append(event)
        fields = frame_fields(event, frame.captured_us, self._config.instance)
        if self._file:
            self._file.write(to_json_line(fields))
        if self._spool:
            self._spool.put(event.stream, fields, frame.captured_us, frame.arrived, frame.arrived_us)

    def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Holds the reader back while Redis does not take the events."""
        if self._spool:
            self._spool.wait_for_room(stopped)

    def drain(self) -> None:
        """Waits until all is in Redis.

        Raises:
            UnavailableError: Redis went away and did not come back.
        """
        if self._spool and self._publisher:
            left = self._spool.figures()[0]
            while left:
                now = self._publisher.drain(time.monotonic() + PATIENCE_SECONDS)
                if now >= left:
                    reason = self._publisher.error or "Redis is slow"
                    raise UnavailableError(f"{now} events were not delivered: {reason}")
                left = now


def _replay(
    pipeline: Pipeline, sink: _Sink, name: str, source: str, args: argparse.Namespace, progress: Progress
) -> _Result:
    result = _Result(name, source)
    config = make_config({"streams": {name: {"source": source, "live": args.live}}}).streams[name]
    speed = args.speed or (1.0 if args.live else math.inf)
    reader = pipeline.add_stream(name, config, Playback(speed, args.start_time))
    sink.begin(reader, result, keep_events=Path(source).suffix.lower() in PICTURES)
    task = progress.add_task(Path(source).name, total=None)
    begin = time.monotonic()
    thread = pipeline.read(name)
    while thread.is_alive() or (pipeline.ledger.snapshot()[name].in_flight and not pipeline.analyzing.failed.is_set()):
        thread.join(0.02)
        opened = reader.source
        progress.update(task, completed=pipeline.ledger.snapshot()[name].analyzed,
                        total=opened.length if opened else None)
    failure = pipeline.analyzing.failure or pipeline.reading.failure
    if failure:
        raise CommandError(f"thread {failure[0]} died ({failure[1]}); please report this") from failure[1]
    counts = pipeline.ledger.snapshot()[name]
    result.seconds = time.monotonic() - begin
    result.read, result.dropped = counts.read, sum(counts.dropped.values())
    result.error, result.decode_errors = reader.error, reader.decode_errors
    if not result.read and not result.error:
        result.error = f"{source} holds no frame that can be decoded, or pictures that are too large; give another file"
    progress.update(task, completed=counts.analyzed, total=counts.read)
    return result


def _config(args: argparse.Namespace) -> Config:
    """The file's settings, less its streams, with what the command line says."""
    content = load_config(args.config).model_dump(exclude={"streams"}) if args.config else {}
    if "instance" not in content or not args.config:
        content["instance"] = "replay"
    section = dict(content.get("redis") or {"max_age": None})
    section["url"] = args.redis
    content["redis"] = section
    if args.workers:
        content["compute"] = dict(content.get("compute") or {}) | {"workers": args.workers}
    return make_config(content)


def _expand(sources: list[str]) -> list[str]:
    """Turns folders and globs into the videos and pictures in them, in order of name.

    Raises:
        NoInputError: a folder or a glob without any.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in PICTURES + VIDEOS)
            if not inside:
                raise NoInputError(f"{source}: holds no video and no picture; name another folder")
            found += inside
        elif not path.exists() and any(sign in source for sign in "*?[") and "://" not in source:
            matches = sorted(glob.glob(source, recursive=True))
            if not matches:
                raise NoInputError(f"{source}: matches nothing; check the pattern")
            found += matches
        else:
            found.append(source)
    return found


def _named(sources: list[str]) -> Iterator[tuple[str, str]]:
    """Gives each source a stream name: the file's, cleaned, and numbered where it stands twice."""
    taken: set[str] = {"status"}
    for source in sources:
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source.partition("?")[0]).stem).strip("-")[:56] or "source"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}-{count}"
        taken.add(name)
        yield name, source


def _progress() -> Progress:
    """A bar for each source on a terminal, nothing elsewhere: the summary follows anyway."""
    console = Console(stderr=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    console=console, disable=not console.is_terminal)


def _report(results: list[_Result], console: Console) -> None:
    pictures = [result for result in results if result.events]
    if pictures:
        console.print(_faces_table(pictures))
    done = [result for result in results if result.read]
    if any(not result.events for result in done):
        console.print(_summary_table(done))


def _summary_table(results: list[_Result]) -> Table:
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


def _faces_table(results: list[_Result]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("picture", "box", "emotion", "probabilities"):
        table.add_column(title, no_wrap=title != "probabilities")
    for result in results:
        for face in (face for event in result.events for face in event.faces):
            ranked = sorted(face.probabilities.items(), key=lambda item: -item[1])
            table.add_row(Path(result.source).name, f"{face.box.x},{face.box.y} {face.box.width}x{face.box.height}",
                          f"{face.emotion} {face.confidence:.2f}", ", ".join(f"{name} {p:.2f}" for name, p in ranked))
    return table

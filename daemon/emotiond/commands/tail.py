"""`emotiond tail`: events from Redis as they come."""

import argparse
import sys
from collections.abc import Iterator

import msgspec
import redis.exceptions

from emotiond.client.reader import Reader
from emotiond.config_file import load_config, make_config
from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import AGGREGATE_TYPE, FRAME_TYPE, AggregateEvent, FrameEvent, to_json_line
from emotiond.store import describe

DEFAULT_URL = "redis://localhost:6379/0"
_SHOWN = (FRAME_TYPE.encode(), AGGREGATE_TYPE.encode())
HEADER = f"{'time':27} {'stream':16} {'frame':>7} {'track':>5} {'box':>19} {'emotion':9} {'conf':>5}  smoothed"


def main(args: argparse.Namespace) -> int:
    """Prints events until Ctrl-C or `--limit`."""
    config = (load_config(args.config) if args.config else make_config({}, environment=True)).redis
    if args.redis:
        config = make_config({"redis": config.model_dump() | {"url": args.redis}}).redis
    if config.url == "embedded":
        raise ConfigError("redis.url: is embedded, on a port that the daemon chose; give --redis the URL in its log")
    url = config.url or DEFAULT_URL
    reader = Reader(config, url, args.streams or None, "first" if args.from_start else "new")
    try:
        reader.look()
    except (redis.exceptions.RedisError, OSError) as error:
        raise UnavailableError(describe(error, url)) from None
    _follow(reader, args)
    return 0


def _follow(reader: Reader, args: argparse.Namespace) -> None:
    if not args.json:
        print(HEADER, flush=True)
    left: int | None = args.limit
    while True:
        for entry in reader.read():
            if _print(entry.fields, args.json) and left is not None:
                left -= 1
                if left == 0:
                    return


def _print(fields: dict[str, bytes], as_json: bool) -> bool:
    """Prints one event and returns True; entries of other writers, which a key may hold too, are passed over."""
    if not {"type", "data", "time"} <= fields.keys() or not (as_json or fields["type"] in _SHOWN):
        return False
    try:
        shown = _json_line(fields) if as_json else _table_rows(fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    return True


def _json_line(fields: dict[str, bytes]) -> bytes:
    """Returns an entry as one line; another writer's body may have more of them."""
    return to_json_line(fields | {"data": msgspec.json.encode(msgspec.json.decode(fields["data"]))})


def _table_rows(fields: dict[str, bytes]) -> bytes:
    """Returns a line for each face, or one for a window's counts, in which nothing commands the terminal."""
    rows: list[str] = []
    if fields["type"] == AGGREGATE_TYPE.encode():
        rows.append(_window_row(msgspec.json.decode(fields["data"], type=AggregateEvent)))
    else:
        rows += _face_rows(msgspec.json.decode(fields["data"], type=FrameEvent), fields["time"].decode())
    return "".join(f"{row if row.isprintable() else repr(row)[1:-1]}\n" for row in rows).encode()


def _window_row(event: AggregateEvent) -> str:
    counts = [f"{name} {count}" for name, count in event.emotions.items() if count]
    return (f"{event.start:27} {event.stream:16} to {event.end}: {event.faces} faces in {event.counted} frames with "
            f"{event.min_group} or more: {', '.join([*counts, f'unsure {event.unsure}'])}")


def _face_rows(event: FrameEvent, time_: str) -> Iterator[str]:
    for face in event.faces:
        box = f"{face.box.x},{face.box.y} {face.box.width}x{face.box.height}"
        mark = " (abstained)" if face.abstained else ""
        yield (f"{time_:27} {event.stream:16} {event.frame:7} {face.track_id:5} {box:>19} {face.emotion:9} "
               f"{face.confidence:5.2f}  {face.smoothed.emotion} {face.smoothed.confidence:.2f}{mark}")

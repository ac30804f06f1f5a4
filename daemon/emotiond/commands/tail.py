"""`emotiond tail`: events from Redis as they come."""

import argparse
import sys
import time

import msgspec
import redis
import redis.exceptions

from emotiond.config_file import load_config, make_config
from emotiond.errors import ConfigError, UnavailableError
from emotiond.events import FRAME_TYPE, FrameEvent, to_json_line
from emotiond.store import Client, connect, describe
from emotiond.subscribe import event_keys, last_id, read_entries

DEFAULT_URL = "redis://localhost:6379/0"
BLOCK_MS = 1000
SCAN_SECONDS = 2.0  # how long a stream that is new may stay unseen
HEADER = f"{'time':27} {'stream':16} {'frame':>7} {'track':>5} {'box':>19} {'emotion':9} {'conf':>5}  smoothed"


def main(args: argparse.Namespace) -> int:
    """Prints events until Ctrl-C or `--limit`."""
    config = (load_config(args.config) if args.config else make_config({}, environment=True)).redis
    if args.redis:
        config = make_config({"redis": config.model_dump() | {"url": args.redis}}).redis
    if config.url == "embedded":
        raise ConfigError("redis.url: is embedded, on a port that the daemon chose; give --redis the URL in its log")
    url = config.url or DEFAULT_URL
    try:
        client = connect(config, url)
        client.ping()
        _follow(client, config.key_prefix, args)
    except (redis.exceptions.RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise UnavailableError(describe(error, url)) from None
    return 0


def _follow(client: Client, prefix: str, args: argparse.Namespace) -> None:
    if not args.json:
        print(HEADER, flush=True)
    left: int | None = args.limit
    positions: dict[str, str] = {}
    new_only = not args.from_start
    next_scan = 0.0
    while True:
        if time.monotonic() >= next_scan:  # not before every read: it goes through all keys of the server
            next_scan = time.monotonic() + SCAN_SECONDS
            for key in [f"{prefix}:{stream}" for stream in args.streams] or event_keys(client, prefix):
                if key not in positions:  # a stream that appears while watching is read from its first event
                    positions[key] = last_id(client, key) if new_only else "0"
            new_only = False
        # without a stream yet, the status key passes the time, and an outage is noticed there too
        for entry in read_entries(client, positions or {f"{prefix}:status": "$"}, BLOCK_MS):
            if entry.key in positions and _print(entry.fields, args.json) and left is not None:
                left -= 1
                if left == 0:
                    return


def _print(fields: dict[str, bytes], as_json: bool) -> bool:
    """Prints one event and returns True; entries of other writers, which a key may hold too, are passed over."""
    if not {"type", "data", "time"} <= fields.keys():
        return False
    if as_json:
        sys.stdout.buffer.write(to_json_line(fields))
        sys.stdout.flush()
        return True
    if fields["type"] != FRAME_TYPE.encode():
        return False
    try:
        event = msgspec.json.decode(fields["data"], type=FrameEvent)
    except msgspec.DecodeError:
        return False
    for face in event.faces:
        box = f"{face.box.x},{face.box.y} {face.box.width}x{face.box.height}"
        mark = " (abstained)" if face.abstained else ""
        print(f"{fields['time'].decode():27} {event.stream:16} {event.frame:7} {face.track_id:5} {box:>19} "
              f"{face.emotion:9} {face.confidence:5.2f}  {face.smoothed.emotion} {face.smoothed.confidence:.2f}{mark}",
              flush=True)
    return True

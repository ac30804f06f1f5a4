"""`emotiond demo`: the bundled clip through the whole daemon, its events read back from a Valkey of its own."""

import argparse
import os
import shutil
import sys
import time
from collections import Counter
from importlib.resources import as_file, files
from pathlib import Path

import msgspec
import redis
from rich.console import Console
from rich.live import Live
from rich.table import Table

from emotiond.client.entries import read_entries
from emotiond.commands.replay_report import make_console
from emotiond.config_file import make_config
from emotiond.embedded import embedded_valkey
from emotiond.errors import CommandError
from emotiond.events import ENDED_TYPE, FRAME_TYPE, FrameEvent
from emotiond.log import setup_logging
from emotiond.service import Service
from emotiond.stream import Playback

STREAM = "portrait"
ROW_SECONDS = 0.5      # a row of the table for each such stretch of the clip
ROWS_SHOWN = 24
PATIENCE_SECONDS = 60.0


def main(args: argparse.Namespace) -> int:
    """Runs the demo; 0 when every event came back."""
    setup_logging(level="warning")
    console = make_console(sys.stdout)
    with as_file(files("emotiond.demo").joinpath("portrait.mp4")) as clip, embedded_valkey() as url:
        config = make_config({
            "instance": "demo", "streams": {STREAM: {"source": str(clip)}}, "redis": {"url": url},
            "spool": {"path": "memory"}, "http": {"listen": "127.0.0.1:0"},
            "responsible_use": {"purpose": "a demonstration"}})
        console.print(f"A Valkey runs at {url}. The clip (a portrait of astronaut Eileen Collins, NASA, public domain) "
                      "goes through the daemon; this table is read back from Redis, a row for each half second:")
        service = Service(config, url, Playback(speed=args.speed))
        client = redis.Redis.from_url(url)
        service.start()
        try:
            events = _watch(client, console, service)
        finally:
            ended_well = service.shut_down()
        counts = service.pipeline.ledger.snapshot()[STREAM]
        stored = int(client.xlen(f"emotions:{STREAM}"))
    emotions = Counter(face.emotion for event in events for face in event.faces)
    console.print(f"\n{counts.analyzed} frames analysed, {stored} events in {'emotions:' + STREAM}, "
                  f"{counts.analyzed - stored} frames without a face. Emotions read back: "
                  + ", ".join(f"{name} {count}" for name, count in emotions.most_common()) + ".")
    if not ended_well or stored != len(events) or not events:
        raise CommandError(f"{stored} events were stored and {len(events)} read back; please report this with "
                           "`emotiond --version`")
    program = _program()
    console.print(f"Next: `{program} replay YOUR_VIDEO`, or `{program} run -c emotiond.yaml` for a camera.")
    return 0


def _program() -> str:
    """Returns what starts this program again in the user's shell."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return "python -m emotiond"
    return started.name if shutil.which(started.name) == str(started) else os.path.relpath(started)


def _watch(client: redis.Redis, console: Console, service: Service) -> list[FrameEvent]:
    """Reads events as they come until the stream's end is announced and all of them are there."""
    events: list[FrameEvent] = []
    rows: list[tuple[str, ...]] = []
    positions = {f"emotions:{STREAM}": "0", "emotions:status": "0"}
    ended, next_row, give_up = False, 0.0, time.monotonic() + PATIENCE_SECONDS
    with Live(console=console, auto_refresh=False) as live:
        while True:
            entries = read_entries(client, positions, 200)
            for entry in entries:
                ended = ended or entry.fields["type"] == ENDED_TYPE.encode()
                if entry.fields["type"] == FRAME_TYPE.encode():
                    event = msgspec.json.decode(entry.fields["data"], type=FrameEvent)
                    events.append(event)
                    if (event.pts or 0.0) >= next_row:
                        next_row = (event.pts or 0.0) + ROW_SECONDS
                        rows.append(_row(entry.id, event))
            live.update(_table(rows[-ROWS_SHOWN:]), refresh=console.is_terminal)
            drained = service.pipeline.ledger.snapshot()[STREAM].in_flight == 0 and service.spool.figures()[0] == 0
            if (ended and drained and not entries) or time.monotonic() > give_up:
                live.update(_table(rows), refresh=True)
                return events


def _row(entry_id: str, event: FrameEvent) -> tuple[str, ...]:
    face = event.faces[0]
    bar = "█" * round(face.confidence * 10)
    return (f"{(event.pts or 0):5.2f} s", entry_id, str(face.track_id), f"{face.box.width}x{face.box.height}",
            f"{face.emotion} {face.confidence:.2f} {bar}", f"{face.smoothed.emotion} {face.smoothed.confidence:.2f}")


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("time", "entry id", "track", "face", "emotion", "smoothed"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table

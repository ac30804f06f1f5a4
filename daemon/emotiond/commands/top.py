"""`emotiond top`: what the streams do now, in a terminal; from the daemon itself, or from Redis."""

import argparse
import threading
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emotiond.commands.top_sources import CONNECTING, DaemonSource, RedisSource, Row, View
from emotiond.config_file import load_config, make_config
from emotiond.errors import CommandError, ConfigError, UnavailableError

REFRESH_SECONDS = 1.0
ONCE_SECONDS = 3.0          # until rates are known, where it is shown once
_WIDER = 120                # columns of a terminal from which on there is room for the last minutes
_GOOD, _PASSING = ("running",), ("connecting", "ended", "?")


def main(args: argparse.Namespace) -> int:
    """Shows the streams until Ctrl-C; once with `--once`, and where stdout is no terminal."""
    console = Console(highlight=False)
    source = _open(args)
    ended = threading.Event()
    failures: list[CommandError] = []

    def watch() -> None:
        try:
            source.run(ended)
        except CommandError as error:
            failures.append(error)
        ended.set()

    threading.Thread(target=watch, name="top", daemon=True).start()
    if args.once or not console.is_terminal:
        ended.wait(ONCE_SECONDS)
        view = source.view()
        if view.problem == CONNECTING:
            failures.append(UnavailableError(f"{args.url}: no answer in {ONCE_SECONDS:g} s; see that it runs"))
        if not failures:
            console.print(render(view, console.width, None))
    else:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not ended.is_set():
                live.update(render(source.view(), console.width, console.height), refresh=True)
                ended.wait(REFRESH_SECONDS)
    if failures:
        raise failures[0]
    return 0


def _open(args: argparse.Namespace) -> DaemonSource | RedisSource:
    if not args.redis and not args.config:
        return DaemonSource(args.url, args.token_file)
    config = (load_config(args.config) if args.config else make_config({})).redis
    url = args.redis or config.url
    if url is None or url == "embedded":
        raise ConfigError("redis.url: is missing, or embedded; give --redis the URL in the daemon's log")
    return RedisSource(config, url)


def render(view: View, width: int, height: int | None) -> RenderableType:
    """Returns the picture of a view, troubles first where not all streams find room in `height` lines."""
    rows = view.rows
    trouble = [row for row in rows if row.state not in (*_GOOD, *_PASSING)]
    running = sum(row.state in _GOOD for row in rows)
    head = Text(overflow="ellipsis", no_wrap=True)
    head.append(f"{view.title}  ", "bold")
    head.append(f"{running} of {len(rows)} {'stream runs' if len(rows) == 1 else 'streams run'}")
    head.append(f"; {view.problem}" if view.problem else "", "red")
    head.append(f"  {datetime.now().astimezone():%H:%M:%S}", "dim")
    room = len(rows) if height is None else max(height - 4, 1)
    shown = rows if len(rows) <= room else sorted(rows, key=lambda row: row not in trouble)[:room - 1]
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("stream", no_wrap=True, overflow="ellipsis", ratio=2, min_width=8)
    table.add_column("state", no_wrap=True)
    for title in ("rate", "dropped", "to Redis"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("faces now", no_wrap=True, overflow="ellipsis", ratio=5, min_width=14)
    if width >= _WIDER:
        table.add_column("last minutes", no_wrap=True, overflow="ellipsis", ratio=4)
    for row in shown:
        cells = [row.stream, Text(row.state.replace("_", " "), _style(row)), _number(row.rate, "{:.1f}/s"),
                 _number(row.dropped, "{:.0%}"), _number(row.latency_ms, "{:.0f} ms"),
                 Text(row.error, "red") if row.error else row.faces]
        table.add_row(*cells, *([row.shares] if width >= _WIDER else []))
    hidden = len(rows) - len(shown)
    return Group(head, Text(), table, *([Text(f"and {hidden} more, which run", "dim")] if hidden else []))


def _style(row: Row) -> str:
    return "green" if row.state in _GOOD else "dim" if row.state in _PASSING else "red"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)

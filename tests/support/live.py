"""The live page's messages, as a browser would read them."""

import http.client
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emotiond.config_file import make_config
from emotiond.live.board import Board
from emotiond.live.pages import LivePages
from emotiond.live.preview import Preview
from emotiond.pipeline import Pipeline


def make_pages() -> LivePages:
    """Returns the live page of a daemon without streams."""
    config = make_config({})
    board = Board(config, Pipeline(config, lambda event, frame: None), lambda: None)
    return LivePages(board, Preview(board, blur=True))


class RefusedError(Exception):
    """The daemon has something else to say than messages."""


@contextmanager
def watch(
    port: int, headers: Mapping[str, str] | None = None, deadline_s: float = 10
) -> Generator[Iterator[dict[str, Any]]]:
    """Opens the stream of messages; `next` waits for one.

    Raises:
        RefusedError: with what the daemon says instead.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=deadline_s)
    try:
        connection.request("GET", "/live", headers={"Accept": "text/event-stream", **(headers or {})})
        reply = connection.getresponse()
        if reply.status != 200:
            raise RefusedError(reply.read().decode())
        assert reply.headers["Content-Type"] == "text/event-stream"
        yield _messages(reply)
    finally:
        connection.close()


def _messages(reply: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := reply.readline():
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))

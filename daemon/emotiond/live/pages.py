"""The live page's files, its messages, and its pictures, as HTTP answers them."""

import threading
from collections.abc import Callable
from pathlib import Path

from emotiond.live.board import Board, Cursor
from emotiond.live.preview import Preview

PERIOD_SECONDS = 0.5    # between two messages
MOST_WATCHERS = 32      # pages that are open at once

_FOLDER = Path(__file__).parent / "page"
_KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
          ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class LivePages:
    """Answers what belongs to the live page.

    Attributes:
        files: path -> content type and content.
    """

    def __init__(self, board: Board, preview: Preview) -> None:
        """Takes what has to be shown, and what draws its pictures."""
        self._board, self._preview = board, preview
        self._closing = threading.Event()
        self._places = threading.BoundedSemaphore(MOST_WATCHERS)
        self.files = {f"/{file.name}": (_KINDS[file.suffix], file.read_bytes()) for file in _FOLDER.iterdir()}
        self.files["/"] = self.files.pop("/index.html")

    def picture(self, stream: str) -> tuple[str, bytes] | None:
        """Returns content type and content of a stream's picture; None where there is none to be shown."""
        jpeg = self._preview.jpeg(stream)
        return None if jpeg is None else ("image/jpeg", jpeg)

    def message(self) -> bytes:
        """Returns all there is to tell, as JSON."""
        return self._board.message(Cursor())

    def watch(self, write: Callable[[bytes], object]) -> bool:
        """Writes server-sent events until `close`, or until `write` fails with OSError; returns whether there was room.

        The first one tells everything, the others what is new.
        """
        if not self._places.acquire(blocking=False):
            return False
        cursor = Cursor()
        try:
            while not self._closing.is_set():
                write(b"data: " + self._board.message(cursor) + b"\n\n")
                self._closing.wait(PERIOD_SECONDS)
        finally:
            self._places.release()
        return True

    def close(self) -> None:
        """Ends every `watch` soon."""
        self._closing.set()

"""All outputs of a replay that was asked for some: each takes every frame, and each fails alone."""

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

from emotiond.errors import CommandError
from emotiond.events import FrameEvent
from emotiond.frames import Frame


class Output(Protocol):
    """One of them. Both methods raise CommandError, in one sentence, where it cannot be written."""

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Takes an analysed frame with its event, with faces or without; in order, by one thread at a time."""
        ...

    def close(self) -> None:
        """Ends it: what was taken is in its file now."""
        ...


class Outputs:
    """The outputs of a replay.

    Attributes:
        failures: what could not be written, a sentence each.
    """

    def __init__(self, common: list[Output], annotate: Callable[[str], Output | None]) -> None:
        """Takes those that all streams share.

        Args:
            common: open already.
            annotate: makes a stream's own, where it is to have one.
        """
        self.failures: list[str] = []
        self._common, self._annotate = common, annotate
        self._own: Output | None = None
        self._lock = threading.Lock()     # an analyzer may be late at the end

    def begin(self, stream: str) -> None:
        """Frames are of this stream from now on."""
        with self._lock:
            self._close_own()
            self._own = self._annotate(stream)

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Hands an analysed frame to all that have not failed."""
        with self._lock:
            self._common = [output for output in self._common if self._takes(output, event, frame)]
            if self._own and not self._takes(self._own, event, frame):
                self._own = None

    def close(self) -> None:
        """Ends all."""
        with self._lock:
            self._close_own()
            for output in self._common:
                self._close(output)
            self._common = []

    def _close_own(self) -> None:
        if self._own:
            self._close(self._own)
        self._own = None

    def _takes(self, output: Output, event: FrameEvent, frame: Frame) -> bool:
        """Hands it on; where that fails, the output is ended and takes no more."""
        try:
            output.take(event, frame)
        except CommandError as error:
            self.failures.append(str(error))
            with contextlib.suppress(CommandError):
                output.close()
            return False
        return True

    def _close(self, output: Output) -> None:
        try:
            output.close()
        except CommandError as error:
            self.failures.append(str(error))

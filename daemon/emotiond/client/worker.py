"""A thread that makes a coroutine's blocking calls."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Makes one call after another in a thread of its own, which keeps no process from ending."""

    def __init__(self) -> None:
        """Starts the thread with the first call."""
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Returns the future result of a call; that it is no longer awaited ends no call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def make() -> None:
            try:
                settle, outcome = future.set_result, function()
            except BaseException as error:      # is raised where the result is awaited
                settle, outcome = future.set_exception, error
            with contextlib.suppress(RuntimeError):     # the loop is closed
                loop.call_soon_threadsafe(_settle, future, settle, outcome)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="emotiond-client", daemon=True)
            self._thread.start()
        self._calls.put(make)
        return future

    def stop(self) -> None:
        """Ends the thread after the calls that wait."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _run(self) -> None:
        while call := self._calls.get():
            call()


def _settle(future: "asyncio.Future[Any]", settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.cancelled():
        settle(outcome)

"""Threads whose death is never silent."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Crew:
    """The threads of a daemon. The first one that dies of an exception sets `failed`.

    Attributes:
        failed: set when a thread died.
        failure: which thread, and of what; None before.
    """

    def __init__(self) -> None:
        self.failed = threading.Event()
        self.failure: tuple[str, BaseException] | None = None
        self._threads: list[threading.Thread] = []

    def start(self, name: str, target: Callable[[], None]) -> threading.Thread:
        """Starts a thread; its return is a normal end, an exception is not."""
        def life() -> None:
            try:
                target()
            except BaseException as error:  # a thread's top: the whole process has to know
                log.critical("thread %s died", name, exc_info=True)
                if self.failure is None:
                    self.failure = (name, error)
                self.failed.set()

        thread = threading.Thread(target=life, name=name, daemon=True)
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        thread.start()
        return thread

    def join(self, deadline: float) -> list[str]:
        """Waits for all threads until monotonic time `deadline`; returns the names of those still alive."""
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        return [thread.name for thread in self._threads if thread.is_alive()]

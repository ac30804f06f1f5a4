"""Threads of tests: they never keep a process from ending, and one that hangs is a failure."""

import threading
from collections.abc import Callable, Iterable


def spawn(target: Callable[..., object], *arguments: object, name: str | None = None) -> threading.Thread:
    """Starts a thread and returns it."""
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    thread.start()
    return thread


def join(threads: Iterable[threading.Thread], deadline_s: float = 30.0) -> None:
    """Waits for the end of each thread.

    Raises:
        AssertionError: one has not ended within `deadline_s`.
    """
    for thread in threads:
        thread.join(deadline_s)
        assert not thread.is_alive(), f"{thread.name} hangs"

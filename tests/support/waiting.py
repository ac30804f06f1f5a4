"""Waiting for something with a deadline, and ports that nobody uses."""

import os
import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def poll(predicate: Callable[[], T], deadline_s: float, message: str | Callable[[], str], every_s: float = 0.02) -> T:
    """Calls `predicate` until it gives something true, and returns that.

    Raises:
        AssertionError: with `message`, when it gave nothing true for `deadline_s` seconds.
    """
    deadline = time.monotonic() + deadline_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"{message() if callable(message) else message} (waited {deadline_s:g} s, last answer: {value!r})")
        time.sleep(every_s)
    return value


def free_port(beside: int = 0) -> int:
    """Returns a TCP port of 127.0.0.1 that nobody listens on, nor on the one so many above it.

    It lies below the ephemeral range: a client that keeps knocking at a dead server's port from that range
    may be given the very same port as its own, connect to itself, and keep the server from coming back.
    Of several processes of pytest-xdist each has its own: two servers must not begin on one port at the same moment.
    """
    for port in random.sample(range(18_000 + _PROCESS, 32_000 - beside, _PROCESSES), 200):
        if all(map(_is_free, {port, port + beside})):
            return port
    raise AssertionError("no free port between 18000 and 32000")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listens(port: int) -> bool:
    """Tells whether something accepts connections on this port of 127.0.0.1."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0

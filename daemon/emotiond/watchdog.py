"""Whether the daemon makes progress, and how systemd learns of it (sd_notify(3)): no timer of its own says so."""

import os
import socket
import time
from collections.abc import Callable, Mapping

STALL_SECONDS = 60.0    # longer than any single step of a part that works: a first batch on a GPU, a slow disk


class Progress:
    """Tells which part of the daemon stands still: one that has work and whose count has not moved for long."""

    def __init__(self, parts: Mapping[str, Callable[[], tuple[bool, int]]]) -> None:
        """Begins to watch.

        Args:
            parts: name -> returns whether the part has work, and a count that moves as it does it.
        """
        self._parts = parts
        self._moved = {name: (-1, time.monotonic()) for name in parts}

    def standing_still(self) -> str | None:
        """Returns which part has stood still for STALL_SECONDS, None where all go on; ask it often."""
        now = time.monotonic()
        found = None
        for name, look in self._parts.items():
            has_work, count = look()
            before, since = self._moved[name]
            if not has_work or count != before:
                self._moved[name] = count, now
            elif now - since > STALL_SECONDS:
                found = found or f"{name} stood still for {now - since:.0f} s"
        return found


class ServiceManager:
    """What systemd is told, where it started the daemon; elsewhere every call does nothing.

    Attributes:
        watchdog_seconds: how often `alive` must be called at least, None where nobody watches.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        interval, of_pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        watched = bool(address) and interval.isdecimal() and of_pid in ("", str(os.getpid()))
        self.watchdog_seconds = int(interval) / 1_000_000 if watched else None

    def ready(self) -> None:
        """The daemon runs."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The daemon makes progress."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The daemon reads its configuration anew; `ready` says that it has."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon is on its way down."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            try:
                channel.sendto(state.encode(), self._address)
            except OSError:  # a manager that does not read must not hold the daemon up
                return

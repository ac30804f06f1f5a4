"""A server as a child process: started until it is ready, stopped, killed, frozen, its output kept for failures."""

import os
import signal
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import poll

EXISTING: "weakref.WeakSet[ServerProcess]" = weakref.WeakSet()
"""Those that the running test holds, or held when it failed; conftest adds their output to its report."""


class ServerProcess:
    """One command that may be run again and again, never twice at once; a context manager that starts and ends it.

    Args:
        name: what failures call it.
        command: program and arguments.
        log: file that its output is appended to.
    """

    START_S = 15.0

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        EXISTING.add(self)

    def ready(self) -> bool:
        """Tells whether it may be used; asked again and again after the start."""
        return True

    @property
    def runs(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process of the last start."""
        assert self._process, f"{self.name} was not started"
        return self._process

    def start(self) -> None:
        """Starts it and returns once it is ready.

        Raises:
            AssertionError: it ended, or was not ready in time; with the end of its output.
        """
        assert not self.runs, f"{self.name} runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=_environment())
        try:
            poll(lambda: not self.runs or self.ready(), self.START_S,
                 lambda: f"{self.name} is not ready\n{self.output()}")
            assert self.runs, f"{self.name} ended with {self.child.returncode} at its start\n{self.output()}"
        except BaseException:
            self.kill()
            raise

    def stop(self, deadline_s: float = 10) -> None:
        """Asks it to end (SIGTERM) and waits; does nothing where it has ended already."""
        if not self.runs:
            return
        self.thaw()
        self.child.terminate()
        try:
            self.child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {deadline_s:g} s\n{self.output()}") from None

    def kill(self) -> None:
        """Ends it at once (SIGKILL), as a crash or a power cut would; frozen or not."""
        if self.runs:
            self.child.kill()
            self.child.wait()

    def freeze(self) -> None:
        """Keeps it from doing anything, with all its connections open (SIGSTOP)."""
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on (SIGCONT)."""
        self.child.send_signal(signal.SIGCONT)

    def output(self, lines: int = 40) -> str:
        """Returns the last lines it wrote."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            EXISTING.discard(self)
        self.kill()


def _environment() -> dict[str, str]:
    """This process's, without what would lead the system's own Python into the virtual environment."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}

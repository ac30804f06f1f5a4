"""A command in a real terminal: tmux, whose picture can be read."""

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import program
from tests.support.leaks import look
from tests.support.waiting import poll


class Terminal:
    """Runs `emotiond` with some arguments from entering to leaving."""

    def __init__(
        self, folder: Path, *arguments: str | Path, columns: int = 80, lines: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._socket, self._code = folder / "tmux", folder / "code"
        command = shlex.join([*program(), *map(str, arguments)])
        self._begin = [
            "new-session", "-d", "-x", str(columns), "-y", str(lines),
            *(word for name, value in (env or {}).items() for word in ("-e", f"{name}={value}")),
            f"trap : INT; {command}; echo $? > {shlex.quote(str(self._code))}; cat"]

    def __enter__(self) -> Self:
        self._tmux(*self._begin)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")

    def text(self, colours: bool = False) -> str:
        """Returns what stands on the screen."""
        text = self._tmux("capture-pane", "-p", *(["-e"] if colours else []))
        look("terminals", text)
        return text.rstrip()

    def wait_for(self, expectation: Callable[[str], bool], deadline_s: float = 30) -> str:
        """Returns the first text that is as expected."""
        seen = [""]

        def is_so() -> bool:
            seen[0] = self.text()
            return expectation(seen[0])

        poll(is_so, deadline_s, lambda: f"not in time; the screen:\n{seen[0]}", every_s=0.1)
        return seen[0]

    def press(self, keys: str) -> None:
        """Presses keys, such as C-c."""
        self._tmux("send-keys", keys)

    def code(self, deadline_s: float = 30) -> int:
        """Waits for the command's end and returns its exit code."""
        poll(lambda: self._code.exists() and self._code.read_text(), deadline_s, "it does not end")
        return int(self._code.read_text())

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", os.devnull, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30,
                              env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout

"""Commands as a user runs them: in a process of their own, on a terminal, or in this process where that suffices."""

import contextlib
import fcntl
import io
import itertools
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from emotiond import cli
from tests.support.daemon import with_path
from tests.support.leaks import look

DEADLINE_S = 100.0      # under that of a test, so that a hang shows its output
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Ended:
    """What a command left behind; on a terminal `out` holds both outputs, without colours."""

    code: int
    out: str
    err: str

    def __post_init__(self) -> None:
        look("commands' outputs", self.out + self.err)

    @property
    def lines(self) -> list[str]:
        """What it said on stderr, line by line."""
        return self.err.splitlines()


def program() -> list[str]:
    """Returns what goes before the arguments of a command in a process of its own."""
    return [*with_path(), sys.executable, "-m", "emotiond"]


def run(*arguments: str | Path, deadline_s: float = DEADLINE_S, env: Mapping[str, str] | None = None) -> Ended:
    """Runs a command in a process of its own, with nothing but pipes around it.

    Args:
        arguments: after `emotiond`.
        deadline_s: for the whole command.
        env: variables beside those of this process.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """
    ended = subprocess.run(
        [*program(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=deadline_s, check=False, env={**os.environ, **(env or {})})
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_in_terminal(*arguments: str | Path, columns: int = 80, deadline_s: float = DEADLINE_S) -> Ended:
    """Runs a command on a terminal of its own, 40 lines high."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    child = subprocess.Popen(
        [*program(), *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"})
    os.close(slave)
    watchdog = threading.Timer(deadline_s, child.kill)
    watchdog.start()
    written = bytearray()
    try:
        with contextlib.suppress(OSError):      # Linux' way to say that nobody holds the other end any more
            while part := os.read(master, 65536):
                written += part
        code = child.wait()
    finally:
        watchdog.cancel()
        os.close(master)
    return Ended(code, _ESCAPES.sub("", written.decode(errors="replace")), "")


def call(*arguments: str | Path) -> Ended:
    """Runs a command in this process: the same code from its arguments to its exit code, without the start."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with _own_logging(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as exit_:      # argparse's way out
            code = int(exit_.code or 0)
        out.flush()
    content = out.buffer
    assert isinstance(content, io.BytesIO)
    return Ended(code, content.getvalue().decode(), err.getvalue())


def table_rows(text: str) -> dict[str, dict[str, str]]:
    """Reads the first printed table: first cell of each row to its cells by title; columns lie two blanks apart."""
    printed = itertools.takewhile(str.strip, text.strip().splitlines())
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed]
    titles = next((line for line in lines if len(line) > 2), [])
    return {line[0]: dict(zip(titles, line, strict=False)) for line in lines if line is not titles and len(line) > 1}


@contextlib.contextmanager
def replay_apart(*arguments: str | Path) -> Generator[subprocess.Popen[str]]:
    """Runs it in a process of its own, which ends with the block at the latest."""
    with subprocess.Popen([*program(), "replay", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def _own_logging() -> Generator[None, None, None]:
    """Gives the command the root logger for itself, and puts back what pytest had there."""
    root, streams = logging.getLogger(), logging.getLogger("emotiond.stream")
    handlers, level, streams_level = root.handlers[:], root.level, streams.level
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        streams.setLevel(streams_level)

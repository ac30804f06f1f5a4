"""A Debian of its own that a real systemd has booted, in a container without a network."""

import contextlib
import signal
import subprocess
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.commands import Ended
from tests.support.waiting import poll

_NSPAWN = ("systemd-nspawn", "--register=no", "--keep-unit", "--quiet")
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")


def call(command: Sequence[str | Path], deadline_s: float = 120) -> Ended:
    """Runs a command to its end."""
    ended = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           timeout=deadline_s, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_in_tree(tree: Path, *command: str, binds: Sequence[str] = (), deadline_s: float = 400) -> Ended:
    """Runs a command as root in a Debian that is not booted, with this machine's network."""
    return call([*_NSPAWN, "--pipe", "--directory", tree, *(f"--bind-ro={bind}" for bind in binds), *command],
                deadline_s)


@contextlib.contextmanager
def in_memory(folder: Path) -> Generator[Path]:
    """Makes a folder that lives in memory until it is left: deleting a tree from a disk can take a minute."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


class Machine:
    """Runs a Debian tree from entering to leaving.

    Args:
        tree: with systemd in it; what runs there changes it.
        console: file that gets what its console shows.
        binds: folders of this machine that it can read, as HERE:THERE.
    """

    def __init__(self, tree: Path, console: Path, binds: Sequence[str] = ()) -> None:
        self.tree, self._console, self._binds = tree, console, binds
        self._stack = contextlib.ExitStack()
        self._init = 0

    def run(self, *command: str, deadline_s: float = 120, own_network: bool = True) -> Ended:
        """Runs a command as root beside what runs there; with its network, which is loopback alone, or with ours."""
        namespaces = ("--mount", "--uts", "--ipc", "--pid", *(["--net"] if own_network else []))
        return call(["nsenter", f"--target={self._init}", *namespaces, "--", "env", "-i", *_ENVIRONMENT, *command],
                    deadline_s)

    def check(self, *command: str, deadline_s: float = 120) -> str:
        """Runs a command that must succeed and returns its output."""
        ended = self.run(*command, deadline_s=deadline_s)
        assert ended.code == 0, f"{command}\n{ended.out[-3000:]}\n{ended.err[-3000:]}"
        return ended.out

    def path(self, name: str) -> Path:
        """Returns where a file of that machine lies on this one."""
        return self.tree / name.lstrip("/")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            console = stack.enter_context(self._console.open("wb"))
            process = subprocess.Popen(
                [*_NSPAWN, "--private-network", "--boot", "--directory", str(self.tree),
                 *(f"--bind-ro={bind}" for bind in self._binds)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT)
            stack.callback(self._power_off, process)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

            def booted() -> bool:
                """Asks whom it finds: the first child is a helper of nspawn's that makes the second, init, and ends."""
                self._init = int((children.read_text().split() or ["0"])[0])
                return self._init != 0 and (
                    self.run("systemctl", "is-system-running").out.strip() in {"running", "degraded"})

            poll(booted, 60, self._last_words, every_s=0.2)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _power_off(self, process: subprocess.Popen[bytes]) -> None:
        if self._init:
            self.run("systemctl", "poweroff", "--no-block")
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def _last_words(self) -> str:
        return self._console.read_text(errors="replace")[-3000:]

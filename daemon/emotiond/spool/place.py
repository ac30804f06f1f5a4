"""The spool's files on the disk: whose they are, and what an interrupted replacement left of them."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from emotiond.errors import ConfigError


def claim(path: Path) -> int:
    """Keeps every other process from a database, also while `repair.rebuild` has none in its place.

    Returns:
        A descriptor; the claim ends when it is closed, or with the process.

    Raises:
        ConfigError: another has it, or the folder cannot be written.
        OSError: the disk is full.
    """
    with _explaining(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise in_use(path) from None
        return descriptor


def prepare(path: Path) -> None:
    """Makes an empty file that only its owner may read, and ends an interrupted `repair.rebuild`."""
    with _explaining(path):
        new = path.with_name(f"{path.name}.new")
        if new.exists() and not path.exists():
            os.replace(new, path)
        remove(new)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # its log gets the same mode


@contextlib.contextmanager
def _explaining(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise ConfigError(f"spool.path: {path} cannot be written ({error.strerror}); name a file in a folder that the "
                          "daemon's user may write") from None


def in_use(path: Path | None) -> ConfigError:
    """Returns the error of a database that another process has."""
    return ConfigError(f"spool.path: {path} is in use by another emotiond; give each a file of its own")


def remove(path: Path) -> None:
    """Removes a database with its log, where they are."""
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)

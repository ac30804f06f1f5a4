"""What a judge reads in the file of a spool, without touching it: what counted as produced, and how far Redis was."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from emotiond.spool.database import decode_record


@dataclass(frozen=True)
class Spooled:
    """An event that is in the file, and so counted as produced.

    Attributes:
        seq: its place among all.
        stream: its stream.
        waits: Redis had not acknowledged it as far as the file knows.
        fields: the entry's fields.
    """

    seq: int
    stream: str
    waits: bool
    fields: dict[str, str]


def read_spool(file: Path) -> list[Spooled]:
    """Returns the events in a spool's file, oldest first, those that are acknowledged and kept included."""
    with _copy(file) as db:
        rows = db.execute("SELECT seq, name, seq > acked, record FROM events JOIN streams ON number = stream "
                          "ORDER BY seq").fetchall()
    return [Spooled(seq, name, bool(waits), {key: value.decode() for key, value in decode_record(record).items()})
            for seq, name, waits, record in rows]


def read_spooled_streams(file: Path) -> set[str]:
    """Returns the streams that a spool's file knows."""
    with _copy(file) as db:
        return {name for name, in db.execute("SELECT name FROM streams")}


@contextlib.contextmanager
def _copy(file: Path) -> Generator[sqlite3.Connection]:
    """Opens a copy of the database and its log: opening the file itself would take the log away."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{file}{suffix}", folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / file.name)) as db:
            yield db

"""A damaged database of the spool is replaced by a new one with all that can be read of it."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Generator, Mapping
from pathlib import Path

from emotiond.spool.database import (
    COLUMNS,
    CorruptRecordError,
    Position,
    Row,
    SpoolFile,
    decode_record,
    is_damage,
    read_positions,
)
from emotiond.spool.place import remove

_ASIDE_KEPT = 3    # damaged files that are kept


def rebuild(path: Path, known: Mapping[str, Position], without: Collection[int]) -> tuple[Path, int]:
    """Puts a new database with all that can be read of a damaged one in its place; nobody else may have it open.

    The new one is complete before the old one is renamed, and `SpoolFile` ends what a kill interrupts.

    Args:
        path: of the database.
        known: streams as they are, which go before what the old one says of them.
        without: seqs of events that are left out.

    Returns:
        Where the damaged one is now, and how many events were read.

    Raises:
        ConfigError, sqlite3.Error, OSError: the old one is still in its place.
    """
    part, new = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.new")
    remove(part)
    with contextlib.closing(SpoolFile(part)) as file:
        count = _copy_readable(path, file, known, without)
    os.replace(part, new)
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    for suffix in ("-wal", ""):  # the log first: beside the new database it would be taken for that one's
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    os.replace(new, path)
    for old in sorted(path.parent.glob(f"{path.name}.damaged-{'[0-9]' * 13}"))[:-_ASIDE_KEPT]:
        remove(old)
    return aside, count


def _copy_readable(path: Path, file: SpoolFile, known: Mapping[str, Position], without: Collection[int]) -> int:
    """Copies streams and events: from the front up to the damage, then from the back down to it."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as old, file.transaction():
        positions: dict[str, Position] = {}
        with _passing_damage():
            positions = read_positions(old)
        positions |= known
        numbers = {position.number for position in positions.values()}
        count, front = 0, -1
        for order in ("ASC", "DESC"):
            with _passing_damage():
                for row in old.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq {order}"):
                    if order == "ASC":
                        front = row[0]
                    elif row[0] <= front:
                        break
                    if row[0] in without or not _has_stream(row, positions, numbers):
                        continue
                    file.insert([row])
                    count += 1
        file.save_positions(position.row(name) for name, position in positions.items())
    return count


def _has_stream(row: Row, positions: dict[str, Position], numbers: set[int]) -> bool:
    """Tells whether an event's stream is known; where the table of streams is lost, an event's subject names it."""
    if row[1] not in numbers:
        try:
            name = decode_record(row[7])["subject"].decode()
        except (CorruptRecordError, KeyError, UnicodeDecodeError):
            return False
        if name in positions:
            return False
        positions[name] = Position(row[1])
        numbers.add(row[1])
    return True


@contextlib.contextmanager
def _passing_damage() -> Generator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error) and "no such table" not in str(error):
            raise

"""The spool's SQLite database: events and how far Redis acknowledged them, in write-ahead-log mode.

A commit survives the death of the process at any moment; it is not synced to the disk each time, so the last ones may
be missing after a power failure, in which case the database is whole and only younger.
"""

import contextlib
import sqlite3
import zlib
from collections.abc import Collection, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec

from emotiond.errors import ConfigError
from emotiond.events import EntryId
from emotiond.spool.place import in_use, prepare

_FORMAT = 1
_LAST_SEQ = 2**63 - 1
_CACHE_KIB = 2048
_WAL_BYTES = 8 << 20      # the log is cut back to this when it has grown
_SETTINGS = (
    "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL",
    f"PRAGMA cache_size=-{_CACHE_KIB}", f"PRAGMA journal_size_limit={_WAL_BYTES}",
)
_TABLES = (
    """CREATE TABLE streams (
         number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, live INTEGER NOT NULL, last_ms INTEGER NOT NULL,
         last_n INTEGER NOT NULL, acked INTEGER NOT NULL, acked_ms INTEGER NOT NULL, acked_n INTEGER NOT NULL)""",
    """CREATE TABLE events (
         seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL,
         captured_us INTEGER NOT NULL, arrived REAL NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL)""",
    "CREATE INDEX events_by_stream ON events (stream, seq, ms, n, size)",
    f"PRAGMA user_version={_FORMAT}",
)
COLUMNS = "seq, stream, ms, n, captured_us, arrived, size, record"
_INSERT = f"INSERT OR REPLACE INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SAVE = """INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET
             live = excluded.live, last_ms = excluded.last_ms, last_n = excluded.last_n, acked = excluded.acked,
             acked_ms = excluded.acked_ms, acked_n = excluded.acked_n"""  # leaves the index of names alone

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode

Row = tuple[int, int, int, int, int, float, int, bytes]
"""seq, stream, ms, n, captured_us, arrived, size, record."""

StreamRow = tuple[int, str, bool, int, int, int, int, int]
"""number, name, live, last_ms, last_n, acked, acked_ms, acked_n."""


class CorruptRecordError(ValueError):
    """The bytes of a record are not those that were written."""


def encode_record(fields: dict[str, bytes]) -> bytes:
    """Returns an entry's fields as MessagePack behind a CRC-32 of it."""
    body = _encode(fields)
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_record(record: object) -> dict[str, bytes]:
    """Returns the fields of `encode_record`'s bytes.

    Raises:
        CorruptRecordError: it is not what that wrote; a damaged page may hold another type.
    """
    if not isinstance(record, bytes):
        raise CorruptRecordError("it is not of bytes")
    body = memoryview(record)[4:]
    if zlib.crc32(body).to_bytes(4, "big") != record[:4]:
        raise CorruptRecordError("the checksum does not match")
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecordError(str(error)) from None


@dataclass
class Position:
    """A stream as the database has it.

    Attributes:
        number: its number there.
        live: whether its oldest events may go when the spool is full.
        last: the last entry id given.
        acked: seq of the last event that Redis acknowledged.
        acked_id: the entry id under which it stands there.
        waiting: events after it.
        waiting_bytes: their size.
    """

    number: int
    live: bool = True
    last: EntryId = (0, 0)
    acked: int = 0
    acked_id: EntryId = (0, 0)
    waiting: int = 0
    waiting_bytes: int = 0

    def row(self, name: str) -> StreamRow:
        """Returns what the database keeps of it."""
        return self.number, name, self.live, *self.last, self.acked, *self.acked_id


class SpoolFile:
    """The database, for one thread at a time. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path | None) -> None:
        """Opens or makes it; without a path, in memory.

        Raises:
            ConfigError: it cannot be opened here, or another process has it.
            sqlite3.Error, OSError: the disk is full or fails, or the file is damaged.
        """
        if path:
            prepare(path)
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None, check_same_thread=False)
            with _closing_on_error(self._db):
                for statement in _SETTINGS:
                    self._db.execute(statement)
                written = self._db.execute("PRAGMA user_version").fetchone()[0]
                if written > _FORMAT:
                    raise ConfigError(f"spool.path: {path} was written by a newer emotiond; install that, or name "
                                      "another file")
                if written == 0:  # else opening works on a full disk too
                    with self.transaction():
                        for statement in _TABLES:
                            self._db.execute(statement)
        except sqlite3.OperationalError as error:
            raise _explain(error, path) from None

    def close(self) -> None:
        """Closes it, and so gives it free for another process."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        """Does what is inside wholly or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    def positions(self) -> dict[str, Position]:
        """Returns all streams by name; how much of each waits is not counted."""
        return read_positions(self._db)

    def save_positions(self, rows: Iterable[StreamRow]) -> None:
        """Stores streams; in a transaction."""
        self._db.executemany(_SAVE, rows)

    def bytes(self) -> int:
        """Returns the size of all events, acknowledged ones included."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM events").fetchone()[0])

    def last_seq(self) -> int:
        """Returns the highest seq of all events and acknowledgements, 0 without any."""
        return int(self._db.execute("SELECT max((SELECT coalesce(max(seq), 0) FROM events), "
                                    "(SELECT coalesce(max(acked), 0) FROM streams))").fetchone()[0])

    def insert(self, rows: Iterable[Row]) -> None:
        """Adds events; in a transaction."""
        self._db.executemany(_INSERT, rows)

    def after(self, stream: int, seq: int, most: int) -> list[Row]:
        """Returns up to `most` events of a stream after one, oldest first."""
        return self._db.execute(
            f"SELECT {COLUMNS} FROM events WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?",
            (stream, seq, most)).fetchall()

    def sizes_after(self, stream: int, seq: int) -> Iterator[tuple[int, int]]:
        """Yields seq and size of a stream's events after one, oldest first, from the index alone."""
        return self._db.execute(
            "SELECT seq, size FROM events WHERE stream = ? AND seq > ? ORDER BY seq", (stream, seq))

    def count_after(self, stream: int, seq: int) -> tuple[int, int]:
        """Returns how many events a stream has after one, and their bytes."""
        return self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM events WHERE stream = ? AND seq > ?",
            (stream, seq)).fetchone()

    def find(self, stream: int, ids: Collection[EntryId], after: int, through: int) -> list[Row]:
        """Returns a stream's events with these entry ids after one seq and up to another, in one pass over those."""
        wanted = ", ".join(["(?, ?)"] * len(ids))
        return self._db.execute(
            f"SELECT {COLUMNS} FROM events WHERE stream = ? AND seq > ? AND seq <= ? AND (ms, n) IN (VALUES {wanted})",
            (stream, after, through, *chain.from_iterable(ids))).fetchall()

    def first_above(self, stream: int, entry_id: EntryId, through: int) -> int | None:
        """Returns the seq of a stream's first event up to a seq whose entry id is above one, None without one."""
        return self._db.execute(
            "SELECT min(seq) FROM events WHERE stream = ? AND (ms, n) > (?, ?) AND seq <= ?",
            (stream, *entry_id, through)).fetchone()[0]

    def set_ids(self, ids: Iterable[tuple[EntryId, int]]) -> None:
        """Gives events, named by seq, other entry ids."""
        with self.transaction():
            self._db.executemany("UPDATE events SET ms = ?, n = ? WHERE seq = ?", ((*new, seq) for new, seq in ids))

    def delete(self, seqs: Iterable[int]) -> int:
        """Removes single events and returns the bytes of those that were there; in a transaction."""
        freed = 0
        for seq in seqs:
            found = self._db.execute("SELECT size FROM events WHERE seq = ?", (seq,)).fetchone()
            if found:
                self._db.execute("DELETE FROM events WHERE seq = ?", (seq,))
                freed += found[0]
        return freed

    def delete_stream(self, stream: int) -> int:
        """Removes a stream with all its events and returns their bytes; in a transaction."""
        freed = self.delete_through(stream, _LAST_SEQ)
        self._db.execute("DELETE FROM streams WHERE number = ?", (stream,))
        return freed

    def delete_through(self, stream: int, seq: int) -> int:
        """Removes a stream's events up to one and returns their bytes; in a transaction."""
        freed = self._db.execute(
            "SELECT coalesce(sum(size), 0) FROM events WHERE stream = ? AND seq <= ?", (stream, seq)).fetchone()[0]
        if freed:
            self._db.execute("DELETE FROM events WHERE stream = ? AND seq <= ?", (stream, seq))
        return int(freed)


def is_full(error: sqlite3.Error) -> bool:
    """Tells a full disk from one that fails."""
    return getattr(error, "sqlite_errorcode", 0) & 0xff == sqlite3.SQLITE_FULL


def is_damage(error: sqlite3.Error) -> bool:
    """Tells a damaged file from a disk that is full or fails."""
    return getattr(error, "sqlite_errorcode", 0) & 0xff in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def read_positions(db: sqlite3.Connection) -> dict[str, Position]:
    """Returns the streams by name, of any connection."""
    return {row[1]: Position(row[0], bool(row[2]), (row[3], row[4]), row[5], (row[6], row[7]))
            for row in db.execute("SELECT * FROM streams")}


def _explain(error: sqlite3.OperationalError, path: Path | None) -> Exception:
    """Returns what a user has to mend as a ConfigError, and any other error as it is."""
    code = error.sqlite_errorcode & 0xff
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return in_use(path)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return ConfigError(f"spool.path: {path} cannot be written ({error}); name a file that the daemon's user may "
                           "write")
    return error


@contextlib.contextmanager
def _closing_on_error(db: sqlite3.Connection) -> Generator[None]:
    try:
        yield
    except BaseException:
        db.close()
        raise

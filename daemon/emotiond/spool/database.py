"""The spool's SQLite database: events and how far Redis acknowledged them, in write-ahead-log mode.

A commit survives the death of the process at any moment; it is not synced to the disk each time, so the last ones may
be missing after a power failure, in which case the database is whole and only younger.
"""

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from emotiond.errors import ConfigError
from emotiond.events import EntryId, EntryIds

_FORMAT = 1
_CACHE_KIB = 8192
_WAL_BYTES = 8 << 20     # the log is cut back to this when it has grown
_SETTINGS = (
    "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL",
    f"PRAGMA cache_size=-{_CACHE_KIB}", f"PRAGMA journal_size_limit={_WAL_BYTES}",
)
_TABLES = (
    """CREATE TABLE streams (
         number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, live INTEGER NOT NULL, last_ms INTEGER NOT NULL,
         last_n INTEGER NOT NULL, acked_ms INTEGER NOT NULL, acked_n INTEGER NOT NULL)""",
    """CREATE TABLE events (
         seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL, ms INTEGER NOT NULL, n INTEGER NOT NULL,
         captured_us INTEGER NOT NULL, arrived REAL NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL)""",
    "CREATE INDEX events_by_id ON events (stream, ms, n, size)",
    f"PRAGMA user_version={_FORMAT}",
)
_ID = "(ms, n)"
_COLUMNS = "seq, stream, ms, n, captured_us, arrived, size, record"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode

Row = tuple[int, int, int, int, int, float, int, bytes]
"""seq, stream, ms, n, captured_us, arrived, size, record."""


class CorruptRecordError(ValueError):
    """The bytes of a record are not those that were written."""


def encode_record(fields: dict[str, bytes]) -> bytes:
    """Returns an entry's fields as MessagePack behind a CRC-32 of it."""
    body = _encode(fields)
    return zlib.crc32(body).to_bytes(4, "big") + body


def decode_record(record: bytes) -> dict[str, bytes]:
    """Returns the fields of `encode_record`'s bytes.

    Raises:
        CorruptRecordError: they are not what it wrote.
    """
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
        acked: the entry id up to which Redis acknowledged.
        waiting: events after it.
        waiting_bytes: their size.
    """

    number: int
    live: bool
    last: EntryId
    acked: EntryId
    waiting: int = 0
    waiting_bytes: int = 0


class SpoolFile:
    """The database, for one thread at a time. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path | None) -> None:
        """Opens or makes it; without a path, in memory.

        Raises:
            ConfigError: it cannot be opened here, or another process has it.
            sqlite3.Error: the disk is full or fails, or the file is damaged.
        """
        self.path = path
        if path:
            _make_folder(path)
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
        if path:
            path.chmod(0o600)

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
        """Returns all streams by name, with what waits of each."""
        found = _read_positions(self._db)
        for position in found.values():
            position.waiting, position.waiting_bytes = self._db.execute(
                f"SELECT count(*), coalesce(sum(size), 0) FROM events WHERE stream = ? AND {_ID} > (?, ?)",
                (position.number, *position.acked)).fetchone()
        return found

    def bytes(self) -> int:
        """Returns the size of all events, acknowledged ones included."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM events").fetchone()[0])

    def save_positions(self, positions: Mapping[str, Position]) -> None:
        """Stores streams; in a transaction."""
        self._db.executemany(
            "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((p.number, name, p.live, *p.last, *p.acked) for name, p in positions.items()))

    def last_seq(self) -> int:
        """Returns the highest seq of all events, 0 without any."""
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def insert(self, rows: Iterable[Row]) -> None:
        """Adds events; in a transaction."""
        self._db.executemany(f"INSERT OR REPLACE INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def after(self, stream: int, entry_id: EntryId, most: int) -> list[Row]:
        """Returns up to `most` events of a stream after an id, oldest first."""
        return self._db.execute(
            f"SELECT {_COLUMNS} FROM events WHERE stream = ? AND {_ID} > (?, ?) ORDER BY ms, n LIMIT ?",
            (stream, *entry_id, most)).fetchall()

    def sizes_after(self, stream: int, entry_id: EntryId) -> Iterator[tuple[int, int]]:
        """Yields seq and size of a stream's events after an id, oldest first, from the index alone."""
        return self._db.execute(
            f"SELECT seq, size FROM events WHERE stream = ? AND {_ID} > (?, ?) ORDER BY ms, n", (stream, *entry_id))

    def count(self, stream: int, after: EntryId, through: EntryId) -> tuple[int, int]:
        """Returns how many events a stream has after one id up to another, and their bytes."""
        return self._db.execute(
            f"SELECT count(*), coalesce(sum(size), 0) FROM events WHERE stream = ? AND {_ID} > (?, ?) "
            f"AND {_ID} <= (?, ?)", (stream, *after, *through)).fetchone()

    def delete(self, seqs: Iterable[int]) -> None:
        """Removes single events; in a transaction."""
        self._db.executemany("DELETE FROM events WHERE seq = ?", ((seq,) for seq in seqs))

    def delete_through(self, stream: int, entry_id: EntryId) -> int:
        """Removes a stream's events up to an id and returns their bytes; in a transaction."""
        count, size = self.count(stream, (-1, 0), entry_id)
        if count:
            self._db.execute(f"DELETE FROM events WHERE stream = ? AND {_ID} <= (?, ?)", (stream, *entry_id))
        return size

    def renumber(self, stream: int, after: EntryId, ids: EntryIds) -> None:
        """Gives all events of a stream after an id the next ids."""
        with self.transaction():
            seqs = self._db.execute(
                f"SELECT ms, seq FROM events WHERE stream = ? AND {_ID} > (?, ?) ORDER BY ms, n", (stream, *after))
            self._db.executemany("UPDATE events SET ms = ?, n = ? WHERE seq = ?",
                                 [(*ids.next(ms * 1000), seq) for ms, seq in seqs])


def is_full(error: sqlite3.Error) -> bool:
    """Tells a full disk from one that fails."""
    return getattr(error, "sqlite_errorcode", 0) & 0xff == sqlite3.SQLITE_FULL


def is_damage(error: sqlite3.Error) -> bool:
    """Tells a damaged file from a disk that is full or fails."""
    return getattr(error, "sqlite_errorcode", 0) & 0xff in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def set_aside(path: Path) -> Path:
    """Renames a damaged database and its log, and returns its new name."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    for suffix in ("-wal", ""):  # the log first: beside a new database it would be taken for that one's
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def salvage(path: Path) -> tuple[dict[str, Position], list[Row]]:
    """Returns what can be read of a damaged database: from the front up to the damage, and from the back."""
    positions: dict[str, Position] = {}
    rows: dict[int, Row] = {}
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        with contextlib.suppress(sqlite3.Error):
            positions = _read_positions(db)
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                for row in db.execute(f"SELECT {_COLUMNS} FROM events ORDER BY seq {order}"):
                    if row[0] in rows:
                        break
                    rows[row[0]] = row
    known = {position.number for position in positions.values()}
    for row in rows.values():
        if row[1] not in known:  # the streams' table is lost: an event's subject is its stream
            with contextlib.suppress(CorruptRecordError):
                positions[decode_record(row[7])["subject"].decode()] = Position(row[1], True, (0, 0), (0, 0))
                known.add(row[1])
    return positions, [rows[seq] for seq in sorted(rows) if rows[seq][1] in known]


def _read_positions(db: sqlite3.Connection) -> dict[str, Position]:
    return {row[1]: Position(row[0], bool(row[2]), (row[3], row[4]), (row[5], row[6]))
            for row in db.execute("SELECT * FROM streams")}


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"spool.path: {path.parent} cannot be made ({error.strerror}); name a file in a folder that "
                          "the daemon's user may write") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"spool.path: {path} cannot be written; name a file in a folder that the daemon's user may "
                          "write")


def _explain(error: sqlite3.OperationalError, path: Path | None) -> Exception:
    """Returns what a user has to mend as a ConfigError, and any other error as it is."""
    code = error.sqlite_errorcode & 0xff
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConfigError(f"spool.path: {path} is in use by another emotiond; give each a file of its own")
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

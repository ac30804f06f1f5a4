"""The spool's file through what may happen to it: it is opened, fails and is tried again, is damaged and replaced."""

import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from emotiond.errors import ConfigError, UnavailableError
from emotiond.spool.commit import Batch, store
from emotiond.spool.database import CorruptRecordError, SpoolFile, decode_record, is_damage, is_full
from emotiond.spool.memory import Memory
from emotiond.spool.place import claim
from emotiond.spool.queues import Entry, Queue
from emotiond.spool.repair import rebuild

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Disk:
    """The database and what memory has to know of it; everything needs `lock`.

    Attributes:
        lock: taken before memory's; held while the database works.
        file: the database, None while it cannot be opened.
        stored_bytes: size of all events in it.
        inherited: seq up to which events are an earlier run's.
    """

    def __init__(self, path: Path | None, memory: Memory) -> None:
        """Opens the database, or goes on from memory.

        Args:
            path: of it; None holds it in memory too.
            memory: learns what is in it.

        Raises:
            ConfigError: the file cannot be used.
            UnavailableError: the disk fails.
        """
        self.lock = threading.Lock()
        self.file: SpoolFile | None = None
        self.stored_bytes = 0
        self._path, self._memory = path, memory
        self._claim: int | None = None
        self._next_look = 0.0
        try:
            self._open()
        except ConfigError:
            self.close()
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.Error) and not (is_damage(error) or is_full(error)):
                self.close()
                raise UnavailableError(f"spool.path: {path} cannot be read ({error}); mend the disk, or name another "
                                       "file") from None
            self._fail(error)
        self.inherited = memory.seq

    def close(self) -> None:
        """Closes the file and gives it free for another process."""
        self._close_file()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def do(self, work: Callable[[SpoolFile], _T]) -> _T | None:
        """Returns what the work on the database returns, None where the disk fails."""
        try:
            return work(self.file) if self.file else None
        except sqlite3.Error as error:
            self._fail(error)
            return None

    def open_late(self) -> None:
        """Tries to open a file that could not be opened before."""
        if self.file is None:
            try:
                self._open()
            except (sqlite3.Error, OSError, ConfigError) as error:
                self._fail(error)

    def write(self, batch: Batch, max_bytes: int) -> bool:
        """Writes a batch wholly or not at all; returns whether it is on the disk."""
        queues = list(self._memory.queues.values())
        if not self.file:
            return False
        try:
            store(self.file, batch, queues, max_bytes - self.stored_bytes)
        except sqlite3.Error as error:
            self._fail(error)
            return False
        self.stored_bytes += batch.growth
        return True

    def read(self, queue: Queue, most: int) -> list[Entry]:
        """Returns the first of a stream's events that wait, with those that only memory has where the disk fails."""
        memory, position = self._memory, queue.position
        with memory.lock:
            if found := memory.read(queue, most):  # it came with a commit a moment ago
                return found
        rows = self.do(lambda file: file.after(position.number, position.acked, most))
        if rows is None and queue.last_stored > position.acked:
            return []  # what memory has must not overtake it
        entries: list[Entry] = []
        for seq, _, ms, n, captured_us, arrived, size, record in rows or ():
            try:
                fields = decode_record(record)
            except CorruptRecordError:
                with memory.lock:
                    memory.note_damaged(queue, seq, size)
            else:
                entries.append(Entry(
                    seq, (ms, n), fields, captured_us, arrived if seq > self.inherited else math.nan, size))
        with memory.lock:
            if memory.failing and len(rows or ()) < most:
                entries += memory.read_unstored(queue, most - len(entries))
            if entries:
                queue.sent = max(queue.sent, entries[-1].seq)
        return entries

    def count_waiting(self, queue: Queue) -> None:
        """Counts what waits of a stream where events were lost that the publisher had, and may have acknowledged."""
        position = queue.position
        if found := self.do(lambda file: file.count_after(position.number, position.acked)):
            with self._memory.lock:
                self._memory.set_waiting(queue, *found)
                queue.doubtful = False

    def look_up_oldest(self, every_seconds: float) -> None:
        """Notes the capture time of each stream's oldest event, where that was not done for so long."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + every_seconds
        for queue in list(self._memory.queues.values()):
            if not queue.position.waiting:
                queue.oldest_us = 0
                continue
            oldest = self.do(lambda file, p=queue.position: file.after(p.number, p.acked, 1))
            with self._memory.lock:
                queue.oldest_us = (oldest[0][4] if oldest else
                                   next((entry.captured_us for entry in self._memory.incoming.of(queue)), 0))

    def _close_file(self) -> None:
        if self.file:
            self.file.close()
            self.file = None

    def _open(self) -> None:
        if self._path and self._claim is None:
            self._claim = claim(self._path)
        file = SpoolFile(self._path)
        try:
            self._load(file)
        except BaseException:
            file.close()
            raise

    def _load(self, file: SpoolFile) -> None:
        """Takes a database over: its streams, and how much of each waits there."""
        found, stored, seq = file.positions(), file.bytes(), file.last_seq()
        memory = self._memory
        with memory.lock:
            memory.seq = max(memory.seq, seq)
            memory.take_over(found)
            for queue in memory.queues.values():
                memory.count_again(queue, *file.count_after(queue.position.number, queue.position.acked))
            self.file, self.stored_bytes = file, stored

    def _fail(self, error: Exception) -> None:
        """Goes on from memory until the disk takes events again, or with a new file in the place of a damaged one."""
        if isinstance(error, sqlite3.Error) and is_damage(error) and self._path:
            self._rebuild(self._path, error)
        else:
            self._note_failing(error)
        with self._memory.lock:
            self._memory.sendable.set()

    def _note_failing(self, error: Exception) -> None:
        if not self._memory.failing:
            log.error("events cannot be stored (%s) and are published from memory; see to the disk of spool.path",
                      error, extra={"path": str(self._path)})
        self._memory.failing = str(error)

    def _rebuild(self, path: Path, error: sqlite3.Error) -> None:
        self._close_file()
        with self._memory.lock:
            known = {name: replace(queue.position) for name, queue in self._memory.queues.items()}
        try:
            aside, count = rebuild(path, known, set(self._memory.damaged))
            self._memory.damaged.clear()
            self._open()
        except (sqlite3.Error, OSError, ConfigError) as second:
            self._note_failing(second)
        else:
            log.error("the spool is damaged (%s): it is set aside, and what can be read of it is in a new one", error,
                      extra={"path": str(path), "aside": str(aside), "events_read": count})

"""Copies faces into a database, each once: python to_sqlite.py REDIS_URL FILE. Any number may run side by side."""

import signal
import sqlite3
import sys

from emotiond.client import subscribe

TABLE = """CREATE TABLE IF NOT EXISTS faces (
    source TEXT, event TEXT, face INTEGER, time TEXT, stream TEXT, track INTEGER, emotion TEXT, confidence REAL,
    abstained INTEGER, PRIMARY KEY (source, event, face)) WITHOUT ROWID"""


def main(redis: str, file: str) -> None:
    """An event that comes again has the same id, and is in the table already."""
    database = sqlite3.connect(file, timeout=30)
    database.execute(TABLE)
    with subscribe(redis, group="sqlite", start="first") as events:
        signal.signal(signal.SIGTERM, lambda *_: events.close())
        for event in events:
            with database:      # committed before the next event is asked for, which is what acknowledges this one
                database.executemany("INSERT OR IGNORE INTO faces VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [
                    (event.source, event.id, index, event.time.isoformat(), event.stream, face.track_id, face.emotion,
                     face.confidence, face.abstained) for index, face in enumerate(event.faces)])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Spool and publisher as the daemon runs them, fed with numbered events instead of cameras; made to be killed.

What counts as produced is written to a file the moment it does, so that the judge knows it whatever happens next.
"""

import argparse
import os
import signal
import threading
import time
from pathlib import Path

import msgspec

from emotiond.config import RedisConfig
from emotiond.frames import FrameLedger
from emotiond.log import setup_logging
from emotiond.metrics import Metrics
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store

SOURCE = b"/emotiond/chaos"
PERIOD_SECONDS = 0.01


class Body(msgspec.Struct):
    """Which event this is: the run of the feeder, and its number there, counted for each stream."""

    run: int
    number: int
    filler: str = "x" * 400


class Counts:
    """Appends a line for each commit: run, stream, how many of its events are safe by now."""

    def __init__(self, file: Path, run: int) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._run = run
        self._safe: dict[str, int] = {}

    def produced(self, stream: str, events: int) -> None:
        self._safe[stream] = self._safe.get(stream, 0) + events
        os.write(self._file, f"{self._run} {stream} {self._safe[stream]}\n".encode())

    def lost(self, stream: str, reason: str, events: int) -> None:
        os.write(self._file, f"{self._run} {stream} lost {reason} {events}\n".encode())


def main() -> None:
    """Feeds until SIGTERM, then drains and ends with 0 where everything is in Redis."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=int)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1000, help="events a second over all streams")
    arguments = parser.parse_args()
    setup_logging("text", "info")
    told: list[int] = []    # an Event's lock may be held by the very wait that a signal interrupts
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    config = RedisConfig(url=arguments.url, maxlen=None, max_age=None)
    metrics = Metrics(FrameLedger(), ["happy"])
    spool = Spool(arguments.folder / "spool.db", 1 << 30, 120, Counts(arguments.folder / "produced", arguments.run))
    publisher = Publisher(Store(config, arguments.url), arguments.url, config, spool, metrics, "chaos")
    names = [f"stream{number}" for number in range(arguments.streams)]
    for name in names:
        spool.add_stream(name)
    threads = [threading.Thread(target=spool.run), threading.Thread(target=publisher.run)]
    for thread in threads:
        thread.start()
    feed(spool, names, arguments.run, arguments.rate, told)
    left = spool.drain(time.monotonic() + 120)      # however long Redis is away
    publisher.stop()
    spool.stop()
    for thread in threads:
        thread.join()
    spool.close()
    raise SystemExit(left > 0)


def feed(spool: Spool, names: list[str], run: int, rate: float, told: list[int]) -> None:
    """Puts numbered events, evenly over the streams, at a rate, until told to stop."""
    encode = msgspec.json.Encoder().encode
    number, begin = 0, time.monotonic()
    while not told:
        time.sleep(PERIOD_SECONDS)
        until = round((time.monotonic() - begin) * rate / len(names))
        while number < until:
            now_us = time.time_ns() // 1000
            for name in names:
                fields = {"specversion": b"1.0", "id": f"{name}/{run}/{number}".encode(), "source": SOURCE,
                          "subject": name.encode(), "data": encode(Body(run, number))}
                spool.put(name, fields, now_us, time.monotonic(), now_us)
            number += 1


if __name__ == "__main__":
    main()

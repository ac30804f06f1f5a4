"""A member of a consumer group as a program of its own, made to be killed: `python -m tests.support.subscriber`.

What it processed is in a file, a line for each event, synced to the disk before the next event is asked for.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from emotiond.client import subscribe
from tests.support.daemon import with_path
from tests.support.waiting import poll

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Processed:
    """A line of the file."""

    id: str
    redelivered: bool


class SubscriberProcess:
    """Runs from its making on.

    Args:
        url: of Redis.
        file: gets a line for each event.
        options: further arguments, as `main` takes them.
    """

    def __init__(self, url: str, file: Path, *options: str) -> None:
        self.file = file
        self.child = subprocess.Popen(
            [*with_path(), sys.executable, "-m", "tests.support.subscriber", url, str(file), *options], cwd=ROOT)

    def wait_for(self, events: int, deadline_s: float = 60) -> None:
        """Returns when the file has so many lines more."""
        before = len(read_file(self.file))

        def are_there() -> bool:
            assert self.child.poll() is None, f"the subscriber ended with {self.child.returncode}"
            return len(read_file(self.file)) >= before + events

        poll(are_there, deadline_s, "the subscriber gets no events", every_s=0.005)

    def kill(self) -> None:
        """Ends it at once."""
        self.child.kill()
        self.child.wait()

    def end(self) -> int:
        """Asks it to end and returns its exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(20)


def read_file(file: Path) -> list[Processed]:
    """Returns the whole lines, in order."""
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [Processed(event_id, redelivered == "1") for event_id, redelivered in map(str.split, lines)]


def main() -> None:
    """Processes events until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("file")
    parser.add_argument("--group", default="judged")
    parser.add_argument("--consumer")
    parser.add_argument("--reclaim-after", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=0, help="that an event takes")
    arguments = parser.parse_args()
    file = os.open(arguments.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with subscribe(arguments.url, group=arguments.group, consumer=arguments.consumer, start="first",
                   reclaim_after=arguments.reclaim_after) as events:
        signal.signal(signal.SIGTERM, lambda *_: events.close())
        for event in events:
            time.sleep(arguments.seconds)
            os.write(file, f"{event.id} {int(event.redelivered)}\n".encode())
            os.fsync(file)


if __name__ == "__main__":
    main()

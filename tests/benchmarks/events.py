"""How many events one core brings through the spool into Redis."""

import os

from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import Setting, run_alone, take_turns

TITLE = "Events"
ABOUT = """\
Events of one face (700 bytes with their attributes) put into the spool as fast as it and the publisher bring them
into Redis, in order and with Redis' reply for each. What puts them in, spool and publisher share one core; Redis
has another. Nothing else of the daemon runs."""
TABLE = "Spooled and published"
ROWS = {"20 streams, spool on the disk": ("--streams", 20, "--spool", "disk"),
        "20 streams, spool in memory": ("--streams", 20, "--spool", "memory"),
        "1 stream, spool on the disk": ("--streams", 1, "--spool", "disk")}


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures the way of events alone."""
    if len(os.sched_getaffinity(0)) < 2:
        sheet.lacks("Redis on a core of its own: this machine has one; it shares it with the daemon.")
    for row in take_turns(min(setting.rounds, 3), ROWS):
        with setting.redis() as url:      # an empty one each time
            run = run_alone("events", url, *ROWS[row], "--seconds", 3 if setting.quick else 10, cores=1)
        sheet.add(TABLE, row, "events", run["events"] / run["seconds"], "events/s")
        sheet.add(TABLE, row, "processor time an event", 1e6 * run["cpu"] / run["events"], "µs")
        sheet.add(TABLE, row, "of the core", 100 * run["cpu"] / run["seconds"], "%")

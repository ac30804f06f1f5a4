"""How soon the daemon is there."""

import subprocess
import sys
import time

from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import PORTRAIT, Setting, take_turns
from tests.conftest import PARTS
from tests.support.daemon import Daemon, with_path
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

TITLE = "Start"
ABOUT = "Whole commands by the clock, from the start of the process."
TABLE = "Seconds"
VERSION, FIRST = "`emotiond --version`", "`emotiond run` to the first event in Redis"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures two commands in turn."""
    rows = [VERSION, FIRST] if PARTS["redis-server"].found() else [VERSION]
    if FIRST not in rows:
        sheet.lacks(f"The first event: {PARTS['redis-server'].mend}.")
    for row in take_turns(setting.rounds, rows):
        sheet.add(TABLE, row, "time", version() if row == VERSION else first_event(setting), "s")


def version() -> float:
    """Returns seconds of a command that does next to nothing."""
    begin = time.monotonic()
    subprocess.run([*with_path(), sys.executable, "-m", "emotiond", "--version"], check=True, capture_output=True)
    return time.monotonic() - begin


def first_event(setting: Setting) -> float:
    """Returns seconds from starting the process to the first event that a subscriber sees."""
    with RedisServer(setting.folder / "redis") as server:
        folder = setting.folder / f"daemon-{time.monotonic_ns()}"
        daemon = Daemon(folder, {"clip": {"source": str(PORTRAIT)}}, server.url)
        begin = time.monotonic()
        with daemon:
            poll(lambda: server.client.xlen("emotions:clip") > 0, 60, "no event came", every_s=0.002)
            return time.monotonic() - begin

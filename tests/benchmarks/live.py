"""What the live page costs: `python -m tests.benchmarks.live CLIP [--streams 16] [--minutes 20]`.

Cameras are played by files at their own pace into one daemon, and a real Chromium has its page open. Printed are the
daemon's processor time without the page and with it, in turn; how late events are told; and then, while the page stays
open, its memory after collecting garbage and its nodes, once a minute.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.benchmarks.cameras import streams_of, write_cameras
from tests.chaos.figures import table
from tests.conftest import DATA
from tests.support.browser import Tab, open_browser
from tests.support.daemon import Daemon
from tests.support.live import watch
from tests.support.redis_server import RedisServer

FRAMES_A_SECOND = 5.0
ROUNDS = 5
ROUND_SECONDS = 20.0
WARM_SECONDS = 10.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", nargs="?", type=Path, default=DATA / "clips/one_woman_20s_360p.mp4")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--minutes", type=int, default=20, help="that the page is watched for its memory (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emotiond-live-") as name:
        folder = Path(name)
        files = write_cameras(arguments.clip, folder / "cameras", FRAMES_A_SECOND)
        streams = dict(streams_of(files, arguments.streams))
        with RedisServer(folder / "redis") as redis, Daemon(folder / "daemon", streams, redis.url) as daemon, \
                open_browser("--js-flags=--expose-gc") as browser:
            process = psutil.Process(daemon.child.pid)
            time.sleep(WARM_SECONDS)
            without, having = list[float](), list[float]()
            for _ in range(ROUNDS):
                without.append(share_of_a_core(process))
                tab = Tab(browser, f"http://127.0.0.1:{daemon.port}/", viewport={"width": 1280, "height": 900})
                having.append(share_of_a_core(process))
                tab.close()
            print(f"{arguments.streams} streams, {FRAMES_A_SECOND:g} frames a second each; % of one core, "
                  f"{ROUNDS} rounds of {ROUND_SECONDS:g} s in turn")
            print(f"without the page: {', '.join(f'{each:.1f}' for each in without)}; median {median(without):.1f}")
            print(f"with the page:    {', '.join(f'{each:.1f}' for each in having)}; median {median(having):.1f}")
            print("events are told after, s: " + ", ".join(f"{each:.2f}" for each in lateness(daemon.port)))
            watch_memory(Tab(browser, f"http://127.0.0.1:{daemon.port}/"), arguments.minutes)


def share_of_a_core(process: psutil.Process) -> float:
    """Returns what a process takes of one core, in %, over a round."""
    before, begin = process.cpu_times(), time.monotonic()
    time.sleep(ROUND_SECONDS)
    after = process.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / (time.monotonic() - begin)


def lateness(port: int) -> list[float]:
    """Returns median and maximum of the seconds from events to their messages."""
    with watch(port) as messages:
        next(messages)
        late = [time.time() - event[0] for message in itertools.islice(messages, 20) for event in message["events"]]
    return [median(late), max(late)]


def watch_memory(tab: Tab, minutes: int) -> None:
    """Prints what the page holds, once a minute."""
    session = tab.context.new_cdp_session(tab.page)
    rows: list[list[Any]] = []
    for minute in range(minutes + 1):
        session.send("HeapProfiler.collectGarbage")
        counts = session.send("Memory.getDOMCounters")
        heap = session.send("Runtime.getHeapUsage")["usedSize"]
        rows.append([minute, f"{heap / 1e6:.2f} MB", counts["nodes"], counts["jsEventListeners"]])
        if minute < minutes:
            tab.page.wait_for_timeout(60_000)
    print(table(["minute", "JavaScript's memory", "nodes", "listeners"], rows))
    print(f"errors of the page: {tab.errors or 'none'}")


if __name__ == "__main__":
    main()

"""What the spool alone costs: `python -m tests.benchmarks.spool --rate 1000 --seconds 30`.

Events with one face go in at a steady rate, and are taken out and acknowledged in batches as the publisher does, with
no Redis between. The processor's time of the same loop without a spool is taken off.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from emotiond.frames import FrameLedger
from emotiond.metrics import Metrics
from emotiond.publisher import BATCH
from emotiond.spool import Spool

FIELDS = {"specversion": b"1.0", "id": b"door/1760000000000000/123456", "source": b"/emotiond/box",
          "type": b"emotiond.frame.v1", "subject": b"door", "time": b"2026-01-31T12:00:00.000000Z",
          "datacontenttype": b"application/json", "data": b"x" * 480}
STREAMS = [f"camera-{number}" for number in range(20)]
TICK_S = 0.02


def run(path: Path | None, rate: int, seconds: float, keep: bool) -> tuple[float, int]:
    """Returns the processor's seconds of one run, and how many events went through.

    Args:
        path: the spool's file.
        rate: events a second.
        seconds: how long.
        keep: False for the loop alone.
    """
    spool = Spool(path, 1 << 30, 10.0, Metrics(FrameLedger(), ["happy"]))
    for stream in STREAMS:
        spool.add_stream(stream)
    threads = [threading.Thread(target=spool.run)] if keep else []
    for thread in threads:
        thread.start()
    begin, cpu, sent, through = time.monotonic(), time.process_time(), 0, 0
    while (now := time.monotonic()) - begin < seconds:
        while sent < rate * (now - begin):
            stamp = time.time_ns() // 1000
            if keep:
                spool.put(STREAMS[sent % len(STREAMS)], FIELDS, stamp, now, stamp)
            sent += 1
        for stream, entries in spool.pending(BATCH).items() if keep else ():
            spool.acknowledge(stream, entries)
            through += len(entries)
        time.sleep(TICK_S)
    cpu = time.process_time() - cpu
    spool.stop()
    for thread in threads:
        thread.join()
    spool.close()
    return cpu, through


def main() -> None:
    """Prints the share of a core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, _ = run(None, arguments.rate, arguments.seconds, keep=False)
        cpu, through = run(Path(folder) / "spool.db", arguments.rate, arguments.seconds, keep=True)
    print(f"{through} events in {arguments.seconds:.0f} s: {100 * cpu / arguments.seconds:.1f} % of a core, of which "
          f"the loop without a spool takes {100 * alone / arguments.seconds:.1f} %")


if __name__ == "__main__":
    main()

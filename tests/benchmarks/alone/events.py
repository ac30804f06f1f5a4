"""Events through spool and publisher into Redis, as fast as they go: `events URL --streams 20 --seconds 10`."""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

from emotiond.config import RedisConfig
from emotiond.frames import FrameLedger
from emotiond.malloc import configure_malloc
from emotiond.metrics import Metrics
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store
from tests.benchmarks.spool import FIELDS

MOST_WAITING = 20_000    # events that are put in before some must be out
PUT_AT_ONCE = 100


def main() -> None:
    """Prints events, seconds by the clock and of the processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--spool", choices=("disk", "memory"), default="disk")
    arguments = parser.parse_args()
    configure_malloc()
    names = [f"events-{arguments.spool}-{number}" for number in range(arguments.streams)]
    metrics = Metrics(FrameLedger(), ["happy"])
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.db" if arguments.spool == "disk" else None, 1 << 30, 60.0, metrics)
        for name in names:
            metrics.add_stream(name)
            spool.add_stream(name)
        config = RedisConfig.model_validate({"maxlen": None, "max_age": None})
        publisher = Publisher(Store(config, arguments.url), arguments.url, config, spool, metrics, "bench")
        threads = [threading.Thread(target=target) for target in (spool.run, publisher.run)]
        for thread in threads:
            thread.start()
        begin, cpu, put = time.monotonic(), time.process_time(), 0
        while time.monotonic() < begin + arguments.seconds:
            if spool.figures()[0] > MOST_WAITING:
                time.sleep(0.002)
                continue
            now, stamp = time.monotonic(), time.time_ns() // 1000
            for _ in range(PUT_AT_ONCE):
                spool.put(names[put % len(names)], FIELDS, stamp, now, stamp)
                put += 1
        left = publisher.drain(time.monotonic() + 60)
        seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
        publisher.stop()
        spool.stop()
        for thread in threads:
            thread.join()
        spool.close()
    assert not left, f"{left} events did not reach Redis"
    print(json.dumps({"events": put, "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main()

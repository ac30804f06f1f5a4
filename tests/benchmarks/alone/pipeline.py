"""The daemon's frames' way from files to Redis: `pipeline CLIP --url REDIS --workers 1 --streams 1`.

As `emotiond run` puts it together, without HTTP. The start and the first frames, which load models and fill caches, are
not measured.
"""

import argparse
import json
import os
import re
import tempfile
import threading
import time
from pathlib import Path

from emotiond.config_file import make_config
from emotiond.events import FrameEvent, frame_fields
from emotiond.frames import Frame
from emotiond.malloc import configure_malloc
from emotiond.pipeline import Pipeline
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store

LONGEST_S = 600.0


def main() -> None:
    """Prints frames, faces, seconds by the clock and of the processor, and the most memory in MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--warm", type=Path, required=True, help="a few frames of the same kind")
    parser.add_argument("--url", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--config", type=json.loads, default={}, metavar="JSON", help="of detector and classifier")
    parser.add_argument("--streams", type=int, default=1)
    arguments = parser.parse_args()
    configure_malloc()
    own = os.getpid()      # another of these may write into the same Redis
    warm, names = f"warm-{own}", [f"clip-{own}-{number}" for number in range(arguments.streams)]
    sources = {warm: arguments.warm, **dict.fromkeys(names, arguments.clip)}
    config = make_config({
        "streams": {name: {"source": str(source)} for name, source in sources.items()}, "publish_empty": True,
        **arguments.config,
        "redis": {"maxlen": None, "max_age": None},
        "compute": {"device": "cpu", "workers": arguments.workers}})
    faces = 0

    def emit(event: FrameEvent, frame: Frame) -> None:
        nonlocal faces
        faces += len(event.faces)
        fields = frame_fields(event, frame.captured_us, "bench")
        spool.put(event.stream, fields, frame.captured_us, frame.arrived, frame.arrived_us)

    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(config, emit, wait_for_room=lambda stopped: spool.wait_for_room(stopped))
        spool = Spool(Path(folder) / "spool.db", 1 << 30, 60.0, pipeline.metrics)
        publisher = Publisher(Store(config.redis, arguments.url), arguments.url, config.redis, spool,
                              pipeline.metrics, "bench")
        for name in sources:
            spool.add_stream(name)
            pipeline.add_stream(name, config.streams[name])
        pipeline.start()
        threads = [threading.Thread(target=target) for target in (spool.run, publisher.run)]
        for thread in threads:
            thread.start()

        def play(streams: list[str]) -> None:
            for thread in [pipeline.read(name) for name in streams]:
                thread.join()
            while not all(map(pipeline.has_stopped, streams)):
                time.sleep(0.002)

        play([warm])
        faces, begin, cpu = 0, time.monotonic(), time.process_time()
        play(names)
        left = publisher.drain(time.monotonic() + LONGEST_S)
        seconds, cpu = time.monotonic() - begin, time.process_time() - cpu
        counts = pipeline.ledger.snapshot()
        assert not left, f"{left} events did not reach Redis"
        assert not any(counts[name].read - counts[name].analyzed for name in names), "frames were lost"
        alive = pipeline.finish(time.monotonic() + 10)
        publisher.stop()
        spool.stop()
        for thread in threads:
            thread.join()
        spool.close()
        assert not alive, f"{alive} still run"
    print(json.dumps({
        "frames": sum(counts[name].analyzed for name in names), "faces": faces, "seconds": seconds, "cpu": cpu,
        "megabytes": most_memory()}))


def most_memory() -> float:
    """Returns the most resident memory so far in MB; getrusage's would hold what the parent had before exec."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


if __name__ == "__main__":
    main()

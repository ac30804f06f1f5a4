"""Each stage of a frame's way alone, with the daemon's own functions: `stages CLIP REDIS_URL`.

One stage goes over all frames before the next one begins, so no stage's time holds another's. What comes out of a stage
is made a second time for the next one where keeping it would cost time of its own.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from emotiond.analyzer import Analysis, Analyzer, crop_faces
from emotiond.config import Config
from emotiond.config_file import make_config
from emotiond.events import FrameEvent, frame_fields
from emotiond.frames import Frame, FrameGroup, Ticket
from emotiond.malloc import configure_malloc
from emotiond.opening import open_source
from emotiond.picture import Picture, Scalers
from emotiond.pipeline import CPU_BATCH, Pipeline, load_models
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store

EVENTS_A_SECOND = 100      # about what one core analyses
MOST_EVENTS = 150
WARM = 4

T = TypeVar("T")

Entry = tuple[dict[str, bytes], Frame]


def pictures(config: Config) -> Iterator[Picture]:
    """Yields the decoded pictures of the clip."""
    source = open_source(config.streams["clip"])
    try:
        for decoded in source.frames():
            yield Picture(decoded.frame, source.pixel_aspect)
    finally:
        source.close()


def make_ticket(index: int, picture: Picture) -> Ticket:
    """Returns a frame that is searched whole."""
    captured_us = 1_700_000_000_000_000 + index * 40_000
    return Ticket(Frame("clip", index, index / 25, captured_us, "file", 0.0, None, picture), index, FrameGroup())


def milliseconds(work: Callable[[], T], count: int) -> tuple[float, T]:
    """Returns this thread's processor time for each of so many frames, in ms, and what came of it."""
    begin = time.thread_time()
    made = work()
    return 1000 * (time.thread_time() - begin) / count, made


def publish(config: Config, pipeline: Pipeline, entries: list[Entry], url: str) -> float:
    """Returns the processor's ms for an event from the spool to Redis' reply, at a steady rate, all threads."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "spool.db", 1 << 30, 60.0, pipeline.metrics)
        spool.add_stream("clip")
        publisher = Publisher(Store(config.redis, url), url, config.redis, spool, pipeline.metrics, "bench")
        threads = [threading.Thread(target=target) for target in (spool.run, publisher.run)]
        for thread in threads:
            thread.start()
        cpu = 0.0
        for count, (fields, frame) in enumerate(entries):
            if count == WARM:
                cpu = time.process_time()
            spool.put("clip", fields, time.time_ns() // 1000, frame.arrived, None)
            time.sleep(1 / EVENTS_A_SECOND)
        cpu = time.process_time() - cpu
        assert not publisher.drain(time.monotonic() + 10), "events did not reach Redis"
        publisher.stop()
        spool.stop()
        for thread in threads:
            thread.join()
        spool.close()
    return 1000 * cpu / (len(entries) - WARM)


def main() -> None:
    """Prints ms a frame of each stage, and faces a frame."""
    configure_malloc()
    clip, url = sys.argv[1:]
    config = make_config({"streams": {"clip": {"source": clip}}, "compute": {"device": "cpu", "workers": 1}})
    entries: list[Entry] = []

    def emit(event: FrameEvent, frame: Frame) -> None:
        entries.append((frame_fields(event, frame.captured_us, "bench"), frame))

    pipeline, scalers = Pipeline(config, emit), Scalers()
    pipeline.add_stream("clip", config.streams["clip"])
    detector, classifier = load_models(config, "cpu")
    analyzer = Analyzer(detector, classifier, config.detector, config.streams, pipeline.metrics)
    kept, spec = list(pictures(config)), classifier.info.input
    count = len(kept)
    tickets = [make_ticket(index, picture) for index, picture in enumerate(kept)]

    def crop() -> list[NDArray[np.uint8]]:
        return [crop_faces(picture, scalers, found.boxes, spec) for picture, found in zip(kept, faces, strict=True)]

    def classify() -> list[NDArray[np.float32]]:
        """As an analyzer does with files: the faces of several frames at once."""
        seen: list[NDArray[np.float32]] = []
        for begin in range(0, count, CPU_BATCH):
            part = crops[begin:begin + CPU_BATCH]
            ends = np.cumsum([len(faces) for faces in part])
            stacked = np.concatenate(part)
            seen += np.split(classifier.classify(stacked) if len(stacked) else none, ends[:-1])
        return seen

    def deliver() -> None:
        for ticket, found, seen in zip(tickets, faces, probabilities, strict=True):
            pipeline.ledger.read("clip")
            pipeline._deliver(Analysis(ticket, found.boxes, found.scores, seen, np.zeros(len(seen), np.bool_)))

    times = {"decode": milliseconds(lambda: [None for _ in pictures(config)], count)[0]}
    searches = [analyzer._prepare(ticket) for ticket in tickets]
    times["scale"] = milliseconds(lambda: [None for ticket in tickets if not analyzer._prepare(ticket)], count)[0]
    ready = iter(searches[:WARM] + searches)
    analyzer._prepare = lambda ticket: next(ready)      # what was scaled is taken as it is
    analyzer._search(tickets[:1] * min(WARM, count))
    times["detect"], faces = milliseconds(lambda: [analyzer._search([ticket])[0].faces for ticket in tickets], count)
    crops = crop()
    times["crop"] = milliseconds(crop, count)[0]
    classifier.classify(np.concatenate(crops[:WARM]))
    none = np.zeros((0, len(classifier.info.labels)), np.float32)
    times["classify"], probabilities = milliseconds(classify, count)
    times["encode"] = milliseconds(deliver, count)[0]
    times["publish"] = publish(config, pipeline, entries[:MOST_EVENTS], url) * len(entries) / count
    print(json.dumps({**times, "faces": sum(len(found.scores) for found in faces) / count, "frames": count}))


if __name__ == "__main__":
    main()

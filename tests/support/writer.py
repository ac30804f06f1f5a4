"""Events that the daemon's own spool and publisher bring to Redis, without cameras."""

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from emotiond.config import RedisConfig
from emotiond.events import Box, Face, FrameEvent, Smoothed, StatusEvent, frame_fields
from emotiond.frames import FrameLedger
from emotiond.metrics import Metrics
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store
from tests.support.waiting import poll

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


class Writer:
    """Publishes frames with one face each, from entering to leaving.

    Attributes:
        ids: of all events that were put, in order.
    """

    def __init__(self, url: str) -> None:
        config = RedisConfig(url=url, maxlen=None, max_age=None)
        self.ids: list[str] = []
        self._metrics = Metrics(FrameLedger(), EMOTIONS)
        self._spool = Spool(None, 1 << 30, 60, self._metrics)
        self._publisher = Publisher(Store(config, url), url, config, self._spool, self._metrics, "test")
        self._threads = [threading.Thread(target=self._spool.run), threading.Thread(target=self._publisher.run)]
        self._frames: dict[str, int] = {}
        self._steady = threading.Event()

    def put(
        self, stream: str, frames: int = 1, *, emotion: str = "happy", at_us: int | None = None, apart_us: int = 0,
        abstained: bool = False,
    ) -> list[str]:
        """Puts events into the spool and returns their ids; captured now, or from `at_us` on, so far apart.

        Whether Redis is there or not: it gets them in order, each once.
        """
        if stream not in self._frames:
            self._spool.add_stream(stream)
            self._metrics.add_stream(stream)
        ids: list[str] = []
        for number in range(frames):
            frame = self._frames[stream] = self._frames.get(stream, -1) + 1
            captured_us = time.time_ns() // 1000 if at_us is None else at_us + number * apart_us
            face = Face(1, Box(10, 20, 96, 121), 0.9, emotion, 0.8, {name: float(name == emotion) for name in EMOTIONS},
                        Smoothed(emotion, 0.8), abstained)
            event = FrameEvent(stream, frame, frame / 10, "arrival", 640, 360, {}, [face], "emotionnet-test")
            fields = frame_fields(event, captured_us, "test")
            self._spool.put(stream, fields, captured_us, time.monotonic(), captured_us)
            ids.append(f"{stream}/{captured_us}/{frame}")
        self.ids += ids
        return ids

    def say(self, kind: str, event: StatusEvent) -> None:
        """Publishes an event of the status key."""
        self._publisher.publish_status(kind, event)

    def wait(self) -> None:
        """Returns when Redis has everything."""
        poll(lambda: not self._spool.figures()[0] and self._publisher.drain(time.monotonic()) == 0, 60,
             lambda: f"events wait: {self._publisher.error}")

    def keep_on(self, *streams: str, rate: float = 200) -> None:
        """Puts events, so many a second over all streams, until `rest` or the end."""
        def feed() -> None:
            begin, number = time.monotonic(), 0
            while not self._steady.wait(0.01):
                while number < (time.monotonic() - begin) * rate:
                    self.put(streams[number % len(streams)])
                    number += 1

        self._steady.clear()
        self._threads.append(threading.Thread(target=feed))
        self._threads[-1].start()

    def rest(self) -> None:
        """Ends what `keep_on` began, and returns when Redis has everything."""
        self._steady.set()
        self._threads.pop().join()
        self.wait()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steady.set()
        with contextlib.suppress(IndexError):
            for thread in self._threads[2:]:
                thread.join()
        self._publisher.stop()
        self._spool.stop()
        for thread in self._threads[:2]:
            thread.join(10)
        self._spool.close()

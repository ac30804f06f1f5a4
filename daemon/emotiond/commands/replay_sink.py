"""Where a replay's events go: a file, Redis, the other outputs, and the figures of its report."""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import redis.exceptions

from emotiond.commands.replay_report import Result
from emotiond.config import Config
from emotiond.crew import Crew
from emotiond.embedded import embedded_valkey
from emotiond.errors import UnavailableError
from emotiond.events import AggregateEvent, FrameEvent, aggregate_fields, frame_fields, to_json_line
from emotiond.frames import Frame
from emotiond.outputs.files import is_special, not_written
from emotiond.outputs.outputs import Outputs
from emotiond.palette import shown_emotion
from emotiond.pipeline import Pipeline
from emotiond.privacy import Moment
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from emotiond.store import Store, describe
from emotiond.stream import StreamReader

SPOOL_BYTES = 64 << 20   # of events that wait in memory for Redis; the readers wait when it is full
PATIENCE_SECONDS = 30.0  # without progress, before Redis counts as gone at the end


class Sink:
    """Takes the events: counts them, writes them as JSON lines, hands them to Redis.

    Attributes:
        result: of the source that is being replayed.
        keep_events: whether its events are kept in the result.
        failure: why events can no longer be written; None while they can.
        crew: the publisher's thread.
    """

    def __init__(self, stack: contextlib.ExitStack, config: Config, events: Path | None, outputs: Outputs) -> None:
        """Prepares the file of events, `-` for stdout; a file is opened with the first frame, and loses nothing before.

        Args:
            stack: closes what is opened.
            config: the configuration; frames without a face are events only where it says so.
            events: the file.
            outputs: take every frame too.

        Raises:
            CommandError: a pipe or device cannot be opened.
        """
        self._config, self._events, self._outputs = config, events, outputs
        self._file: BinaryIO | None = None
        self.failure: OSError | None = None
        self.crew = Crew()
        self._spool: Spool | None = None
        self._publisher: Publisher | None = None
        self.result = Result("", "")
        self.keep_events = False
        self._start_us: int | None = None
        stack.callback(self._close)
        if events and (str(events) == "-" or is_special(events)):
            self._open()
        if events and self.failure:
            raise not_written(events, self.failure)

    def _open(self) -> None:
        if self._events and not self._file and not self.failure:
            try:
                self._file = sys.stdout.buffer if str(self._events) == "-" else self._events.open("wb")
            except OSError as error:
                self.failure = error

    def connect(self, stack: contextlib.ExitStack, pipeline: Pipeline) -> None:
        """Starts publishing, where a Redis is given."""
        url = self._config.redis.url
        if url is None:
            return
        if url == "embedded":
            url = stack.enter_context(embedded_valkey())
        store = Store(self._config.redis, url)
        try:
            store.ping()
        except (redis.exceptions.RedisError, OSError) as error:
            raise UnavailableError(describe(error, url)) from None
        self._spool = Spool(None, SPOOL_BYTES, self._config.spool.keep_acknowledged, pipeline.metrics)
        self._publisher = Publisher(store, url, self._config.redis, self._spool, pipeline.metrics,
                                    self._config.instance)
        self.crew.start("spool", self._spool.run)
        self.crew.start("publisher", self._publisher.run)
        stack.callback(lambda: self.crew.join(time.monotonic() + PATIENCE_SECONDS))
        stack.callback(self._spool.stop)
        stack.callback(self._publisher.stop)

    def begin(self, reader: StreamReader, result: Result, keep_events: bool) -> None:
        """Events are of this stream from now on."""
        self.result, self.keep_events, self._start_us = result, keep_events, None
        self._outputs.begin(reader.name)
        if self._spool:
            self._spool.add_stream(reader.name)

    def emit(self, event: FrameEvent, frame: Frame) -> None:
        """Takes the event of an analysed frame, with a face or without."""
        self._open()
        self._start_us = frame.captured_us if self._start_us is None else self._start_us
        self.result.tracks.see(event.faces, max(frame.captured_us - self._start_us, 0))
        if event.faces or self._config.publish_empty:
            self._pass_on(event, frame)
        self._outputs.take(event, frame)

    def _pass_on(self, event: FrameEvent, frame: Frame) -> None:
        result = self.result
        result.with_face += bool(event.faces)
        result.faces += len(event.faces)
        result.abstained += sum(face.abstained for face in event.faces)
        result.emotions.update(emotion for emotion in map(shown_emotion, event.faces) if emotion)
        if self.keep_events:
            result.events.append(event)
        self._write(event.stream, frame_fields(event, frame.captured_us, self._config.instance), frame)

    def emit_aggregate(self, event: AggregateEvent, last: Moment) -> None:
        """Takes the event of a window, under `privacy.mode: aggregate`."""
        self._open()
        self._write(event.stream, aggregate_fields(event, last.captured_us, last.index, self._config.instance), last)

    def _write(self, stream: str, fields: dict[str, bytes], of: Frame | Moment) -> None:
        if self._file and not self.failure:
            try:
                self._file.write(to_json_line(fields))
            except OSError as error:
                self.failure = error
        if self._spool:
            self._spool.put(stream, fields, of.captured_us, of.arrived, of.arrived_us)

    def wait_for_room(self, stopped: Callable[[], bool]) -> None:
        """Holds the reader back while Redis does not take the events."""
        if self._spool:
            self._spool.wait_for_room(stopped)

    def drain(self, has_read: bool) -> None:
        """Waits until all is written, and in Redis.

        Args:
            has_read: whether there was a frame; the file is there then, also without an event.

        Raises:
            CommandError: the file of events cannot be written.
            BrokenPipeError: who read the events went away.
            UnavailableError: Redis went away and did not come back.
        """
        if has_read:
            self._open()
        if self._file and not self.failure:
            try:
                self._file.flush()
            except OSError as error:
                self.failure = error
        if self.failure:
            if isinstance(self.failure, BrokenPipeError) or not self._events:
                raise self.failure
            raise not_written(self._events, self.failure)
        if self._spool and self._publisher:
            left = self._spool.figures()[0]
            while left:
                now = self._publisher.drain(time.monotonic() + PATIENCE_SECONDS)
                if now >= left:
                    reason = self._publisher.error or "Redis is slow"
                    raise UnavailableError(f"{now} events were not delivered: {reason}")
                left = now

    def _close(self) -> None:
        if self._file and self._file is not sys.stdout.buffer:
            with contextlib.suppress(OSError):  # flushing again what `drain` could not write
                self._file.close()

"""One stream's reader: opens its source, hands frames on, and owns reconnecting."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from emotiond.config import StreamConfig
from emotiond.config_values import kind_of
from emotiond.events import DOWN_TYPE, ENDED_TYPE, LAST_US, UP_TYPE, StatusEvent
from emotiond.frames import Drop, Frame, FrameBuffers, FrameLedger
from emotiond.metrics import Metrics
from emotiond.opening import MAX_PIXELS, OpenError, open_source
from emotiond.picture import Picture
from emotiond.source import Decoded, EndedError, Source, SourceCounts

BACKOFF_FIRST, BACKOFF_FACTOR, BACKOFF_MOST = 1.0, 1.5, 60.0
REFUSED_SECONDS = 30.0  # a wrong password or path does not mend itself soon, and cameras lock accounts
LONGEST_PAUSE = 10.0    # seconds between two frames of a file that is played at a pace
_FALLBACK_RATE = 25.0   # frames a second of a file that does not say

StopReason = Literal["removed", "changed"]
_STOPPED: dict[StopReason, str] = {
    "removed": "it is in the configuration no more", "changed": "its configuration is another now"}

log = logging.getLogger(__name__)

PublishStatus = Callable[[str, StatusEvent], None]
WaitForRoom = Callable[[Callable[[], bool]], None]  # takes what tells it to stop waiting


class State(StrEnum):
    """What a stream is doing."""

    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"
    BACKOFF = "backoff"
    AUTH_FAILED = "auth_failed"
    NOT_FOUND = "not_found"
    ENDED = "ended"


class Backoff:
    """Seconds between tries: 1 to 60, growing by half each time, with a fifth of jitter to either side.

    The next wait is about a third of the outage so far, so a short outage costs a short wait.
    """

    def __init__(self) -> None:
        self._next = BACKOFF_FIRST

    def next(self) -> float:
        """Returns how long to wait now."""
        wait, self._next = self._next, min(self._next * BACKOFF_FACTOR, BACKOFF_MOST)
        return wait * random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """A connection worked: begin anew."""
        self._next = BACKOFF_FIRST


@dataclass(frozen=True)
class Playback:
    """How a file is played.

    Attributes:
        speed: pace against its own times; infinite is as fast as it can be analysed.
        start_us: capture time of its first frame in microseconds since the epoch; now by default.
        once: whether its end is the stream's end.
    """

    speed: float = math.inf
    start_us: int | None = None
    once: bool = True


class StreamReader:
    """Reads one stream until it ends or `stop` is set; `run` is a thread's whole life.

    Attributes:
        live: whether it drops frames and reconnects; known for sure once an http source is open.
        state: what it is doing now.
        error: why it does not run, in words without secrets; None while it runs.
        failed: a file that could not be opened, or broke off.
        decode_errors: packets not decoded, and frames that came out damaged, so far.
        source: the source while it is open.
    """

    def __init__(
        self, name: str, config: StreamConfig, *, buffers: FrameBuffers, ledger: FrameLedger, metrics: Metrics,
        publish_status: PublishStatus, wait_for_room: WaitForRoom, playback: Playback | None = None,
        device: Callable[[], str] = lambda: "cpu",
    ) -> None:
        """Prepares the reader.

        Args:
            name: the stream's name.
            config: its configuration.
            buffers: get the frames.
            ledger: counts them.
            metrics: get the rest.
            publish_status: gets the events of the stream's life.
            wait_for_room: called before each frame of a source that is not live.
            playback: how to play a file or a test pattern; by default a camera's part is played for ever at its
                own pace, and others once, as fast as they can be analysed.
            device: tells what runs the networks; a GPU decodes too.
        """
        self.name, self.config = name, config
        self.state, self.error, self.failed = State.CONNECTING, None, False
        self.decode_errors = 0
        self.source: Source | None = None
        self._opened = False
        self._buffers, self._ledger, self._metrics = buffers, ledger, metrics
        self._publish_status, self._wait_for_room, self._device = publish_status, wait_for_room, device
        self._stop = threading.Event()
        kind = kind_of(config.source)
        self._is_file = kind == "file"
        self.live = config.live if config.live != "auto" else not self._is_file
        self._playback = playback or Playback(
            speed=1.0 if self.live and kind in ("file", "lavfi") else math.inf, once=not self.live)
        self._backoff = Backoff()
        self._up: bool | None = None
        self._next_due = float("-inf")
        buffers.add_stream(name, self.live)
        self._index = ledger.add_stream(name)  # another reader may have had the stream before
        metrics.add_stream(name)

    def run(self) -> None:
        """Reads, reconnects, and returns when a file ended or `stop` was called."""
        while not self._stop.is_set():
            self._set_state(State.CONNECTING)
            try:
                source = open_source(self.config, self._device())
            except OpenError as error:
                self._metrics.connects.labels(self.name, error.outcome).inc()
                if not self._wait_to_reopen(error.outcome, str(error)):
                    return
                continue
            self._metrics.connects.labels(self.name, "ok").inc()
            ended = self._read_until_end(source)
            if ended is None:
                if not self._stop.is_set():
                    self._end(None)
                return
            self._metrics.reconnects.labels(self.name, ended.reason).inc()
            if ended.reason == "eof" and self._is_file and not self._playback.once:
                continue  # a file that plays a camera begins anew
            if not self._wait_to_reopen(ended.reason, str(ended)):
                return

    def stop(self) -> None:
        """Ends `run`, as soon as what it does just now lets it."""
        self._stop.set()

    def tell_why_stopped(self, reason: StopReason) -> None:
        """Tells subscribers why `run` was stopped, where they would wait for the stream otherwise."""
        if reason == "removed" and self.state is not State.ENDED:
            self._set_state(State.ENDED)
            self._publish_status(ENDED_TYPE, StatusEvent(self.name, reason, _STOPPED[reason]))
        elif reason == "changed" and self._up:
            self._publish_status(DOWN_TYPE, StatusEvent(self.name, reason, _STOPPED[reason]))
        log.info("stream %s: %s", reason, _STOPPED[reason], extra={"stream": self.name})

    def _read_until_end(self, source: Source) -> EndedError | None:
        """Reads a source and closes it; returns why it ended early, None where it came to its end or was stopped."""
        self.source, self.live, self._opened = source, source.live, True
        self._buffers.set_live(self.name, source.live)
        try:
            self._read(source)
        except EndedError as error:
            return error
        finally:
            self._count(source.counts)
            self.source = None
            source.close()
        return None

    def _read(self, source: Source) -> None:
        speed, start_us = self._playback.speed, self._playback.start_us
        start_us = time.time_ns() // 1000 if start_us is None else start_us
        begin, first_pts = time.monotonic(), None
        for decoded in source.frames(self._stop.is_set):
            self._count(source.counts)
            self._metrics.stage["decode"].observe(decoded.decode_seconds)
            if self.state is not State.RUNNING:
                self._note_up(source, on_gpu=decoded.frame.format.name == "cuda")
            seconds = decoded.pts if decoded.pts is not None else self._index / (source.rate or _FALLBACK_RATE)
            first_pts = seconds if first_pts is None else first_pts
            since_start = seconds - first_pts
            if speed < math.inf:
                pause = begin + since_start / speed - time.monotonic()
                if pause > LONGEST_PAUSE:  # the file's times jump
                    begin, pause = begin - pause, 0.0
                self._stop.wait(max(pause, 0.0))
            self._hand_on(decoded, source, start_us + round(since_start * 1_000_000))

    def _hand_on(self, decoded: Decoded, source: Source, file_us: int) -> None:
        if not source.live:
            self._wait_for_room(self._stop.is_set)
        self._ledger.read(self.name)
        index, self._index = self._index, self._index + 1
        arrived, arrived_us, clock = decoded.arrived, decoded.arrived_us, decoded.clock
        captured_us = file_us if decoded.captured_us is None else decoded.captured_us
        if not 0 <= captured_us <= LAST_US:  # times that cannot be
            captured_us, clock = arrived_us, "arrival"
        if self._playback.speed < math.inf:  # a paced file's frame arrives when its time has come
            arrived, arrived_us = time.monotonic(), time.time_ns() // 1000
            captured_us = arrived_us if clock == "arrival" else captured_us
        self._metrics.last_frame.labels(self.name).set(arrived_us / 1_000_000)
        picture = Picture(decoded.frame, source.pixel_aspect)
        if picture.width * picture.height > MAX_PIXELS:
            self._ledger.dropped(self.name, Drop.TOO_LARGE)
        elif self.config.max_fps and not self._is_due(captured_us / 1_000_000, self.config.max_fps):
            self._ledger.dropped(self.name, Drop.MAX_FPS)
        else:
            self._buffers.put(Frame(
                self.name, index, decoded.pts, captured_us, clock, arrived,
                arrived_us if source.live else None, picture))

    def _is_due(self, seconds: float, rate: float) -> bool:
        """Lets `rate` frames a second pass on average, also when the source's rate is no multiple of it."""
        if not self._next_due - 1 / rate <= seconds:  # the clock went back
            self._next_due = seconds
        if seconds < self._next_due - 1e-3:
            return False
        self._next_due = max(self._next_due + 1 / rate, seconds)
        return True

    def _count(self, counts: SourceCounts) -> None:
        self._metrics.bytes_read.labels(self.name).inc(counts.bytes)
        self._metrics.decode_errors.labels(self.name).inc(counts.decode_errors)
        self.decode_errors += counts.decode_errors
        counts.bytes = counts.decode_errors = 0

    def _note_up(self, source: Source, *, on_gpu: bool) -> None:
        was_up, self._up, self.error = self._up, True, None
        self._backoff.reset()
        self._set_state(State.RUNNING)
        if was_up:  # a file that plays a camera began anew
            return
        decoder = {"decoder": "gpu" if on_gpu else "software"} if self._device().startswith("cuda") else {}
        log.info("stream is up", extra={"stream": self.name, "codec": source.codec,
                                        "size": f"{source.size[0]}x{source.size[1]}", **decoder})
        self._publish_status(UP_TYPE, StatusEvent(self.name))

    def _wait_to_reopen(self, reason: str, text: str) -> bool:
        """Reports the failure and waits; a file is not tried again. Returns whether to go on."""
        if self._playback.once or (self._opened and not self.live):
            self.failed = reason != "eof"
            self._end(text if self.failed else None)
            return False
        if self._up is not False or text != self.error:
            log.warning("stream is down: %s", text, extra={"stream": self.name, "reason": reason})
            self._publish_status(DOWN_TYPE, StatusEvent(self.name, reason, text))
        self._up, self.error = False, text
        states = {"auth": State.AUTH_FAILED, "not_found": State.NOT_FOUND, "stall": State.STALLED}
        self._set_state(states.get(reason, State.BACKOFF))
        slow = self.state in (State.AUTH_FAILED, State.NOT_FOUND) and kind_of(self.config.source) != "device"
        wait = REFUSED_SECONDS if slow else self._backoff.next()
        return not self._stop.wait(wait)

    def _end(self, text: str | None) -> None:
        self.error, self._up = text, False
        self._set_state(State.ENDED)
        if text:
            log.error("stream failed: %s", text, extra={"stream": self.name})
        else:
            log.info("stream ended", extra={"stream": self.name, "frames": self._index})
        self._publish_status(ENDED_TYPE, StatusEvent(self.name, "error" if text else "eof", text))

    def _set_state(self, state: State) -> None:
        self.state = state
        self._metrics.set_state(self.name, state)

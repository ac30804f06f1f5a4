"""The service: starts everything, waits for a signal or a failure, and stops front to back."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType

from emotiond import __version__
from emotiond.config import Config
from emotiond.crew import Crew
from emotiond.errors import UnavailableError
from emotiond.events import HEARTBEAT_TYPE, AggregateEvent, FrameEvent, StatusEvent, aggregate_fields, frame_fields
from emotiond.fleet import Fleet
from emotiond.frames import Drop, Frame
from emotiond.live.board import Board
from emotiond.live.pages import LivePages
from emotiond.live.preview import Preview
from emotiond.malloc import configure_malloc, trim_malloc
from emotiond.metrics import Gauges
from emotiond.pipeline import Pipeline
from emotiond.privacy import RESPONSIBLE_USE, Moment
from emotiond.publisher import Publisher
from emotiond.redact import redact
from emotiond.reload import Changes, FileWatch, Reloader
from emotiond.shard import own_streams
from emotiond.spool import Spool
from emotiond.store import Store
from emotiond.stream import Playback
from emotiond.timeline import abstain_below
from emotiond.watchdog import Progress, ServiceManager
from emotiond.web import WebServer, join_address

HEARTBEAT_SECONDS = 10.0
TICK_SECONDS = 0.1
RELOAD_SECONDS = 20.0    # how long POST /-/reload waits, for the models to be loaded, say
TRIM_SECONDS = 10.0      # how often freed memory is given back
WATCH_SECONDS = 2.0      # how often the configuration file is looked at, where it is to be
LOOK_SECONDS = 1.0       # how often the parts are looked at for progress
STOP_SECONDS = 20.0      # for the whole shutdown; a service manager's patience is usually 30 s or more
_READ_SHARE = 0.3        # of it, until readers are left to themselves (opening a camera takes up to 5 s)
_DRAIN_SHARE = 0.3       # of it, until frames not analysed yet are dropped

log = logging.getLogger(__name__)


class Service:
    """A running daemon.

    Attributes:
        port: where HTTP listens.
        pipeline: its frames' way.
        publisher: its way to Redis.
        spool: the events between the two.
    """

    def __init__(
        self, config: Config, url: str, playback: Playback | None = None, load: Callable[..., Config] | None = None,
        watch: FileWatch | None = None,
    ) -> None:
        """Puts the parts together; nothing is loaded and nothing runs yet.

        Args:
            config: the configuration.
            url: of Redis, with `embedded` resolved.
            playback: how to play files, where not as they would by default.
            load: reads the configuration anew, as `load_checked_config`; without it, SIGHUP stops the daemon.
            watch: tells when what it reads has changed, where that alone is to have it read.

        Raises:
            ConfigError: it cannot start.
        """
        self._config = config
        self._stopping = False  # a plain flag: a signal's handler must not touch a lock
        self._crew = Crew()
        self._models_loaded = self._published = False
        self.web: WebServer | None = None
        self.pipeline = Pipeline(config, self._emit, self._publish_status, self._wait_for_room,
                                 self._emit_aggregate)
        self._board = Board(config, self.pipeline, self.not_ready)
        self.spool = Spool(config.spool.file, config.spool.max_bytes, config.spool.keep_acknowledged,
                           self.pipeline.metrics)
        self.publisher = Publisher(Store(config.redis, url), url, config.redis, self.spool,
                                   self.pipeline.metrics, config.instance)
        self.pipeline.metrics.read_gauges = self._gauges
        self._progress = Progress({
            "the analyzers": self._analyzing, "the publisher": lambda: (True, self.publisher.rounds),
            "the spool": lambda: (True, self.spool.commits)})
        self._manager = ServiceManager()
        self._stuck: str | None = None
        self._reloader = Reloader(config, load, self.pipeline, self.spool) if load else None
        self._watch = watch
        self._fleet = Fleet(self._streams_file, lambda added: load and load(added), self._reload)
        own = own_streams(config.streams, config.shard)
        self.pipeline.metrics.set_shard(config.shard.index, config.shard.count)
        self.pipeline.metrics.set_assigned({name: name in own for name in config.streams})
        for name, stream in own.items():
            self.pipeline.add_stream(name, stream, playback)
            self.spool.add_stream(name)

    def run(self) -> bool:
        """Runs until a signal or `stop`; returns whether it ended well. Must be called in the main thread."""
        configure_malloc()
        with _signals(self._on_signal):
            self.start()
            self._main_loop()
            return self.shut_down()

    def stop(self) -> None:
        """Asks `run` to end; callable from any thread and from a signal's handler."""
        self._stopping = True

    def not_ready(self) -> str | None:
        """Returns why /readyz says no, None when it says yes."""
        if self._stopping:
            return "stopping"
        if self._failure():
            return "a thread died"
        if not self._models_loaded:
            return "loading the models"
        if not self._published:
            return self.publisher.error or "waiting for Redis"
        return None

    def start(self) -> None:
        """Starts HTTP, loads the models, starts publisher, analyzers and readers, and returns.

        Raises:
            UnavailableError: the port cannot be had, or the device is not there.
            ConfigError: device or weights are not usable.
        """
        self.web = WebServer(self._config.http, self.pipeline.metrics.registry, self.not_ready, self._not_healthy,
                             self._streams, self._reload, self._fleet,
                             LivePages(self._board, Preview(self._board, blur=self._config.privacy.blur_preview)))
        self._crew.start("http", self.web.run)
        try:
            self.pipeline.start()
        except BaseException:
            self.web.close()
            raise
        self._models_loaded = True
        self._crew.start("spool", self.spool.run)
        self._crew.start("publisher", self.publisher.run)
        for name in self.pipeline.readers:
            self.pipeline.read(name)
        shard, purpose = self._config.shard, self._config.responsible_use.purpose
        for line in RESPONSIBLE_USE if purpose is None else ():
            log.warning("%s", line)
        log.info("emotiond %s runs", __version__, extra={
            "streams": len(self.pipeline.readers), "model": self.pipeline.model.model_id,
            "device": ",".join(self.pipeline.devices),
            "abstain_below": abstain_below(self._config.classifier, self.pipeline.model),
            "http": f"http://{join_address(self._config.http.address[0], self.web.port)}",
            **({"purpose": purpose} if purpose else {}),
            **({"shard": f"{shard.index} of {shard.count}"} if shard.count > 1 else {})})
        self._manager.ready()

    def _main_loop(self) -> None:
        next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        next_look = next_watch = 0.0
        next_trim = time.monotonic() + TRIM_SECONDS
        while not self._stopping and not self._failure():
            time.sleep(TICK_SECONDS)
            if self._reloader:
                self._reloader.go_on()
                if self._watch and time.monotonic() >= next_watch:
                    next_watch = time.monotonic() + WATCH_SECONDS
                    if self._watch.is_due(self._reloader.taken):
                        self._reloader.ask()
                if self._reloader.asked():
                    self._manager.reloading()
                    self._reloader.read()
                    self._manager.ready()
            self._published = self._published or self.publisher.connected
            self.pipeline.metrics.ready.set(self.not_ready() is None)
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + min(LOOK_SECONDS, (self._manager.watchdog_seconds or LOOK_SECONDS) / 3)
                self._look_at_progress()
                self.pipeline.close_old_windows()
                self._board.forget_gone()
            if time.monotonic() >= next_trim:
                next_trim = time.monotonic() + TRIM_SECONDS
                trim_malloc()
            if time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
                states = {name: str(reader.state) for name, reader in self.pipeline.readers.items()}
                self.publisher.publish_status(HEARTBEAT_TYPE, StatusEvent(None, streams=states))

    def _look_at_progress(self) -> None:
        stuck = self._progress.standing_still()
        if stuck is None:
            self._manager.alive()
        elif self._stuck is None:
            log.error("%s", stuck)
        self._stuck = stuck
        count = len(self.pipeline.readers)
        streams = "1 stream" if count == 1 else f"{count} streams"
        self._manager.status(stuck or self.not_ready() or streams)

    def _analyzing(self) -> tuple[bool, int]:
        """Returns whether frames wait or are analysed, and how many the analyzers have done with."""
        counts = self.pipeline.ledger.snapshot().values()
        return any(c.in_flight for c in counts), sum(
            c.analyzed + c.dropped[Drop.STALE] + c.dropped[Drop.INFERENCE_ERROR] for c in counts)

    def shut_down(self) -> bool:
        """Sources stop, frames drain, analyzers join, the spool drains, then Redis and HTTP close.

        Returns:
            Whether nothing failed and nothing is left.
        """
        failure = self._failure()
        self._stopping = True
        self._manager.stopping()
        if self._reloader:
            self._reloader.close()
        self.pipeline.metrics.ready.set(0)
        waiting_events = self.spool.figures()[0]
        log.info("stopping", extra={"events_waiting": waiting_events} if waiting_events else None)
        deadline = time.monotonic() + STOP_SECONDS
        if failure:  # nobody takes frames any more, and readers of files wait for room
            self.pipeline.buffers.close(drain=False)
        waiting = self.pipeline.stop_reading(time.monotonic() + STOP_SECONDS * _READ_SHARE)
        if waiting:  # they hold no frame, and end with the process
            log.info("readers still wait for their source", extra={"threads": ", ".join(waiting)})
        alive = self.pipeline.finish(time.monotonic() + STOP_SECONDS * _DRAIN_SHARE, drain=failure is None)
        left = self.publisher.drain(deadline)
        self.publisher.stop()
        self.spool.stop()
        if self.web:
            self.web.close()
        alive += self._crew.join(deadline + 1)
        if "spool" not in alive:  # its file is not in use any more
            self.spool.close()
        if alive:
            log.error("threads did not end in time", extra={"threads": ", ".join(alive)})
        safe = self.spool.all_stored() and "spool" not in alive
        if left and safe:
            log.warning("events stay in the spool for the next start: %s", self.publisher.error or "Redis is slow",
                        extra={"events": left})
        elif left:
            log.error("events were not delivered: %s", self.publisher.error or "Redis is slow", extra={"events": left})
        counts = self.pipeline.ledger.snapshot().values()
        log.info("stopped", extra={
            "frames_read": sum(c.read for c in counts), "frames_analyzed": sum(c.analyzed for c in counts),
            "frames_dropped": sum(sum(c.dropped.values()) for c in counts),
            "frames_in_flight": sum(c.in_flight for c in counts)})
        return failure is None and (safe or not left) and not alive

    def _emit(self, event: FrameEvent, frame: Frame) -> None:
        self._board.take(event, frame)
        if event.faces or self._config.publish_empty:
            fields = frame_fields(event, frame.captured_us, self._config.instance)
            self.spool.put(event.stream, fields, frame.captured_us, frame.arrived, frame.arrived_us)

    def _emit_aggregate(self, event: AggregateEvent, last: Moment) -> None:
        self._board.take_aggregate(event)
        fields = aggregate_fields(event, last.captured_us, last.index, self._config.instance)
        self.spool.put(event.stream, fields, last.captured_us, last.arrived, last.arrived_us)

    def _publish_status(self, kind: str, event: StatusEvent) -> None:
        self.publisher.publish_status(kind, event)

    def _wait_for_room(self, stopped: Callable[[], bool]) -> None:
        self.spool.wait_for_room(stopped)

    def _failure(self) -> tuple[str, BaseException] | None:
        crews = (self._crew, self.pipeline.reading, self.pipeline.analyzing)
        return next((crew.failure for crew in crews if crew.failure), None)

    def _not_healthy(self) -> str | None:
        failure = self._failure()
        return f"thread {failure[0]} died" if failure else self._stuck

    def _streams(self) -> object:
        counts, added = self.pipeline.ledger.snapshot(), self._fleet.names()
        return {name: {
            "origin": "http" if name in added else "file", "state": str(reader.state), "live": reader.live,
            "source": redact(reader.config.source), "error": reader.error,
            "frames_read": counts[name].read, "frames_analyzed": counts[name].analyzed,
            "frames_in_flight": counts[name].in_flight,
            "frames_dropped": {str(reason): count for reason, count in counts[name].dropped.items()},
        } for name, reader in self.pipeline.readers.items() if name in counts}

    def _gauges(self) -> Gauges:
        events, size, oldest = self.spool.figures()
        return Gauges({f"frames:{name}": depth for name, depth in self.pipeline.buffers.depths().items()},
                      events, size, self._config.spool.max_bytes, oldest, self.spool.failing is not None)

    def _reload(self) -> Changes:
        """What POST /-/reload does, in a thread of its own."""
        if not self._reloader:
            raise UnavailableError("there is no file to read")
        return self._reloader.request(RELOAD_SECONDS)

    def _streams_file(self) -> Path | None:
        """Where streams added over HTTP are kept; nowhere if the daemon was started without a token."""
        return self._reloader.streams_file if self._reloader and self._config.http.token_file else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloader:
            self._reloader.ask()
            return
        if self._stopping:
            raise SystemExit(128 + number)  # a second signal forces the exit
        self.stop()


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    """Installs the handler for SIGTERM, SIGINT and SIGHUP and puts the old ones back."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

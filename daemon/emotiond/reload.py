"""A new configuration while the daemon runs: streams come, go and change, and those that stay notice nothing."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import msgspec
from pydantic import BaseModel

from emotiond.config import Config, StreamConfig
from emotiond.errors import ConfigError, UnavailableError
from emotiond.pipeline import Pipeline
from emotiond.shard import own_streams
from emotiond.spool import Spool

LONG_SECONDS = 10.0      # after which it is said that a stream does not end
AGAIN_SECONDS = 30.0     # after which a watched file that was wrong is read again

log = logging.getLogger(__name__)


class Changes(msgspec.Struct, frozen=True):
    """What a new configuration changes, by name.

    Attributes:
        added: streams that begin.
        removed: streams that end.
        changed: streams that begin anew.
        at_restart: keys whose new value the daemon takes up at its next start.
    """

    added: list[str]
    removed: list[str]
    changed: list[str]
    at_restart: list[str]


@dataclass
class _Stopping:
    """A stream that ends: what comes in its place, since when, and whether its reader and frames are through."""

    successor: StreamConfig | None
    since: float
    through: bool = False
    told: bool = False


def compare(old: Config, new: Config) -> Changes:
    """Returns what changes from one configuration to another, of streams for the shard that `old` is."""
    before, after = own_streams(old.streams, old.shard), own_streams(new.streams, old.shard)
    plain = _without_streams(old)
    return Changes(
        [name for name in after if name not in before], [name for name in before if name not in after],
        [name for name, stream in after.items() if name in before and stream != before[name]],
        [key for key, value in _without_streams(new).items() if value != plain[key] and key != "http.streams_file"])


def _without_streams(config: Config) -> dict[str, object]:
    """Returns every key that holds one value, written as in `redis.url`, with it."""
    flat: dict[str, object] = {}
    for key, value in config:
        if isinstance(value, BaseModel):
            flat |= {f"{key}.{inner}": part for inner, part in value}
        elif key != "streams":
            flat[key] = value
    return flat


class FileWatch:
    """Tells when a file is to be read anew, asked as often as one likes."""

    def __init__(self, file: Path) -> None:
        """Takes the content of now for known."""
        self._file, self._known, self._read = file, b"", time.monotonic()
        self.is_due(taken=True)

    def is_due(self, taken: bool) -> bool:
        """Tells whether the content is another than at the last call, or one that was not taken is to be tried again.

        What it names, a password's file say, may come later than itself. A file that is away is not due.
        """
        try:
            content = self._file.read_bytes()
        except OSError:
            return False
        due = content != self._known or (not taken and time.monotonic() >= self._read + AGAIN_SECONDS)
        if due:
            self._known, self._read = content, time.monotonic()
        return due


class Reloader:
    """Reads the configuration when asked, and brings the streams to what it says.

    `go_on`, `asked` and `read` are the main thread's, again and again; none waits for a stream that ends.

    Attributes:
        taken: whether the configuration that was read last is the one in use.
    """

    def __init__(self, config: Config, load: Callable[[], Config], pipeline: Pipeline, spool: Spool) -> None:
        """Begins with the configuration in use.

        Args:
            config: that one.
            load: reads it anew; raises ConfigError.
            pipeline: its streams.
            spool: their events; a removed stream's series stay until the last one has left.
        """
        self._started_with = self._config = config
        self._load, self._pipeline, self._spool = load, pipeline, spool
        self._stopping: dict[str, _Stopping] = {}
        self._signalled = False  # a plain flag: a signal's handler must not touch a lock
        self._requests: deque[Future[Changes]] = deque()
        self._closed = False
        self.taken = True

    @property
    def streams_file(self) -> Path | None:
        """`http.streams_file` of the configuration in use."""
        return self._config.http.streams_file

    def ask(self) -> None:
        """Has the configuration read soon; callable from a signal's handler."""
        self._signalled = True

    def request(self, seconds: float) -> Changes:
        """Does as `ask`, from any thread, waits, and returns what changed.

        Raises:
            ConfigError: the configuration is wrong.
            UnavailableError: the daemon is stopping, or does not get to it in so many seconds.
        """
        future: Future[Changes] = Future()
        self._requests.append(future)
        if self._closed:
            self.close()
        try:
            return future.result(seconds)
        except TimeoutError:
            if not future.cancel():  # it is being read this very moment
                return future.result()
            raise UnavailableError(f"the configuration was not read within {seconds:.0f} s") from None

    def close(self) -> None:
        """Refuses all requests from now on."""
        self._closed = True
        for future in self._take_requests():
            future.set_exception(UnavailableError("the daemon is stopping"))

    def _take_requests(self) -> "list[Future[Changes]]":
        taken = [self._requests.popleft() for _ in range(len(self._requests))]
        return [future for future in taken if future.set_running_or_notify_cancel()]  # who gave up wants nothing

    def asked(self) -> bool:
        """Tells whether it is time to `read`."""
        return self._signalled or bool(self._requests)

    def read(self) -> None:
        """Reads the configuration; one that is wrong changes nothing, and every line of what is wrong is logged."""
        futures = self._take_requests()
        if not self._signalled and not futures:
            return
        self._signalled = False
        metrics = self._pipeline.metrics
        try:
            changes = self._apply(self._load())
        except ConfigError as error:
            self.taken = False
            metrics.reloaded.set(0)
            for line in str(error).splitlines():
                log.error("configuration not taken over: %s", line)
            for future in futures:
                future.set_exception(error)
        else:
            self.taken = True
            metrics.reloaded.set(1)
            metrics.reloaded_at.set_to_current_time()
            log.info("configuration taken over", extra={
                what: ", ".join(names) for what, names in msgspec.to_builtins(changes).items() if names})
            if changes.at_restart:
                log.warning("some keys are taken over at the next start only",
                            extra={"keys": ", ".join(changes.at_restart)})
            for future in futures:
                future.set_result(changes)

    def go_on(self) -> None:
        """Ends what has stopped: at once where another comes in its place, else when its last event has left."""
        for name, stopping in list(self._stopping.items()):
            if not stopping.through:
                stopping.through = self._pipeline.has_stopped(name)
                if not stopping.through and not stopping.told and time.monotonic() > stopping.since + LONG_SECONDS:
                    stopping.told = True
                    log.warning("stream still stops: its reader waits for its source", extra={"stream": name})
                if stopping.through:
                    self._pipeline.readers[name].tell_why_stopped("changed" if stopping.successor else "removed")
            if stopping.through and stopping.successor:
                del self._stopping[name]
                self._begin(name, stopping.successor)
            elif stopping.through and not self._spool.waiting(name):
                del self._stopping[name]
                self._pipeline.remove_stream(name)
                self._spool.remove_stream(name)

    def _apply(self, config: Config) -> Changes:
        streams = compare(self._config, config)
        changes = Changes(
            streams.added, streams.removed, streams.changed, compare(self._started_with, config).at_restart)
        shard = self._started_with.shard
        self._config = config.model_copy(update={"shard": shard})
        own = own_streams(config.streams, shard)
        self._pipeline.metrics.set_assigned({name: name in own for name in config.streams})
        for name in changes.removed:
            self._stop(name, None)
        for name in (*changes.changed, *changes.added):
            if name in self._pipeline.readers:  # also one that was removed and is not gone yet
                self._stop(name, config.streams[name])
            else:
                self._begin(name, config.streams[name])
        return changes

    def _begin(self, name: str, config: StreamConfig) -> None:
        self._pipeline.add_stream(name, config)
        self._spool.add_stream(name)
        self._pipeline.read(name)

    def _stop(self, name: str, successor: StreamConfig | None) -> None:
        self._stopping.setdefault(name, _Stopping(None, time.monotonic())).successor = successor
        self._pipeline.readers[name].stop()

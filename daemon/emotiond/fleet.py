"""Streams that come and go over HTTP, for fleets that another system manages; a file of the daemon's own keeps them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from emotiond.config_file import make_config
from emotiond.errors import ConfigError, UnavailableError
from emotiond.redact import protect_url
from emotiond.reload import Changes
from emotionnet.files import write_whole

_MODE = 0o600   # sources may hold passwords


class NotThereError(Exception):
    """There is no such stream, or nowhere to keep one; the message is one sentence."""


class Fleet:
    """Adds and removes streams: first in the file, then in the running daemon.

    What is wrong never gets into the file: a restart or another's reload would stumble over it.
    """

    def __init__(
        self, file: Callable[[], Path | None], check: Callable[[bytes], object], reload: Callable[[], Changes]
    ) -> None:
        """Changes nothing yet.

        Args:
            file: returns `http.streams_file`.
            check: raises ConfigError where the configuration would be wrong with this in the file.
            reload: has the configuration read, as `Reloader.request`.
        """
        self._file, self._check, self._reload = file, check, reload
        self._one_at_a_time = threading.Lock()

    def names(self) -> set[str]:
        """Returns the names of the streams that were added; none where their file cannot be read."""
        named = self._file()
        try:
            return set(_read(Path(os.path.expandvars(named)))) if named else set()
        except (ConfigError, UnavailableError):
            return set()

    def add(self, body: bytes) -> Changes:
        """Adds streams, or changes those of the same names that were added before.

        Args:
            body: JSON as the configuration's section `streams`: name -> {"source": ..., ...}.

        Raises:
            NotThereError: there is no file to keep them in.
            ConfigError: they are wrong, or the configuration has some of the same names.
            UnavailableError: the file cannot be written, or the daemon is stopping.
        """
        try:
            streams: object = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            streams = None
        if not isinstance(streams, dict) or not streams:
            raise ConfigError('the body is no JSON object of streams; send one like {"lobby": {"source": "rtsp://camera/"}}')
        _protect(cast(object, streams))
        make_config({"streams": streams})
        return self._change(lambda kept: kept | cast(dict[str, object], streams))

    def remove(self, name: str) -> Changes:
        """Removes a stream that was added.

        Raises:
            NotThereError: none of that name was.
            ConfigError: the configuration is wrong by now.
            UnavailableError: as in `add`.
        """
        def without(kept: dict[str, object]) -> dict[str, object]:
            if name not in kept:
                raise NotThereError("no stream of that name was added with POST /streams; remove those of the "
                                    "configuration there")
            return {other: stream for other, stream in kept.items() if other != name}

        return self._change(without)

    def _change(self, change: Callable[[dict[str, object]], dict[str, object]]) -> Changes:
        with self._one_at_a_time:
            named = self._file()
            if named is None:
                raise NotThereError("http.streams_file names no file to keep streams in")
            file = Path(os.path.expandvars(named))
            before = _read(file)
            after = _encode(change(before))
            self._check(after)
            _write(file, after)
            try:
                return self._reload()
            except (ConfigError, UnavailableError):
                _write(file, _encode(before))
                raise


def _read(file: Path) -> dict[str, object]:
    try:
        content = msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, object]])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UnavailableError(f"{file}: cannot be read ({error.strerror}); make it the daemon's") from None
    except (msgspec.DecodeError, RecursionError):
        content = {}
    if content.keys() != {"streams"}:
        raise ConfigError(f"{file}: is not as the daemon writes it; make it JSON with nothing but the key streams")
    return content["streams"]


def _encode(streams: dict[str, object]) -> bytes:
    return msgspec.json.format(msgspec.json.encode({"streams": streams})) + b"\n"


def _write(file: Path, content: bytes) -> None:
    try:
        write_whole({file: content}, "make room, or name another file in http.streams_file", _MODE)
    except OSError as error:
        raise UnavailableError(str(error)) from None


def _protect(value: object) -> None:
    """Keeps the passwords in a body's URLs out of every output, also where they stand at a wrong key."""
    if isinstance(value, str):
        protect_url(value)
    elif isinstance(value, dict):
        for key, inner in cast(dict[object, object], value).items():
            _protect(key)
            _protect(inner)
    elif isinstance(value, list):
        for inner in cast(list[object], value):
            _protect(inner)

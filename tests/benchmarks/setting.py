"""What benchmarks share: the clips, the machine, a Redis, and processes of their own to measure in."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import av
import psutil

import emotiond.demo
from emotiond.embedded import embedded_valkey
from tests.benchmarks.figures import Sheet
from tests.conftest import DATA
from tests.support.daemon import with_path
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PORTRAIT = Path(emotiond.demo.__file__).with_name("portrait.mp4")
CLIPS = {
    "360p, one face": "one_woman_20s_360p.mp4",
    "720p, about five faces": "group7_classroom_720p.mp4",
    "1080p, about six faces": "street_5plus_1080p.mp4",
}
WARM_FRAMES = 6


@dataclass(frozen=True)
class Setting:
    """How thoroughly to measure, and where.

    Attributes:
        quick: fewer rounds, frames and seconds.
        folder: for files that may go afterwards.
        device: what runs the networks.
    """

    quick: bool
    folder: Path
    device: str = "cpu"

    @property
    def rounds(self) -> int:
        """How often each figure is taken."""
        return 2 if self.quick else 5

    @property
    def frames(self) -> int | None:
        """The most frames of a clip that are gone through; None for all."""
        return 30 if self.quick else None

    @cached_property
    def clips(self) -> dict[str, Path]:
        """What it shows -> file; the bundled portrait alone where the test data is not there."""
        found = {name: DATA / "clips" / file for name, file in CLIPS.items() if (DATA / "clips" / file).exists()}
        return found or {"640x360, one face (bundled portrait)": PORTRAIT}

    def note_clips(self, sheet: Sheet) -> None:
        """Says so where the clips are not there."""
        if PORTRAIT in self.clips.values():
            sheet.lacks("The clips of the test data are not on this machine (EMOTIOND_DATA names their folder); the "
                        "demo's portrait stands in for them.")

    def short(self, clip: Path, frames: int | None) -> Path:
        """Returns a file with the first frames of a clip, its packets as they are; the clip where None are given."""
        if frames is None:
            return clip
        path = self.folder / f"{clip.stem}-{frames}.mp4"
        if not path.exists():
            with av.open(str(clip)) as container, av.open(str(path), "w") as output:
                stream = container.streams.video[0]
                copy = output.add_stream_from_template(stream)
                for count, packet in enumerate(container.demux(stream)):
                    if count >= frames or packet.dts is None:
                        break
                    packet.stream = copy
                    output.mux(packet)
        return path

    @contextlib.contextmanager
    def redis(self) -> Generator[str]:
        """Starts a Redis, or the bundled Valkey where none is installed, and gives its URL."""
        if shutil.which("redis-server"):
            with RedisServer(self.folder / "redis") as server:
                yield server.url
        else:
            with embedded_valkey() as url:
                yield url


def run_alone(
    module: str, *arguments: object, cores: int | None = None, python: Path | str = sys.executable
) -> dict[str, float]:
    """Runs a module of `tests.benchmarks.alone` in a process of its own.

    Args:
        module: its name there.
        arguments: its command line.
        cores: how many of this process' cores it may use; None leaves it all of them.
        python: the interpreter.

    Returns:
        What it prints, as JSON, in its last line.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    own = python == sys.executable
    command = [*(with_path() if own else []), str(python), "-m", f"tests.benchmarks.alone.{module}",
               *map(str, arguments)]
    with on_cores(cores):
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(lines[-1])


@contextlib.contextmanager
def on_cores(count: int | None) -> Generator[None]:
    """Has processes that are started inside use the first so many of this process' cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine(device: str = "cpu") -> dict[str, str]:
    """Returns what all figures belong to, a device of torch included."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{model}, {len(os.sched_getaffinity(0))} cores", "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{_system()}, Linux {platform.release()}", "Python": platform.python_version(),
        **{name: version(name) for name in ("onnxruntime", "av", "numpy")}, **_device(device)}


def _device(name: str) -> dict[str, str]:
    """Returns what a device of torch is, and torch's version; nothing of onnxruntime's `cpu`."""
    if name == "cpu":
        return {}
    import torch
    if not name.startswith("cuda"):
        return {"device": f"{name}, {torch.get_num_threads()} threads", "torch": torch.__version__}
    properties = torch.cuda.get_device_properties(name)
    return {"device": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB", "torch": torch.__version__}


def commit() -> str:
    """Returns git's name of what is measured, and whether it was changed since; empty without git."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            ["git", "--no-optional-locks", "describe", "--always", "--dirty=, changed", "--exclude=*"], cwd=ROOT,
            check=True, capture_output=True, text=True).stdout.strip()
    return ""


class Others:
    """How much of the machine went to what is not measured, from its making on."""

    def __init__(self) -> None:
        self._begin = self._read()

    def share(self) -> float:
        """Returns % of all cores' time that other programs, and other machines on the same hardware, took."""
        seconds, busy, own = (after - before for after, before in zip(self._read(), self._begin, strict=True))
        return max(100 * (busy - own) / (seconds * (os.cpu_count() or 1)), 0.0)

    def _read(self) -> tuple[float, float, float]:
        """Returns seconds by the clock, those that cores were busy, and those of this process and ended children."""
        times, own = psutil.cpu_times(), os.times()
        busy = sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
        return time.monotonic(), busy, sum(own[:4])


def now() -> str:
    """Returns the minute, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def take_turns(rounds: int, names: Iterable[str]) -> Generator[str]:
    """Yields each name in turn, for so many rounds, so that ratios hold when the machine's speed drifts."""
    listed = list(names)
    for _ in range(rounds):
        yield from listed


def _system() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"')
    return platform.system()

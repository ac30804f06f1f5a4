"""Decoding alone, on the device and in software."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emotiond.config import StreamConfig
from emotiond.opening import open_source
from tests.benchmarks.cameras import write_cameras
from tests.benchmarks.figures import Sheet
from tests.benchmarks.setting import Setting, take_turns

TITLE = "Decoding alone"
ABOUT = """\
So many files of 1920x1080 (H.264, as cameras send it) at once, each read by a thread of its own as fast as it goes, and
nothing done with the pictures, from the moment on that all have begun. On a GPU its video decoders do it, of which more
files keep more busy."""
TABLE = "Frames decoded a second"
THREADS = (1, 2, 4, 8, 16, 32)


class NotThereError(Exception):
    """The device does not decode."""


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures both, with more and more files."""
    setting.note_clips(sheet)
    files = write_cameras(list(setting.clips.values())[-1], setting.folder / "decoded", 30, 1920, length(setting))
    devices = {"in software": "cpu"}
    if setting.device.startswith("cuda"):
        devices["on the device"] = setting.device
    else:
        sheet.lacks("Decoding on the device: there is no GPU.")
    for row in take_turns(1 if setting.quick else 3, map(str, THREADS[:2] if setting.quick else THREADS)):
        for name, device in devices.items():
            try:
                rate = decoded_a_second(files, int(row), device, 1.0 if setting.quick else 4.0)
                sheet.add(TABLE, row, name, rate, "frames/s")
            except NotThereError as error:
                sheet.lacks(f"Decoding on the device: {error}.")


def length(setting: Setting) -> float:
    """Returns how many seconds of video each file has: so many that opening files anew hardly counts."""
    return 20.0 if setting.quick else 120.0


def decoded_a_second(files: list[Path], readers: int, device: str, seconds: float) -> float:
    """Returns the frames that so many threads decode a second, each its own file, once all have begun.

    Raises:
        NotThereError: they were decoded elsewhere.
    """
    ready = threading.Barrier(readers)
    with ThreadPoolExecutor(readers) as pool:
        rates = pool.map(lambda place: _rate(files[place % len(files)], device, ready, seconds), range(readers))
        return sum(rates)


def _rate(file: Path, device: str, ready: threading.Barrier, seconds: float) -> float:
    """Returns frames a second of one file, from its second picture on."""
    count, begin, now = 0, 0.0, 0.0
    for on_device in _frames(file, device):
        if device.startswith("cuda") and not on_device:
            ready.abort()
            raise NotThereError(f"{device} does not decode {file.name}")
        if not begin:
            with contextlib.suppress(threading.BrokenBarrierError):
                ready.wait(60)
            begin = time.monotonic()
        else:
            count += 1
        now = time.monotonic()
        if now >= begin + seconds:
            break
    return count / (now - begin)


def _frames(file: Path, device: str) -> Iterator[bool]:
    """Yields for each frame, again and again, whether it is on a device."""
    while True:
        source = open_source(StreamConfig(source=str(file)), device)
        try:
            for decoded in source.frames():
                yield decoded.frame.format.name == "cuda"
        finally:
            source.close()

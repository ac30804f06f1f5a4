"""Decoding alone, on the device and in software."""

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
nothing done with the pictures. On a GPU its video decoders do it, of which more files keep more busy."""
TABLE = "Frames decoded a second"
THREADS = (1, 2, 4, 8, 16, 32)


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures both, with more and more files."""
    setting.note_clips(sheet)
    files = write_cameras(list(setting.clips.values())[-1], setting.folder / "decoded", 30, width=1920)
    devices = {"in software": "cpu"}
    if setting.device.startswith("cuda"):
        devices["on the device"] = setting.device
    else:
        sheet.lacks("Decoding on the device: there is no GPU.")
    seconds = 1.0 if setting.quick else 4.0
    for row in take_turns(1 if setting.quick else 3, map(str, THREADS[:2] if setting.quick else THREADS)):
        for name, device in devices.items():
            with ThreadPoolExecutor(int(row)) as pool:
                begin = time.monotonic()
                counts = pool.map(lambda file, device=device, end=begin + seconds: count_until(file, device, end),
                                  [files[place % len(files)] for place in range(int(row))])
                sheet.add(TABLE, row, name, sum(counts) / (time.monotonic() - begin), "frames/s")


def count_until(file: Path, device: str, end: float) -> int:
    """Returns how many frames of a file were decoded until a monotonic time, which begins anew at its end.

    Raises:
        RuntimeError: they were decoded elsewhere.
    """
    count = 0
    while time.monotonic() < end:
        for on_device in _frames(file, device, end):
            if device.startswith("cuda") and not on_device:
                raise RuntimeError(f"{device} does not decode {file.name}")
            count += 1
    return count


def _frames(file: Path, device: str, end: float) -> Iterator[bool]:
    """Yields for each frame whether it is on a device."""
    source = open_source(StreamConfig(source=str(file)), device)
    try:
        for decoded in source.frames(lambda: time.monotonic() >= end):
            yield decoded.frame.format.name == "cuda"
    finally:
        source.close()

"""`make bench`: the README's figures, measured here and now with the real parts, and printed as a table.

Needs Redis and GStreamer's RTSP server for the live figures; says so where they are missing. ARGS="--quick" takes
one run of each instead of three.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import emotiond.demo
from emotiond.picture import Picture, Scalers
from emotiond.subscribe import read_entries
from emotionnet.classifier import load_classifier
from emotionnet.preprocess import crop_square, expand_range
from tests.conftest import DATA, PARTS
from tests.support.daemon import Daemon, with_path
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.videos import write_camera_copy
from tests.support.waiting import poll
from yunet.detector import load_detector

PORTRAIT = Path(emotiond.demo.__file__).with_name("portrait.mp4")
LIVE_SECONDS = 30.0


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each")
    runs = 1 if parser.parse_args().quick else 3
    clip = DATA / "clips" / "one_woman_20s_360p.mp4"
    if not clip.exists():
        clip = PORTRAIT
    table = Table(box=None, pad_edge=False, title=f"{machine()}; clip {clip.name}", title_justify="left")
    for title in ("figure", "median", "least", "most", "unit"):
        table.add_column(title, justify="left" if title in ("figure", "unit") else "right")

    def row(name: str, values: list[float], unit: str) -> None:
        table.add_row(name, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}", unit)

    row("emotiond --version", repeat(runs, lambda: seconds_of(["--version"])), "s")
    naive, replayed = [], []
    for _ in range(runs):  # in turn, so that the ratio holds when the machine's speed drifts
        naive.append(plain_loop(clip))
        replayed.append(replay_rate(clip))
    row("plain loop of the same models, one thread", naive, "frames/s")
    row(f"replay --speed max, {os.cpu_count()} cores", replayed, "frames/s")
    row("ratio of the two, run by run", [b / a for a, b in zip(naive, replayed, strict=True)], "")
    with tempfile.TemporaryDirectory() as folder:
        if PARTS["redis-server"].found():
            row("start of `run` to first event in Redis", repeat(runs, lambda: first_event(Path(folder))), "s")
        if PARTS["redis-server"].found() and PARTS["rtsp-server"].found():
            latency, memory, cores = live_stream(Path(folder))
            for share in (50, 95, 99):
                row(f"capture to Redis' subscriber, p{share}, one RTSP stream at 15 frames/s",
                    [float(np.percentile(latency, share))], "ms")
            row("resident memory, the same stream", [memory], "MB")
            row("CPU of the daemon, the same stream", [cores * 100], "% of one core")
    console = Console(width=120)
    console.print(table)
    for name in ("redis-server", "rtsp-server", "test data"):
        if not PARTS[name].found():
            console.print(f"not measured without {name}: {PARTS[name].mend}")


def machine() -> str:
    """Returns what the figures belong to."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def repeat(runs: int, measure: Callable[[], float]) -> list[float]:
    """Returns `runs` values."""
    return [measure() for _ in range(runs)]


def seconds_of(arguments: list[str]) -> float:
    """Returns the wall time of a whole command."""
    begin = time.monotonic()
    subprocess.run([*with_path(), sys.executable, "-m", "emotiond", *arguments], check=True, capture_output=True)
    return time.monotonic() - begin


def replay_rate(clip: Path) -> float:
    """Returns frames a second as `replay` measures them: from opening the file to the last event."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        done = subprocess.run(
            [*with_path(), sys.executable, "-m", "emotiond", "replay", str(clip), "--events", str(events)],
            check=True, capture_output=True, text=True, env=os.environ | {"COLUMNS": "160"})
        assert sum(1 for _ in events.open()) > 0
    values = next(line for line in done.stdout.splitlines() if line.startswith(clip.stem)).split()
    return float(next(value for value in reversed(values[:8]) if value.replace(".", "").isdigit() and "." in value))


def plain_loop(clip: Path) -> float:
    """Returns frames a second of the obvious loop: decode, scale, detect, crop, classify, one after the other."""
    detector, classifier, scalers = load_detector(), load_classifier(), Scalers()
    spec, count = classifier.info.input, 0
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        begin = time.monotonic()
        for frame in container.decode(video):
            picture = Picture(frame)
            view = picture.detector_view(scalers, 640)
            luma = picture.luma(scalers)
            boxes = detector.detect([view.planes])[0].boxes * view.scale[0]
            crops = [expand_range(crop_square(luma.plane, tuple(box), spec)) for box in boxes.tolist()]
            if crops:
                classifier.classify(np.stack(crops))
            count += 1
    return count / (time.monotonic() - begin)


def first_event(folder: Path) -> float:
    """Returns seconds from starting the process to the first event that a subscriber sees."""
    with RedisServer(folder / "redis-first") as server:
        daemon = Daemon(folder / "first", {"clip": {"source": str(PORTRAIT)}}, server.url)
        begin = time.monotonic()
        with daemon:
            poll(lambda: server.client.xlen("emotions:clip") > 0, 60, "no event came", every_s=0.002)
            return time.monotonic() - begin


def live_stream(folder: Path) -> tuple[list[float], float, float]:
    """Returns latencies in ms, resident memory in MB, and cores used, of one RTSP stream at 15 frames a second.

    A latency is the subscriber's clock when an entry comes minus the camera's capture time, which RTCP gives; both
    clocks are this host's. The clip is encoded as cameras do, without B-frames, which cost several frames of delay.
    """
    camera_copy = write_camera_copy(PORTRAIT, folder / "camera.mp4", fps=15)
    with RedisServer(folder / "redis-live") as server, \
            RtspServer(folder / "rtsp", {"/cam": camera_copy}) as camera, \
            Daemon(folder / "live", {"cam": {"source": camera.url("/cam")}}, server.url) as daemon:
        process, positions = psutil.Process(daemon.child.pid), {"emotions:cam": "$"}
        latency: list[float] = []
        cpu, begin = process.cpu_times(), time.monotonic()
        while time.monotonic() < begin + LIVE_SECONDS:
            entries, now = read_entries(server.client, positions, 1000), time.time_ns() / 1e6
            latency += [now - int(entry.fields["id"].split(b"/")[1]) / 1000 for entry in entries
                        if json.loads(entry.fields["data"])["clock"] == "rtcp"]
        after = process.cpu_times()
        used = (after.user + after.system - cpu.user - cpu.system) / (time.monotonic() - begin)
        return latency, process.memory_info().rss / 1e6, used


if __name__ == "__main__":
    main()

"""How long an event takes from the camera's capture of its frame to a subscriber of Redis."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from emotiond.client.entries import read_entries
from tests.benchmarks.cameras import streams_of, write_cameras
from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import LIVE, Mode
from tests.benchmarks.setting import PORTRAIT, Setting
from tests.conftest import PARTS
from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer

TITLE = "Latency"
ABOUT = """\
From the capture of a frame to a subscriber that blocks in XREAD. The RTSP camera's capture time is the one that its
RTCP reports give, so the network, its buffers and decoding are part of it; the ten live streams (640x360, 15 frames
a second, one face each) are files at their own pace, whose frames are captured when their time has come. All run
beside the subscriber on this machine."""
TABLE = "Capture to subscriber"
SHARES = (50, 95, 99)
RATE, MANY = 15, 10


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures one RTSP camera and ten live streams."""
    setting.note_clips(sheet)
    if not PARTS["redis-server"].found():
        sheet.lacks(f"Latency: {PARTS['redis-server'].mend}.")
        return
    seconds = 8.0 if setting.quick else 30.0
    files = write_cameras(next(iter(setting.clips.values())), setting.folder / "live", RATE)
    if PARTS["rtsp-server"].found():
        camera_file = write_cameras(PORTRAIT, setting.folder / "portrait", RATE)[0]
        with RtspServer(setting.folder / "rtsp", {"/cam": camera_file}) as camera:
            _add(sheet, "one RTSP camera, full", setting.folder, {"cam": {"source": camera.url("/cam")}}, seconds, {},
                 lambda fields: json.loads(fields["data"])["clock"] == "rtcp")
    else:
        sheet.lacks(f"An RTSP camera: {PARTS['rtsp-server'].mend}.")
    for name, mode in LIVE.items():
        _add(sheet, f"{MANY} live streams, {name}", setting.folder, dict(streams_of(files, MANY)), seconds, mode,
             lambda _: True)


def _add(
    sheet: Sheet, row: str, folder: Path, streams: dict[str, dict[str, Any]], seconds: float, mode: Mode,
    counts: Callable[[dict[str, bytes]], bool],
) -> None:
    with RedisServer(folder / "redis") as server, Daemon(
            folder / f"daemon-{time.monotonic_ns()}", streams, server.url,
            detector=mode.get("detector", {}), classifier=mode.get("classifier", {})) as daemon:
        process, positions = psutil.Process(daemon.child.pid), {f"emotions:{name}": "$" for name in streams}
        warm = time.monotonic() + min(seconds / 2, 8)
        while time.monotonic() < warm:
            read_entries(server.client, positions, 200)
        latency: list[float] = []
        cpu, begin = process.cpu_times(), time.monotonic()
        while time.monotonic() < begin + seconds:
            entries, now = read_entries(server.client, positions, 1000), time.time_ns() / 1e6
            latency += [now - int(entry.fields["id"].split(b"/")[1]) / 1000 for entry in entries
                        if counts(entry.fields)]
        after = process.cpu_times()
        busy = (after.user + after.system - cpu.user - cpu.system) / (time.monotonic() - begin)
        memory = process.memory_info().rss / 1e6
    if not latency:
        sheet.lacks(f"{row}: no event came.")
        return
    for share in SHARES:
        sheet.add(TABLE, row, f"{share} %", float(np.percentile(latency, share)), "ms")
    sheet.add(TABLE, row, "events", len(latency))
    sheet.add(TABLE, row, "daemon, of one core", 100 * busy, "%")
    sheet.add(TABLE, row, "its memory", memory, "MB")

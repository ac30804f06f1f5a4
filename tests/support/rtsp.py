"""A real RTSP server on loopback that plays given files as a camera would."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import av
from av.bitstream import BitStreamFilterContext

from tests.support.leaks import plant
from tests.support.process import ServerProcess
from tests.support.waiting import free_port, listens

_PYTHON = "/usr/bin/python3"      # the one that Debian's packages of GStreamer's bindings are made for
_SCRIPT = Path(__file__).with_name("rtsp_server.py")
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb", "mjpeg": "null"}
_SECOND = 1_000_000_000

TEST_PATTERN = (
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 "
    "! rtph264pay name=pay0 pt=96 config-interval=-1 )")
"""A moving pattern without a face, encoded while it plays."""


@dataclass(frozen=True)
class Mount:
    """What one path of the server plays.

    Attributes:
        play: a file (H.264, HEVC or MJPEG, its packets go out as they are), several of one codec that follow each
            other (of other sizes, say), or a GStreamer launch line such as TEST_PATTERN.
        loop: begins again at the end, its timestamps go on; or ends.
        fps: frames a second instead of the file's own.
        report_s: seconds between RTCP sender reports, which carry the clock's time; None sends none.
        clock: the reports tell the host's time, or one that is more than a hundred years off.
    """

    play: str | Path | Sequence[Path]
    loop: bool = True
    fps: float | None = None
    report_s: float | None = 1.0
    clock: Literal["host", "wrong"] = "host"


def rtsp_server_works() -> bool:
    """Tells whether the system has what the server needs."""
    try:
        check = subprocess.run([_PYTHON, _SCRIPT, "--check"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return check.returncode == 0


class RtspServer(ServerProcess):
    """Serves from entering to leaving; may be killed, frozen and started again on its port.

    Args:
        folder: gets its files and its log.
        mounts: path, such as "/lobby", to what it plays; a bare file or launch line is a Mount of it.
        user: who is let in; anybody where None.
        password: the user's.
        method: how the password is asked for.
    """

    def __init__(
        self,
        folder: Path,
        mounts: Mapping[str, Mount | str | Path],
        *,
        user: str | None = None,
        password: str = "",
        method: Literal["digest", "basic"] = "digest",
    ) -> None:
        self.port = free_port()
        self.user, self.password, self._method = user, plant(password), method
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._configuration = folder / "rtsp.json"
        self.set_mounts(mounts)
        super().__init__("rtsp server", [_PYTHON, str(_SCRIPT), str(self._configuration)], folder / "rtsp.log")

    def set_mounts(self, mounts: Mapping[str, Mount | str | Path]) -> None:
        """Says what it plays from its next start on."""
        described: dict[str, dict[str, object]] = {}
        for index, (path, mount) in enumerate(mounts.items()):
            if not isinstance(mount, Mount):
                mount = Mount(mount)
            described[path] = {
                "loop": mount.loop, "report_s": mount.report_s,
                "clock": {"host": "ntp", "wrong": "running-time"}[mount.clock]}
            if isinstance(mount.play, str):
                described[path]["launch"] = mount.play
            else:
                files = [mount.play] if isinstance(mount.play, Path) else mount.play
                feed = self._folder / f"mount{index}.feed"
                _write_feed(files, feed, mount.fps)
                described[path]["feed"] = str(feed)
        self._configuration.write_text(json.dumps({
            "port": self.port, "user": self.user, "password": self.password, "method": self._method,
            "mounts": described}))

    def url(self, path: str, *, user: str | None = None, password: str | None = None) -> str:
        """Returns the URL of a mount, with the credentials the server wants unless others are given."""
        user = self.user if user is None else user
        password = self.password if password is None else password
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"rtsp://{credentials}127.0.0.1:{self.port}{path}"

    def ready(self) -> bool:
        """Tells whether it accepts connections."""
        return listens(self.port)


def _write_feed(files: Sequence[Path], feed: Path, fps: float | None) -> None:
    """Writes the frames of some files, one after the other, as rtsp_server.py reads them.

    One line of JSON: the codec, the whole duration, and of each frame the times when it is sent and when it shows
    (all in ns) and its size in bytes; then the frames.
    """
    frames: list[tuple[int, int, int]] = []
    data: list[bytes] = []
    codecs: set[str] = set()
    begin = 0
    for file in files:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            codecs.add(codec)
            rate = stream.average_rate or Fraction(25)
            speed = float(rate) / fps if fps else 1.0
            tick = float(stream.time_base or 1) * speed * _SECOND
            annex_b = BitStreamFilterContext(_FILTERS[codec], in_stream=stream)
            packets = [
                packet for raw in container.demux(stream) for packet in annex_b.filter(raw if raw.size else None)]
        times = [(packet.dts, packet.pts) for packet in packets if packet.dts is not None and packet.pts is not None]
        assert len(times) == len(packets), f"{file}: packets without times"
        first = min(pts for _, pts in times)
        # A camera sends no frame before it was seen: with B-frames in the file, sending lags by their reordering.
        lag = max(pts - dts for dts, pts in times)
        for packet, (dts, pts) in zip(packets, times, strict=True):
            data.append(bytes(packet))
            frames.append((begin + round((dts + lag - first) * tick), begin + round((pts - first) * tick), packet.size))
        begin += round(len(packets) / float(rate) * speed * _SECOND)
    assert len(codecs) == 1, f"files of one codec are needed, not {codecs}"
    feed.write_bytes(
        json.dumps({"codec": codecs.pop(), "duration": begin, "frames": frames}).encode() + b"\n" + b"".join(data))

"""Opens a camera or a file with PyAV and reads its frames; reports why it ended, never retries.

Timeouts are always set: without them FFmpeg waits for ever on a silent server. The protocols FFmpeg may
use are limited to the source's own kind, so that a playlist cannot make it open something else.
"""

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import av
import av.error
import av.logging
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emotiond.config import StreamConfig, read_secret
from emotiond.frames import Clock
from emotiond.redact import redact

Outcome = Literal["refused", "timeout", "auth", "not_found", "protocol"]
EndReason = Literal["eof", "stall", "error", "format_change"]

OPEN_SECONDS = 5.0
MAX_PIXELS = 64 * 1024 * 1024   # 8192 x 8192; a few bytes can claim 16k x 16k
MAX_ERRORS_IN_A_ROW = 100       # undecodable packets before a live stream is opened anew
_SLICE_SECONDS = 1.0            # how long one read of RTSP may block, so that stopping is quick
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,srtp,tcp,udp", "rtsps": "rtsps,rtsp,rtp,srtp,tls,tcp,udp,crypto",
    "http": "http,tcp,crypto", "https": "https,http,tls,tcp,crypto", "file": "file",
}
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "subviewer", "srt", "ass", "webvtt"}

av.logging.set_level(None)  # FFmpeg's own lines would print URLs


class OpenError(Exception):
    """A source could not be opened; `outcome` says how, the message says it in words, without secrets."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(redact(message))
        self.outcome: Outcome = outcome


class EndedError(Exception):
    """Reading ended before the source did; the message says why."""

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(redact(message))
        self.reason: EndReason = reason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame with its times.

    Attributes:
        frame: the picture as decoded.
        pts: seconds on the source's time line, None where unknown.
        captured_us: microseconds since the epoch by `clock`; None for files, whose start the caller knows.
        clock: rtcp, arrival or file.
        arrived: monotonic seconds.
        arrived_us: the host's clock.
        decode_seconds: what decoding its packet took.
    """

    frame: VideoFrame
    pts: float | None
    captured_us: int | None
    clock: Clock
    arrived: float
    arrived_us: int
    decode_seconds: float


@dataclass
class SourceCounts:
    """What a source read since its reader looked last."""

    bytes: int = 0
    decode_errors: int = 0


def kind_of(source: str) -> str:
    """Returns rtsp, rtsps, http, https, lavfi, device or file."""
    scheme = source.partition(":")[0].lower()
    if scheme in ("rtsp", "rtsps", "http", "https", "lavfi") and ":" in source:
        return scheme
    return "device" if source.startswith("/dev/") else "file"


class Source:
    """An open source.

    Attributes:
        live: whether it is a camera or behaves like one.
        counts: what was read since the reader looked last.
        size: width and height as stored, before rotation.
        codec: FFmpeg's name of the codec.
        rate: frames a second that the source claims, None where unknown.
        length: number of frames expected, None where unknown.
        pixel_aspect: width over height of a pixel.
    """

    def __init__(self, container: InputContainer, video: VideoStream, kind: str, config: StreamConfig) -> None:
        self._container, self._video = container, video
        self._sliced = kind in ("rtsp", "rtsps")
        self._stall_seconds = config.stall_seconds
        self.live = _is_live(kind, config, container)
        self.counts = SourceCounts()
        self.codec = video.codec_context.name
        self.size = (video.codec_context.width, video.codec_context.height)
        self.rate = float(video.average_rate) if video.average_rate else None
        self.length = video.frames or _expected_length(container, self.rate)
        self.pixel_aspect: Fraction | None = video.sample_aspect_ratio
        self._camera_clock_us: int | None = None  # wall clock minus stream time, once RTCP told it

    def frames(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Decoded]:
        """Yields decoded frames until the source ends or `stopped` says so.

        Raises:
            EndedError: a live source ended, stalled or broke, or a file broke off.
        """
        errors_in_a_row = 0
        for packet in self._packets(stopped):
            arrived, arrived_us = time.monotonic(), time.time_ns() // 1000
            self.counts.bytes += packet.size
            self._read_camera_clock(packet)
            try:
                pictures = packet.decode()
                seconds = time.monotonic() - arrived
            except av.error.EOFError:
                continue
            except (FFmpegError, ValueError):
                self.counts.decode_errors += 1
                errors_in_a_row += 1
                if self.live and errors_in_a_row >= MAX_ERRORS_IN_A_ROW:
                    raise EndedError("error", f"{errors_in_a_row} packets in a row were not decodable") from None
                continue
            for picture in pictures:
                errors_in_a_row = 0
                yield self._decoded(picture, arrived, arrived_us, seconds)

    def close(self) -> None:
        """Closes the source."""
        self._container.close()

    def _packets(self, stopped: Callable[[], bool]) -> Iterator["Packet[VideoStream]"]:
        last = time.monotonic()
        while not stopped():
            try:
                for packet in self._container.demux(self._video):
                    last = time.monotonic()
                    yield packet
                    if stopped():
                        return
                if self.live:
                    raise EndedError("eof", "the source ended the stream")
                return
            except av.error.ExitError:
                silent = time.monotonic() - last
                if not self._sliced or silent >= self._stall_seconds:
                    raise EndedError("stall", f"nothing came for {silent:.0f} s") from None
            except (FFmpegError, OSError) as error:
                raise EndedError("error", f"reading failed ({_words(error)})") from None

    def _read_camera_clock(self, packet: "Packet[VideoStream]") -> None:
        """RTCP's sender reports tie stream time to the camera's clock; FFmpeg hands them on beside packets."""
        if not self._sliced or packet.pts is None or not packet.has_sidedata("prft"):
            return
        wall_us, = struct.unpack_from("<q", bytes(packet.get_sidedata("prft")))
        self._camera_clock_us = wall_us - round(packet.pts * packet.time_base * 1_000_000)

    def _decoded(self, frame: VideoFrame, arrived: float, arrived_us: int, seconds: float) -> Decoded:
        stream_us = None if frame.pts is None or frame.time_base is None else round(
            frame.pts * frame.time_base * 1_000_000)
        pts = None if stream_us is None else stream_us / 1_000_000
        if not self.live:
            return Decoded(frame, pts, None, "file", arrived, arrived_us, seconds)
        if self._camera_clock_us is not None and stream_us is not None:
            return Decoded(frame, pts, self._camera_clock_us + stream_us, "rtcp", arrived, arrived_us, seconds)
        return Decoded(frame, pts, arrived_us, "arrival", arrived, arrived_us, seconds)


def open_source(config: StreamConfig) -> Source:
    """Opens a camera, URL, device, test pattern or file.

    Raises:
        OpenError: it cannot be opened or holds no video.
    """
    kind = kind_of(config.source)
    name, form, options = _target(config, kind)
    timeout = (OPEN_SECONDS, _SLICE_SECONDS if kind in ("rtsp", "rtsps") else config.stall_seconds)
    try:
        container = av.open(name, mode="r", format=form, options=options, timeout=timeout)
    except av.error.ExitError:
        raise OpenError("timeout", f"{config.source} did not answer within {OPEN_SECONDS:.0f} s; "
                        "check address and network") from None
    except (FFmpegError, OSError, ValueError) as error:
        outcome, mend = _classify(error, kind)
        raise OpenError(outcome, f"{config.source} cannot be opened ({_words(error)}); {mend}") from None
    try:
        return Source(container, _video_stream(container, config.source), kind, config)
    except BaseException:
        container.close()
        raise


def _target(config: StreamConfig, kind: str) -> tuple[str, str | None, dict[str, str]]:
    """Returns what to open, FFmpeg's format where it cannot be guessed, and options."""
    source = config.source
    if kind == "lavfi":
        return source.partition(":")[2], "lavfi", {}
    if kind == "device":
        return source, "v4l2", {}
    options = {"protocol_whitelist": _PROTOCOLS[kind]}
    if kind == "file":
        path = Path(source)
        if path.is_file() and path.stat().st_size == 0:
            raise OpenError("protocol", f"{source} is empty; give a video or a picture")
        return f"file:{source}", None, options
    if kind in ("rtsp", "rtsps"):
        # without fpsprobesize FFmpeg waits for twenty frames to guess the rate: 5 s of a slow camera
        options |= {"rtsp_transport": config.transport, "analyzeduration": "500000", "fpsprobesize": "0"}
    return _with_credentials(config), None, options


def _with_credentials(config: StreamConfig) -> str:
    """Puts user name and password, percent-encoded, into the URL given to FFmpeg."""
    scheme, _, rest = config.source.partition("://")
    written, _, address = rest.rpartition("@")  # the configuration allows no @ behind the address
    user, _, password = (quote(part, safe="%") for part in written.partition(":"))  # may be encoded already
    if config.username:
        user = quote(config.username, safe="")
    if config.password_file:
        try:
            password = quote(read_secret(config.password_file), safe="")
        except ValueError as error:
            raise OpenError("auth", str(error)) from None
    credentials = f"{user}:{password}" if password else user
    return f"{scheme}://{credentials}@{address}" if credentials else config.source


def _video_stream(container: InputContainer, source: str) -> VideoStream:
    if container.format.name in _TEXT_FORMATS or not container.streams.video:
        raise OpenError("protocol", f"{source} holds no video; give a video or a picture")
    video = container.streams.video[0]
    context = video.codec_context
    if context is None:  # pyright: ignore[reportUnnecessaryComparison] - what PyAV's stubs do not say
        raise OpenError("protocol", f"{source} has a codec that FFmpeg cannot decode; give it as H.264 or H.265")
    if context.width * context.height > MAX_PIXELS:
        raise OpenError("protocol", f"{source} has pictures of {context.width}x{context.height}; "
                        f"at most {MAX_PIXELS // 1024 // 1024} million pixels are read")
    context.thread_count = 1  # as many analyzers as cores keep them busy already
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return video


def _is_live(kind: str, config: StreamConfig, container: InputContainer) -> bool:
    if config.live != "auto":
        return config.live
    return kind in ("rtsp", "rtsps", "device", "lavfi") or (kind in ("http", "https") and container.duration is None)


def _expected_length(container: InputContainer, rate: float | None) -> int | None:
    if container.format.name in ("image2",) or container.format.name.endswith("_pipe"):
        return 1
    return round(container.duration / 1_000_000 * rate) if container.duration and rate else None


def _classify(error: Exception, kind: str) -> tuple[Outcome, str]:
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return "auth", "check user name and password"
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return "not_found", "check the path"
        case ConnectionRefusedError() | ConnectionResetError() | BrokenPipeError():
            return "refused", "check address and port, and that the server runs"
        case TimeoutError():
            return "timeout", "check address and network"
        case PermissionError():
            return "auth", "let the daemon's user read it"
        case av.error.InvalidDataError() if kind == "file":
            return "protocol", "give a video or a picture"
        case _:
            return "protocol", "check the source"


def _words(error: FFmpegError | OSError | ValueError) -> str:
    if isinstance(error, OSError | FFmpegError) and error.strerror:
        return error.strerror
    return str(error)

"""Reads the frames of an open source with their times; reports why it ended, never retries."""

import math
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

import av.error
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emotiond.config import StreamConfig
from emotiond.frames import Clock
from emotiond.redact import redact

EndReason = Literal["eof", "stall", "error"]

MAX_ERRORS_IN_A_ROW = 100       # undecodable packets before a live stream is opened anew
SLICE_SECONDS = 1.0            # how long one read of RTSP may block, so that stopping is quick
CLOCKS_AGREE_US = 10_000
CLOCKS_DRIFT = 0.001           # more than two clocks ever drift apart, seconds in a second
PUT_BACK_SECONDS = 1.0         # a camera's clock that goes back by more was set
SLICED = ("rtsp", "rtsps")     # kinds that are read in slices: a read that was interrupted may go on
CUT_SECONDS, CUT_SHARE = 1.0, 0.05  # a file that ends earlier than its header says, by more than both, was cut off


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
        self._sliced = kind in SLICED
        self._stall_seconds = config.stall_seconds
        self.live = _is_live(kind, config, container)
        self.counts = SourceCounts()
        self.codec = video.codec_context.name
        self.size = (video.codec_context.width, video.codec_context.height)
        self.rate = _rate(container, video)
        self.length = video.frames or _expected_length(container, self.rate)
        self.pixel_aspect: Fraction | None = video.sample_aspect_ratio
        self._camera_clock_us: int | None = None  # wall clock minus stream time, once RTCP told it
        self._clock_seen_us: int | None = None    # the last packet's word on it
        self._length_seconds = _length_seconds(container, video)
        self._first_pts, self._last_pts = 0.0, cast(float | None, None)
        self._lateness = _Lateness()
        self._coded_aspect: Fraction | None = None
        self._decodes = False

    def frames(self, stopped: Callable[[], bool] = lambda: False) -> Iterator[Decoded]:
        """Yields decoded frames until the source ends or `stopped` says so.

        Raises:
            EndedError: a live source ended, stalled, broke or came ever later, or a file broke off.
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
                self.counts.decode_errors += picture.is_corrupt
                self._follow_aspect()
                yield self._decoded(picture, arrived, arrived_us, seconds)
        if not self.live and not stopped():
            self._check_whole()

    def close(self) -> None:
        """Closes the source."""
        self._container.close()

    def _packets(self, stopped: Callable[[], bool]) -> Iterator["Packet[VideoStream]"]:
        last = time.monotonic()
        while not stopped():
            try:
                for packet in self._container.demux():  # sound too: it may go on without pictures
                    silent = time.monotonic() - last
                    if packet.stream.index == self._video.index:
                        yield cast("Packet[VideoStream]", packet)
                        last = time.monotonic()  # whoever took it may have paced a file
                    elif self.live and silent >= self._stall_seconds:
                        raise EndedError("stall", f"no picture came for {silent:.0f} s, only sound")
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
                raise EndedError("error", f"reading failed ({error_words(error)})") from None

    def _check_whole(self) -> None:
        """A recording that was cut off ends early without an error; only its header knows."""
        if self._length_seconds is None or self._last_pts is None:
            return
        missing = self._length_seconds - (self._last_pts - self._first_pts)
        if missing > max(CUT_SECONDS, CUT_SHARE * self._length_seconds):
            raise EndedError("error", f"the file ends after {self._last_pts - self._first_pts:.1f} s of "
                             f"{self._length_seconds:.1f} s; it is not whole")

    def _read_camera_clock(self, packet: "Packet[VideoStream]") -> None:
        """RTCP's sender reports tie stream time to the camera's clock; FFmpeg hands them on beside packets.

        It gives the first packet after a report the next one's time, so two must agree before they are believed.
        """
        if not self._sliced or packet.pts is None or not packet.has_sidedata("prft"):
            return
        wall_us, = struct.unpack_from("<q", bytes(packet.get_sidedata("prft")))
        clock_us = wall_us - round(packet.pts * packet.time_base * 1_000_000)
        if self._clock_seen_us is not None and abs(clock_us - self._clock_seen_us) < CLOCKS_AGREE_US:
            self._camera_clock_us = clock_us
        self._clock_seen_us = clock_us

    def _follow_aspect(self) -> None:
        """What is coded may change in mid-stream, with the pictures' size or without; a container's word does not."""
        aspect = self._video.codec_context.sample_aspect_ratio
        if self._decodes and aspect != self._coded_aspect:
            self.pixel_aspect = aspect
        self._coded_aspect, self._decodes = aspect, True

    def _decoded(self, frame: VideoFrame, arrived: float, arrived_us: int, seconds: float) -> Decoded:
        stream_us = None if frame.pts is None or not frame.time_base else round(
            frame.pts * frame.time_base * 1_000_000)
        pts = None if stream_us is None else stream_us / 1_000_000
        if pts is not None:
            self._first_pts = pts if self._last_pts is None else self._first_pts
            self._last_pts = pts
        if not self.live:
            return Decoded(frame, pts, None, "file", arrived, arrived_us, seconds)
        if self._camera_clock_us is not None and stream_us is not None:
            captured_us = self._camera_clock_us + stream_us
            late = self._lateness.measure(captured_us / 1_000_000, arrived)
            if late > self._stall_seconds:
                raise EndedError("stall", f"pictures come {late:.0f} s late; the line or this machine is slower than "
                                 "the camera: lower the camera's bit rate")
            return Decoded(frame, pts, captured_us, "rtcp", arrived, arrived_us, seconds)
        return Decoded(frame, pts, arrived_us, "arrival", arrived, arrived_us, seconds)


class _Lateness:
    """How much later than at their best the pictures of a camera arrive: those of a slow line queue before it."""

    def __init__(self) -> None:
        self._least, self._captured, self._arrived = math.inf, -math.inf, 0.0

    def measure(self, captured: float, arrived: float) -> float:
        """Takes the seconds of one picture by the camera's clock and by ours, of which neither need be right."""
        if captured < self._captured - PUT_BACK_SECONDS:
            self._least = math.inf
        delay = arrived - captured
        self._least = min(self._least + CLOCKS_DRIFT * (arrived - self._arrived), delay)
        self._captured, self._arrived = captured, arrived
        return delay - self._least


def _is_live(kind: str, config: StreamConfig, container: InputContainer) -> bool:
    if config.live != "auto":
        return config.live
    return kind in ("rtsp", "rtsps", "device", "lavfi") or (kind in ("http", "https") and container.duration is None)


def _rate(container: InputContainer, video: VideoStream) -> float | None:
    """Returns the frames a second that are claimed; FFmpeg takes 25 for bare H.264 or H.265, whatever is in there."""
    bare = container.format.flags & Flags.no_timestamps.value
    rate = (video.codec_context.framerate if bare else None) or video.average_rate
    return float(rate) if rate else None


def _length_seconds(container: InputContainer, video: VideoStream) -> float | None:
    """Returns the length that the header claims for the pictures alone, None where it claims none."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    return container.duration / 1_000_000 if container.duration and len(container.streams) == 1 else None


def _expected_length(container: InputContainer, rate: float | None) -> int | None:
    if container.format.name in ("image2",) or container.format.name.endswith("_pipe"):
        return 1
    return round(container.duration / 1_000_000 * rate) if container.duration and rate else None


def error_words(error: FFmpegError | OSError | ValueError) -> str:
    """Returns what FFmpeg or the system call the error, without a path or URL."""
    if isinstance(error, OSError | FFmpegError) and error.strerror:
        return error.strerror
    return str(error)

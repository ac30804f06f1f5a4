"""Videos made in tests: of any codec, layout and orientation, and broken ones."""

import random
import struct
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from tests.support.pictures import Picture

_TICKS = 60_000      # a second; a multiple of the usual rates, and small enough for MPEG-4
_CAMERA: Mapping[str, Mapping[str, str]] = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency"},      # no B-frames
    "mjpeg": {"huffman": "default"},      # the only tables that RTP carries
    "libx265": {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"},
}


def write_video(
    path: Path,
    pictures: Iterable[Picture],
    *,
    fps: float = 15,
    times: Iterable[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sar: Fraction | None = None,
    rotation: int = 0,
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
) -> Path:
    """Encodes pictures of one size; the container follows from the path's ending.

    Args:
        path: where to.
        pictures: RGB or grey.
        fps: pictures a second, and the distance between key frames.
        times: seconds of each picture, rising, for a variable rate.
        codec: FFmpeg's name: libx264, libx265, mjpeg, mpeg4, ffv1, libvpx-vp9, libsvtav1.
        pix_fmt: such as yuv420p10le, gray (mjpeg, ffv1), yuvj420p (mjpeg), yuv444p (odd sizes in libx264).
        sar: width of a pixel over its height.
        rotation: degrees counter-clockwise that a player turns it by, in steps of 90; MP4 and MOV only.
        options: of the encoder, instead of those of a camera.
        container: options of the container.

    Returns:
        `path`.
    """
    def frames() -> Iterator[VideoFrame]:
        for picture, pts in zip(pictures, count() if times is None else map(_to_ticks, times), strict=False):
            contiguous = np.ascontiguousarray(picture)
            frame = VideoFrame.from_ndarray(contiguous, format="rgb24" if picture.ndim == 3 else "gray")
            frame.pts = pts
            yield frame

    rate = Fraction(fps).limit_denominator(1001)
    _encode(path, frames(), rate, Fraction(1, _TICKS) if times is not None else 1 / rate, codec, pix_fmt, sar, options,
            container)
    if rotation:
        _set_rotation(path, rotation)
    return path


def write_camera_copy(source: Path, path: Path, *, fps: float | None = None, width: int | None = None) -> Path:
    """Encodes a video again as a camera would: H.264 without B-frames, a key frame each second, no sound.

    Args:
        source: any video.
        path: where to.
        fps: the most frames a second; those between are left out. Default: all.
        width: of the copy, its height in proportion; both become even.

    Returns:
        `path`.
    """
    with av.open(str(source)) as container:
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        scale = (width or video.width) / video.width
        own_rate = video.average_rate or Fraction(25)
        rate = min(own_rate, Fraction(fps).limit_denominator(1001)) if fps else own_rate

        def frames() -> Iterator[VideoFrame]:
            kept = 0
            begin: float | None = None
            for frame in container.decode(video):
                seconds = frame.time or 0.0
                begin = seconds if begin is None else begin
                if seconds - begin >= (kept - 0.5) / float(rate):
                    kept += 1
                    small = frame.reformat(round(video.width * scale / 2) * 2, round(video.height * scale / 2) * 2)
                    small.pts = _to_ticks(seconds - begin)
                    yield small

        _encode(path, frames(), rate, Fraction(1, _TICKS))
    return path


def write_repeated(source: Path, path: Path, seconds: float) -> Path:
    """Copies a video's packets over and over, with rising times, until it is at least so long; no sound."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [(p, p.dts, p.pts) for p in container.demux(stream) if p.dts is not None and p.pts is not None]
        tick = stream.time_base or Fraction(1)
        duration = round(len(packets) / (stream.average_rate or 25) / tick)
        for start in range(0, round(seconds / tick), duration):
            for packet, dts, pts in packets:
                packet.dts, packet.pts, packet.stream = dts + start, pts + start, copy
                output.mux(packet)
    return path


def write_audio(path: Path, seconds: float = 2) -> Path:
    """Writes a file that has sound and no picture."""
    rate = 44_100
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        wave = np.sin(np.arange(round(rate * seconds)) * 2 * np.pi * 440 / rate).astype(np.float32)
        frame = AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_truncated(source: Path, path: Path, share: float = 0.5) -> Path:
    """Copies the first part of a file. An MP4 of `write_video` loses its index so; a Matroska or TS file does not."""
    content = source.read_bytes()
    path.write_bytes(content[:round(len(content) * share)])
    return path


def write_flipped(source: Path, path: Path, *, share: float = 1e-5, seed: int = 1, spare: int = 2048) -> Path:
    """Copies a file with this share of its bits wrong, the same for the same seed; `spare` bytes stay at each end."""
    content = bytearray(source.read_bytes())
    chance = random.Random(seed)
    for _ in range(max(round(len(content) * 8 * share), 1)):
        content[chance.randrange(spare, len(content) - spare)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return path


def _encode(
    path: Path,
    frames: Iterable[VideoFrame],
    rate: Fraction,
    time_base: Fraction,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    sar: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
) -> None:
    """Encodes frames of one size whose pts count in `time_base`; see `write_video`."""
    with av.open(str(path), "w", options=dict(container or {})) as output:
        stream = output.add_stream(codec, rate=rate)
        assert isinstance(stream, VideoStream), f"{codec} does not code pictures"
        context = stream.codec_context
        context.options = dict(_CAMERA.get(codec, {}) if options is None else options)
        context.time_base = time_base
        context.pix_fmt = pix_fmt
        context.gop_size = max(round(rate), 1)
        context.thread_count = 1      # several would cut each picture into slices
        if sar is not None:
            context.sample_aspect_ratio = sar
        for frame in frames:
            if not context.is_open:
                context.width, context.height = frame.width, frame.height
            converted = frame.reformat(format=pix_fmt)
            converted.pts, converted.time_base, converted.pict_type = frame.pts, time_base, PictureType.NONE
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))


def _to_ticks(seconds: float) -> int:
    return round(seconds * _TICKS)


def _set_rotation(path: Path, degrees: int) -> None:
    """Writes the display matrix into the one track's header (tkhd), which PyAV does not offer."""
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    matrix = header + (52 if content[header] else 40)      # version 1 has longer times
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees % 360]
    struct.pack_into(">9i", content, matrix, *(
        value << 16 for value in (cosine, -sine, 0, sine, cosine, 0, 0, 0)), 1 << 30)
    path.write_bytes(content)

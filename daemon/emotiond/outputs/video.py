"""An MP4 of H.264, written picture by picture, each with its own time."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from av.video.stream import VideoStream

from emotiond.draw import Pixels
from emotiond.outputs.files import discard
from emotiond.picture import ColourTags

LARGEST = 16_384                # pixels of a row or column, for x264
LONGEST_US = 3_600_000_000      # between two pictures; MP4 counts it in 32 bits
SHORTEST_US = 1_000             # where a source's times stand still, go back, or jump by more
FIRST_US = 40_000               # how long a picture is shown that is the only one
_TIME_BASE = Fraction(1, 1_000_000)
_SPEED = {"preset": "superfast", "crf": "22"}      # two thirds of the time of veryfast, for as many bytes
_KEY_FRAMES = 60                # pictures from one that a player can begin at to the next
_THREADS = 4


class VideoFile:
    """The file, which is whole once it is closed."""

    def __init__(self, path: Path, width: int, height: int, colour: ColourTags) -> None:
        """Prepares it; it is opened with the first picture.

        Args:
            path: ends in .mp4.
            width: of the pictures, even.
            height: of the pictures, even.
            colour: what the pictures' source says of its colours.
        """
        self._path, self._colour = path, colour
        self._container: OutputContainer = av.open(
            f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        stream = self._container.add_stream("libx264", options=dict(_SPEED))
        assert isinstance(stream, VideoStream)
        self._stream, context = stream, stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.gop_size, context.thread_count = _TIME_BASE, _KEY_FRAMES, _THREADS
        context.max_b_frames = 0                # pictures in the order of their times, which alone keeps uneven ones
        context.flags |= Flags.frame_duration
        context.color_range, context.colorspace = ColorRange.MPEG, colour.matrix
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        self._reformatter = VideoReformatter()
        self._before_us: int | None = None
        self._pts, self._step = 0, FIRST_US     # the last picture is shown as long as the one before it

    def write(self, pixels: Pixels, at_us: int) -> None:
        """Appends a picture, (height, width, 3) B, G, R.

        Args:
            pixels: of the file's size.
            at_us: its time in microseconds; the first one's is the file's beginning.

        Raises:
            OSError, FFmpegError: it cannot be written.
        """
        if self._before_us is not None:
            step = at_us - self._before_us
            self._step = step if 0 < step <= LONGEST_US else SHORTEST_US
            self._pts += self._step
        self._before_us = at_us
        picture = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="bgr24"), format="yuv420p",
            dst_colorspace=self._colour.coefficients, dst_color_range=ColorRange.MPEG, threads=1)
        picture.pts, picture.time_base, picture.duration = self._pts, _TIME_BASE, self._step
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Writes what the encoder holds and what makes the file a whole.

        Raises:
            OSError, FFmpegError: it cannot be written.
        """
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def discard(self) -> None:
        """Gives up: without its end the file is no video."""
        with contextlib.suppress(OSError, FFmpegError):
            self._container.close()
        discard(self._path)

"""Files that play cameras: encoded beforehand, so that nothing but reading them is part of a figure."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from tests.support.videos import write_camera_copy

COPIES = 8


def write_cameras(clip: Path, folder: Path, fps: float, width: int = 640, seconds: float = 0.0) -> list[Path]:
    """Writes a clip as cameras send it: H.264 without B-frames, a key frame each second, just so many frames a second.

    Args:
        clip: faster than it is where it has fewer frames.
        folder: where to.
        fps: frames a second.
        width: of the pictures.
        seconds: it is repeated until the files are so long; each time that a file ends, its decoder is opened anew.

    Returns:
        COPIES files that begin at different seconds of it, so that not all cameras show the same at once.
    """
    folder.mkdir(exist_ok=True)
    encoded = folder / f"{clip.stem}-{fps:g}.mp4"
    if not encoded.exists():
        write_camera_copy(clip, encoded, fps=fps, width=width)
    return [_write_turned(encoded, folder / f"{clip.stem}-{fps:g}-{number}.mp4", number / COPIES, fps, seconds)
            for number in range(COPIES)]


def streams_of(files: list[Path], count: int) -> Iterator[tuple[str, dict[str, object]]]:
    """Yields so many live streams of a configuration, which play files at their own pace for ever."""
    for number in range(count):
        yield f"camera-{number}", {"source": str(files[number % len(files)]), "live": True}


def _write_turned(source: Path, path: Path, share: float, fps: float, seconds: float) -> Path:
    """Copies a file's packets, beginning at the key frame nearest to a share of it and ending with what is before."""
    if path.exists():
        return path
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in container.demux(stream) if packet.dts is not None]
        keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
        begin = min(keys, key=lambda index: abs(index - share * len(packets)))
        step = round(1 / fps / (stream.time_base or Fraction(1)))
        count = len(packets) * max(round(seconds * fps / len(packets)), 1)
        for place, packet in enumerate(itertools.islice(itertools.cycle([*packets[begin:], *packets[:begin]]), count)):
            packet.pts = packet.dts = place * step
            packet.stream = copy
            output.mux(packet)
    return path

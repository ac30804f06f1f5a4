"""`emotiond probe`: opens a source and says what it delivers."""

import argparse
import time

from emotiond.analyzer import to_picture
from emotiond.config import Config
from emotiond.config_file import make_config, make_stream_config
from emotiond.config_values import kind_of
from emotiond.errors import NoInputError, UnavailableError
from emotiond.opening import OpenError, open_source
from emotiond.picture import Picture, Scalers
from emotiond.redact import redact
from emotiond.source import Decoded, EndedError, Source
from yunet.detector import load_detector


def main(args: argparse.Namespace) -> int:
    """Probes; 0, 66 when a file cannot be read, 69 when a camera is not there."""
    config, stream = make_config({}), make_stream_config({"source": args.source, "transport": args.transport})
    begin = time.monotonic()
    try:
        source = open_source(stream)
    except OpenError as error:
        raise (NoInputError if kind_of(args.source) == "file" else UnavailableError)(str(error)) from None
    opened = time.monotonic() - begin
    try:
        frames, first = _watch(source, args.seconds, begin)
    finally:
        source.close()
    if not frames:
        raise NoInputError(redact(f"{args.source}: opened, but no frame came within {args.seconds} s"))
    _report(args.source, source, frames, opened, first, config)
    return 0


def _watch(source: Source, seconds: float, begin: float) -> tuple[list[Decoded], float]:
    """Reads for some seconds; keeps at most one frame in a hundred milliseconds to look for faces in."""
    kept: list[Decoded] = []
    count, first, end = 0, 0.0, time.monotonic() + seconds
    try:
        for decoded in source.frames(lambda: time.monotonic() > end):
            first = first or time.monotonic() - begin
            count += 1
            if not kept or decoded.arrived - kept[-1].arrived > 0.1:
                kept.append(decoded)
    except EndedError:
        pass
    return kept, first


def _report(
    url: str, source: Source, frames: list[Decoded], opened: float, first: float, config: Config
) -> None:
    detector, scalers = load_detector("cpu", score=config.detector.score), Scalers()
    pictures = [Picture(decoded.frame, source.pixel_aspect) for decoded in frames]
    faces = 0
    for picture in pictures:
        view = picture.detector_view(scalers, config.detector.width)
        found, = detector.detect([view.planes], [view.colour])
        boxes = to_picture(found.boxes, view.scale, view.offset, picture.size)
        faces = max(faces, int((boxes[:, 2:].min(axis=1, initial=1e9) >= config.detector.min_face).sum()))
    rate = f"{source.rate:.2f} frames/s" if source.rate else "rate unknown"
    print(f"source       {redact(url)} ({'live' if source.live else 'file'})")
    print(f"video        {source.codec}, {pictures[0].width}x{pictures[0].height} as shown, {rate}")
    print(f"clock        {frames[-1].clock}")
    print(f"opened       in {opened:.2f} s, first frame after {first:.2f} s")
    print(f"faces        up to {faces} in a picture ({len(pictures)} looked at)")
    if source.counts.decode_errors:
        print(f"errors       {source.counts.decode_errors} packets could not be decoded")

"""Makes portrait.mp4, the clip of `emotiond demo`, from the public-domain portrait that scikit-image ships.

Only the picture is read from scikit-image; nothing of it is imported, so its own dependencies are not needed:

    pip install --no-deps --target /tmp/scikit-image scikit-image
    PYTHONPATH=/tmp/scikit-image python daemon/emotiond/demo/make_clip.py daemon/emotiond/demo/portrait.mp4
"""

import argparse
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 640, 360, 15
PICTURE_SHA256 = "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"
FACE = (226.0, 126.0)  # the face's centre in the portrait, pixels
CARD_ROWS = 392  # of the portrait's 512, so that the whole print fits a wide frame
BORDER = 9  # of the print, pixels of the portrait
OVERSAMPLING = 2  # frames are drawn larger and averaged down, or the print's edges would crawl

Picture = NDArray[np.float32]
"""(H, W, 3) RGB, 0..255, or (H, W, 1) opacity, 0..1."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the print lies and how bright the room is, at one time; between two poses the motion is eased.

    Attributes:
        seconds: since the clip's start.
        x: of the face's centre in the frame, pixels.
        y: of the face's centre in the frame, pixels.
        scale: pixels of the frame for one of the portrait.
        degrees: the print's turn, counter-clockwise.
        light: factor on all pixels.
    """

    seconds: float
    x: float
    y: float
    scale: float
    degrees: float = 0.0
    light: float = 1.0


# The last pose is the first one, so the clip may be looped.
POSES = (
    Pose(0.0, 300, 122, 0.84),
    Pose(0.6, 300, 122, 0.84),
    Pose(3.2, 330, 178, 1.80, 2.5),
    Pose(4.6, 262, 172, 1.35, -2.5, 0.38),
    Pose(6.0, 352, 176, 1.50, 1.5, 1.08),
    Pose(7.0, 300, 140, 0.95),
    Pose(7.9, 980, 132, 0.95, -5.0),
    Pose(9.6, -420, 132, 0.95, 5.0),
    Pose(10.5, 318, 140, 0.95),
    Pose(11.7, 300, 122, 0.84),
    Pose(12.0, 300, 122, 0.84),
)
AWAY = (7.9, 9.6)  # seconds in which the print is outside the frame, on its way from right to left


def main() -> int:
    """Writes the clip to the path on the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Makes the clip of `emotiond demo`.")
    parser.add_argument("output", type=Path, help="the MP4 to write")
    output: Path = parser.parse_args().output
    if not output.parent.is_dir():
        parser.error(f"{output.parent} is not a folder")
    try:
        portrait = read_portrait()
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    encode(draw_frames(portrait), output)
    print(f"{output}: {output.stat().st_size} bytes, sha256 {hashlib.sha256(output.read_bytes()).hexdigest()}")
    return 0


def read_portrait() -> Picture:
    """Reads the portrait of Eileen Collins out of scikit-image's folder.

    Returns:
        (512, 512, 3) RGB, 0..255.

    Raises:
        FileNotFoundError: scikit-image is not on the path.
        ValueError: its picture is another one.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-image not found: pip install scikit-image, it ships the portrait")
    path = Path(spec.origin).parent / "data" / "astronaut.png"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != PICTURE_SHA256:
        raise ValueError(f"{path} is not the picture this script was written for: its sha256 differs")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"{path} cannot be decoded")
    return picture.astype(np.float32)


def draw_frames(portrait: Picture) -> Iterator[NDArray[np.uint8]]:
    """Yields the clip's frames, (HEIGHT, WIDTH, 3) uint8 RGB: the print over a gradient, moved along `POSES`."""
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    wall = draw_wall()
    card, opacity, shade = draw_card(portrait)
    pad = (card.shape[1] - portrait.shape[1]) / 2
    for number in range(round(POSES[-1].seconds * RATE)):
        seconds = number / RATE
        pose = pose_at(seconds)
        frame = wall.copy()
        if not AWAY[0] <= seconds <= AWAY[1]:
            place = cv2.getRotationMatrix2D((FACE[0] + pad, FACE[1] + pad), pose.degrees, pose.scale * OVERSAMPLING)
            place[:, 2] += (pose.x * OVERSAMPLING - FACE[0] - pad, pose.y * OVERSAMPLING - FACE[1] - pad)
            layers = (cv2.warpAffine(layer, place, size, flags=cv2.INTER_LINEAR) for layer in (card, opacity, shade))
            colour, alpha, shadow = (cv2.resize(layer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
                                     for layer in layers)
            # `colour` is already weighted by its opacity, else its edges would mix with black.
            frame = frame * (1 - shadow[..., None]) * (1 - alpha[..., None]) + colour
        yield np.clip(np.rint(frame * pose.light), 0, 255).astype(np.uint8)


def pose_at(seconds: float) -> Pose:
    """Returns the pose at a time within the clip, eased between the two of `POSES` around it."""
    before, after = next(pair for pair in pairwise(POSES) if seconds < pair[1].seconds)
    share = (seconds - before.seconds) / (after.seconds - before.seconds)
    eased = share * share * (3 - 2 * share)
    return Pose(*(a + (b - a) * eased for a, b in zip(astuple(before), astuple(after), strict=True)))


def draw_wall() -> Picture:
    """Draws the background: blue-grey, lit from the upper left, never black."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    distance = np.hypot((x / WIDTH - 0.36) * 1.1, y / HEIGHT - 0.30)[..., None]
    lit, far = np.array([176, 190, 202], np.float32), np.array([66, 82, 104], np.float32)
    return lit + (far - lit) * np.clip(distance, 0, 1)


def draw_card(portrait: Picture) -> tuple[Picture, Picture, Picture]:
    """Turns the portrait into a print with a white border and room for its shadow around it.

    Returns:
        The print (H, W, 3), weighted by its opacity; its opacity; its shadow's opacity; all of one height and width.
    """
    margin = 40
    width = portrait.shape[1]
    card = cv2.copyMakeBorder(
        portrait[:CARD_ROWS], BORDER, BORDER, BORDER, BORDER, cv2.BORDER_CONSTANT, value=(244.0, 243.0, 240.0))
    around = margin - BORDER
    opacity = np.zeros((CARD_ROWS + 2 * margin, width + 2 * margin), np.float32)
    opacity[around:-around, around:-around] = 1
    card = cv2.copyMakeBorder(card, around, around, around, around, cv2.BORDER_CONSTANT, value=(0.0, 0.0, 0.0))
    fallen = np.roll(opacity, (7, 4), (0, 1))
    shadow = 0.45 * cv2.GaussianBlur(fallen, (0, 0), 8)
    return card.astype(np.float32), opacity, shadow.astype(np.float32)


def encode(frames: Iterator[NDArray[np.uint8]], output: Path) -> None:
    """Writes frames as H.264 in MP4, the same bytes for the same frames and the same libraries."""
    reproducible = {"fflags": "+bitexact", "movflags": "+faststart"}
    with av.open(str(output), "w", format="mp4", options=reproducible) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.gop_size = 3 * RATE
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        context.options = {
            "profile": "high", "preset": "veryslow", "crf": "23",
            "x264-params": "threads=1:lookahead-threads=1:cpu-independent=1",
        }
        for number, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())

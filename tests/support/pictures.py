"""Pictures for test videos: numbered ones that can be read back, and ones with a face at a known place."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

import emotiond

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB or (H, W) grey, 0..255."""

Place = tuple[float, float, float]
"""Left, top and side of a square, in pixels."""

_BITS = 16


def numbered_frames(count: int, width: int = 320, height: int = 240, first: int = 0) -> Iterator[Picture]:
    """Yields grey pictures that move, each with its number (0..65535) as a bar code in its top quarter."""
    rows, columns = np.mgrid[:height, :width]
    ground = ((rows + columns) % 200 + 20).astype(np.uint8)
    for number in range(first, first + count):
        picture = np.roll(ground, 3 * number, axis=1)
        draw_number(picture, number)
        yield picture


def draw_number(picture: Picture, number: int) -> None:
    """Draws 0..65535 over the top quarter: a row of its bits, white for 1, and below it a row of their inverse."""
    assert 0 <= number < 1 << _BITS
    bits = np.array([number >> bit & 1 for bit in range(_BITS)], bool)
    code = np.where(np.stack([bits, ~bits]), 235, 20).astype(np.uint8)
    height, width = picture.shape[:2]
    band = cv2.resize(code, (width, max(height // 4, 2)), interpolation=cv2.INTER_NEAREST)
    picture[:len(band)] = band if picture.ndim == 2 else band[..., None]


def read_number(picture: Picture) -> int | None:
    """Reads what `draw_number` drew, also after scaling and lossy coding; None where there is no whole bar code."""
    grey = picture if picture.ndim == 2 else picture.mean(axis=2)
    height, width = grey.shape
    middles = (np.arange(_BITS) + 0.5) * width / _BITS
    columns = middles.astype(int)
    reach = max(width // _BITS // 4, 1)
    above, below = (
        np.array([grey[row - 1:row + 1, column - reach:column + reach].mean() for column in columns])
        for row in (max(height // 16, 1), max(height * 3 // 16, 3)))
    if (np.abs(above - below) < 60).any():
        return None
    return int(sum(1 << bit for bit in range(_BITS) if above[bit] > below[bit]))


@cache
def smiling_face() -> Picture:
    """Returns the head of the demo's portrait, (320, 320, 3); the face itself is about half as wide."""
    clip = Path(emotiond.__file__).parent / "demo" / "portrait.mp4"
    with av.open(str(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == 48:      # where the portrait is nearest
                return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)[18:338, 170:490]
    raise AssertionError(f"{clip} is too short")


def paste(canvas: Picture, face: Picture, place: Place) -> None:
    """Draws a picture over a square of another, whose edge may cut it off."""
    left, top, side = (round(value) for value in place)
    shrinks = face.shape[0] > side
    scaled = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    height, width = canvas.shape[:2]
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    if y0 < y1 and x0 < x1:
        canvas[y0:y1, x0:x1] = scaled[y0 - top:y1 - top, x0 - left:x1 - left]


def write_photo(path: Path, picture: Picture, orientation: int = 1) -> Path:
    """Writes an RGB picture as JPEG with this EXIF orientation (1 to 8) and returns `path`."""
    content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + tag + struct.pack("<I", 0)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])
    return path


def read_picture(path: Path) -> Picture:
    """Reads a picture's file as RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None, f"{path} cannot be read"
    return np.asarray(picture, np.uint8)


def write_huge_png(path: Path) -> Path:
    """Writes a few bytes that claim to be a picture of 16,384 x 16,384, and returns `path`."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 16384, 16384, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * 16384 + 1) * 64)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def face_frames(
    count: int,
    width: int = 640,
    height: int = 360,
    where: Callable[[int], list[Place]] | None = None,
    face: Picture | None = None,
) -> Iterator[Picture]:
    """Yields `count` RGB pictures of faces on a grey wall.

    Args:
        count: pictures.
        width: of a picture.
        height: of a picture.
        where: gives the places of the heads in the n-th picture; default: one in the middle that fills the height.
        face: a square picture of a head; default: `smiling_face()`.
    """
    face = smiling_face() if face is None else face
    middle: list[Place] = [((width - height) / 2, 0, height)]
    wall = np.repeat(np.linspace(110, 150, width, dtype=np.uint8)[None, :, None], 3, axis=2)
    for number in range(count):
        canvas = np.repeat(wall, height, axis=0)
        for place in where(number) if where else middle:
            paste(canvas, face, place)
        yield canvas

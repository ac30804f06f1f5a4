"""Pictures in a folder or a tar: their files, decoded to grey."""

import lzma
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn, Self

import cv2
import numpy as np

from emotionnet import MOST_PIXELS
from emotionnet.preprocess import Grey, resize

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
LARGEST_FILE = 64 * 1024 * 1024
"""Bytes of a picture's file; a tar can claim any number."""


class PicturesError(ValueError):
    """Pictures cannot be used; the message says what is wrong and how to mend it."""


class DecodeError(ValueError):
    """A file is no picture that can be used; the message says in a few words why."""


@dataclass(frozen=True)
class Entry:
    """A folder, or a picture's file.

    Attributes:
        parts: the path below the source, component by component.
        content: of the file; None for a folder.
    """

    parts: tuple[str, ...]
    content: bytes | None


def read_files(path: Path, others: Counter[str] | None = None) -> Iterator[Entry]:
    """Yields the folders and the files of pictures in a folder or a tar, hidden ones left out, in no certain order.

    Args:
        path: of the folder or the tar.
        others: counts files of other kinds, by the end of their name in lower case (`.gif`; empty for none).

    Raises:
        PicturesError: nothing there, no tar, a file that cannot be read or is larger than LARGEST_FILE.
    """
    if path.is_dir():
        yield from _read_folder(path, Counter() if others is None else others)
    elif path.is_file():
        yield from _read_tar(path, Counter() if others is None else others)
    else:
        raise PicturesError(f"{path}: no such folder or file; give a folder of pictures, or a tar")


def decode(content: bytes) -> Grey:
    """Returns a picture in grey, (H, W), turned upright where its EXIF says how.

    Args:
        content: of a JPEG, PNG, BMP or WebP file.

    Raises:
        DecodeError: not such a file, cut off, or more than MOST_PIXELS, which is seen before decoding.
    """
    if _is_cut_off(content):
        raise DecodeError("cut off")
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE) if content else None
    except cv2.error as error:
        if "pixels" in str(error):
            raise DecodeError(f"more than {MOST_PIXELS // 1024 // 1024} million pixels") from error
        raise DecodeError("cannot be decoded") from error
    if picture is None:
        raise DecodeError("no picture")
    return np.asarray(picture, np.uint8)


def _is_cut_off(content: bytes) -> bool:
    """Looks for the end of a file: OpenCV makes up the rest of a JPEG, and writes to the terminal about others."""
    if content.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in content
    if content.startswith(b"\x89PNG"):
        return b"IEND" not in content
    return content.startswith(b"BM") and int.from_bytes(content[2:6], "little") > len(content)


def square(picture: Grey, side: int) -> Grey:
    """Cuts the middle square out of (H, W) and scales it to (side, side): by area down, bilinear up."""
    height, width = picture.shape
    inner = min(height, width)
    top, left = (height - inner) // 2, (width - inner) // 2
    return resize(np.ascontiguousarray(picture[top:top + inner, left:left + inner]), side)


def _read_folder(path: Path, others: Counter[str]) -> Iterator[Entry]:
    """Follows links to folders, but enters no folder twice."""
    def refuse(error: OSError) -> NoReturn:
        raise PicturesError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from error

    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(path, onerror=refuse, followlinks=True):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        parts = Path(folder).relative_to(path).parts
        yield Entry(parts, None)
        for name in files:
            if not _is_picture(name, others):
                continue
            file = Path(folder, name)
            try:
                _refuse_large(str(file), file.stat().st_size)
                content = file.read_bytes()
            except OSError as error:
                raise PicturesError(f"{file}: cannot be read ({error.strerror}); mend or remove it") from error
            yield Entry((*parts, name), content)


def _read_tar(path: Path, others: Counter[str]) -> Iterator[Entry]:
    try:
        with tarfile.open(path, tarinfo=_Member) as tar:
            files: dict[PurePosixPath, tarfile.TarInfo] = {}
            links: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []
            for member in tar:
                if member.isfile():
                    files[PurePosixPath(member.name)] = member
                parts = tuple(part for part in PurePosixPath(member.name).parts if part not in {"/", ".", ".."})
                if any(part.startswith(".") for part in parts):
                    continue
                if member.isdir():
                    yield Entry(parts, None)
                elif member.isfile() and parts and _is_picture(parts[-1], others):
                    _refuse_large(f"{path}: {member.name}", member.size)
                    content = tar.extractfile(member)
                    yield Entry(parts, content.read() if content else b"")
                elif member.islnk() and parts and _is_picture(parts[-1], others):
                    target = files.get(PurePosixPath(member.linkname))
                    if target is None:
                        raise PicturesError(f"{path}: {member.name} is a link to {member.linkname}, which is not in "
                                            "front of it in the tar; pack it again, `tar --hard-dereference`")
                    links.append((parts, target))
            # in the order of their contents, so that what is compressed is read but once more
            for parts, target in sorted(links, key=lambda link: link[1].offset_data):
                _refuse_large(f"{path}: {target.name}", target.size)
                content = tar.extractfile(target)
                yield Entry(parts, content.read() if content else b"")
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PicturesError(f"{path}: cannot be read as a tar ({reason}); fetch it again") from error


class _Member(tarfile.TarInfo):
    """A member of a tar that must be whole: tarfile takes a header that is cut or broken for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parses a header; only a block of zeros is the end."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error)) from error


def _is_picture(name: str, others: Counter[str]) -> bool:
    """Goes by the name; counts what is neither a picture nor hidden."""
    suffix = PurePosixPath(name).suffix.lower()
    if name.startswith("."):
        return False
    others[suffix] += suffix not in SUFFIXES
    return suffix in SUFFIXES


def _refuse_large(name: str, size: int) -> None:
    if size > LARGEST_FILE:
        raise PicturesError(f"{name}: has {size:,} bytes, more than the {LARGEST_FILE:,} that a picture may have; "
                            "remove it or scale it down")

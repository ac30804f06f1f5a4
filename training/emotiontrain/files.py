"""Files that are written whole or not at all."""

from pathlib import Path

from emotionnet import files


def write_whole(path: Path, content: bytes) -> None:
    """Writes `content`, and makes the folders on the way; where that fails, an older file stays as it was.

    Raises:
        OSError: the file cannot be written; the message names it and the mend.
    """
    files.write_whole({path: content}, "make room or choose another place")

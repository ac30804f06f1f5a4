"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes `content`, and makes the folders on the way; where that fails, an older file stays as it was.

    Raises:
        OSError: the file cannot be written; the message names it and the mend.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}); make room or choose another place") from error
    finally:
        if partial.is_file():
            partial.unlink()

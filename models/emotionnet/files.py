"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(
    files: Mapping[Path, bytes], mend: str = "make room or choose another folder, and run the same again",
    mode: int = 0o666,
) -> None:
    """Writes files, and makes the folders on the way.

    All are written and flushed to the disk as `<name>.part` first, then each takes its place in the given order; so
    what was there stays as it was where the disk is full or the program is stopped before that. One that is stopped
    while they take their places leaves the first ones new and the others old, each of them whole: what belongs
    together says so by hashes, with the file that names them last.

    Args:
        files: path -> content.
        mend: what to do where a file cannot be written, for the message.
        mode: who may read and write them, less what the umask takes away.

    Raises:
        OSError: one cannot be written; the message names it.
    """
    partials = {path: path.with_name(f"{path.name}.part") for path in files}
    path = next(iter(files))
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partials[path], "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is where its folder should be" if in_the_way else error.strerror
        raise OSError(f"{path}: cannot be written ({reason}); {mend}") from error
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):  # a file that took its place has no part any more
                partial.unlink()

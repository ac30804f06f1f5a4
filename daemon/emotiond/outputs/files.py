"""Which files a replay writes, checked before it starts; and a failure to write in one sentence."""

import contextlib
import importlib
import os
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from emotiond.errors import CommandError, UsageError
from emotiond.source import error_words

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_DRAWN = (".jpg", ".jpeg", ".png")      # what annotated pictures may be written as
_CHARTS, _TABLES = (".html", ".png"), (".csv", ".parquet")


@dataclass(frozen=True)
class Files:
    """What is to be written.

    Attributes:
        events: JSON lines; `-` is stdout.
        annotated: stream -> video or picture.
        chart: HTML or PNG.
        table: CSV or Parquet.
    """

    events: Path | None = None
    annotated: dict[str, Path] = field(default_factory=dict[str, Path])
    chart: Path | None = None
    table: Path | None = None

    @property
    def all(self) -> list[Path]:
        """Every one of them that is a file."""
        single = [path for path in (self.events, self.chart, self.table) if path and str(path) != "-"]
        return single + list(self.annotated.values())


def is_picture(source: str) -> bool:
    """Tells whether a source is a single picture, by its name."""
    return Path(source).suffix.lower() in PICTURES


def plan_files(
    events: Path | None, annotate: Path | None, timeline: Path | None, table: Path | None, sources: Mapping[str, str]
) -> Files:
    """Works out the files and makes the folder of the annotated ones; nothing is overwritten yet.

    Args:
        events: of `--events`.
        annotate: of `--annotate`.
        timeline: of `--timeline`.
        table: of `--table`.
        sources: stream -> file or URL.

    Raises:
        UsageError: a name says no format, or means a source, or two outputs.
        CommandError: something cannot be written.
    """
    _check_suffix("--timeline", timeline, _CHARTS)
    _check_suffix("--table", table, _TABLES)
    if timeline and all(map(is_picture, sources.values())):
        raise UsageError("--timeline: pictures have no time; give a video, or leave it out")
    annotated = _plan_annotated(annotate, sources) if annotate else {}
    files = Files(events, annotated, timeline, table)
    read, written = {_identity(Path(source)) for source in sources.values()}, set[object]()
    for path in files.all:
        identity = _identity(path)
        if identity in read:
            raise UsageError(f"{path}: is one of the sources; name another file")
        if identity in written:
            raise UsageError(f"{path}: two outputs would be written there; name another file for one")
        written.add(identity)
    if annotate and annotate not in annotated.values():
        with writing(annotate):
            annotate.mkdir(exist_ok=True)
    for path in files.all:
        _check_writable(path)
    return files


@contextlib.contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns a failure to write a file into one sentence.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise not_written(path, error) from None


@contextlib.contextmanager
def discarding(path: Path) -> Generator[None]:
    """As `writing`; what was written then does not stay, since without its end it is of no use.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        with writing(path):
            yield
    except CommandError:
        discard(path)
        raise


def discard(path: Path) -> None:
    """Takes a file away; devices, pipes and links stay."""
    if path.is_file() and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()


def not_written(path: Path, error: OSError | FFmpegError) -> CommandError:
    """Returns the failure in one sentence."""
    return CommandError(f"{path}: cannot be written ({error_words(error)}); name another file")


def import_extra(module: str, path: Path, instead: str) -> Any:
    """Imports a library that the base install does without.

    Raises:
        CommandError: it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        library = module.partition(".")[0]
        raise CommandError(f"{path}: needs {library}, which is not installed; "
                           f"pip install 'emotiond[report]', or name {instead}") from None


def _check_suffix(option: str, path: Path | None, known: tuple[str, ...]) -> None:
    if path and path.suffix.lower() not in known:
        raise UsageError(f"{option}: {path} says no format that can be written; name a file that ends in "
                         f"{' or '.join(known)}")


def _plan_annotated(target: Path, sources: Mapping[str, str]) -> dict[str, Path]:
    """Gives each stream its file: the one that is named, or one by the stream's name in the folder that is named."""
    if target.is_dir() or not target.suffix:
        return {name: target / f"{name}{_own_suffix(source)}" for name, source in sources.items()}
    if len(sources) > 1:
        raise UsageError(f"--annotate: {target} is one file for {len(sources)} sources; name a folder")
    (name, source), = sources.items()
    _check_suffix("--annotate", target, _DRAWN if is_picture(source) else (".mp4",))
    return {name: target}


def _own_suffix(source: str) -> str:
    if not is_picture(source):
        return ".mp4"
    suffix = Path(source).suffix.lower()
    return suffix if suffix in _DRAWN else ".png"


def _identity(path: Path) -> object:
    """Returns what two names of one file have in common; a pipe or device is none, and may be named twice."""
    if is_special(path):
        return object()
    if not os.path.exists(path):
        return os.path.realpath(path)
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_special(path: Path) -> bool:
    """Tells whether there is something else than a file or folder: a pipe or a device, which holds nothing to lose."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _check_writable(path: Path) -> None:
    """Opens a file as if to write it, without changing it.

    Raises:
        CommandError: that is not possible.
    """
    if is_special(path):      # a pipe's reader would see its end
        return
    with writing(path):
        new = not os.path.lexists(path)
        path.open("ab").close()
        if new:
            path.unlink()

"""A row for each face of each frame, as CSV or Parquet, written as it goes."""

import contextlib
import csv
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from emotiond.errors import CommandError
from emotiond.events import FrameEvent, rfc3339
from emotiond.frames import Frame
from emotiond.outputs.files import discarding, import_extra, writing

BATCH_ROWS = 4096       # turned into Arrow's columns at once
GROUP_ROWS = 1 << 16    # of a row group of Parquet; about 10 MB of memory

# name -> Arrow's type; between the last two, a column for each label
_COLUMNS = {
    "stream": "string", "frame": "int64", "time": "time", "pts": "float64", "track_id": "int64",
    "x": "int32", "y": "int32", "width": "int32", "height": "int32", "score": "float64",
    "emotion": "string", "confidence": "float64", "smoothed_emotion": "string", "smoothed_confidence": "float64",
    "abstained": "bool_", "carried": "bool_", "model": "string"}


def open_table(path: Path, labels: Sequence[str]) -> "CsvTable | ParquetTable":
    """Prepares a table in the format that its name says; it is opened with the first frame.

    Args:
        path: ends in .csv or .parquet.
        labels: of the probabilities.

    Raises:
        CommandError: it needs a library that is missing.
    """
    return CsvTable(path, labels) if path.suffix.lower() == ".csv" else ParquetTable(path, labels)


def column_names(labels: Sequence[str]) -> list[str]:
    """Returns the columns of a table; the probability of a label is in `p_` and its name."""
    names = list(_COLUMNS)
    return [*names[:-1], *(f"p_{label}" for label in labels), names[-1]]


def _rows(event: FrameEvent, time: Any, labels: Sequence[str]) -> Iterator[list[Any]]:
    for face in event.faces:
        box = face.box
        yield [event.stream, event.frame, time, event.pts, face.track_id, box.x, box.y, box.width, box.height,
               face.score, face.emotion, face.confidence, face.smoothed.emotion, face.smoothed.confidence,
               face.abstained, face.carried, *(face.probabilities[label] for label in labels), event.model]


class CsvTable:
    """Times in RFC 3339, true and false, and nothing where a frame has no `pts`."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path, self._labels = path, labels
        self._file: TextIO | None = None

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Writes the rows of a frame."""
        with writing(self._path):
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8", newline="")
                self._writer = csv.writer(self._file, lineterminator="\n")
                self._writer.writerow(column_names(self._labels))
            for row in _rows(event, rfc3339(frame.captured_us), self._labels):
                self._writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row])

    def close(self) -> None:
        """Writes what is left."""
        if self._file:
            with writing(self._path):
                self._file.close()


class ParquetTable:
    """Typed columns, times in UTC with microseconds, row groups of `GROUP_ROWS`."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path, self._labels = path, labels
        self._arrow = import_extra("pyarrow", path, "a .csv")
        self._parquet = import_extra("pyarrow.parquet", path, "a .csv")
        types = _COLUMNS | {f"p_{label}": "float64" for label in labels}
        self._schema = self._arrow.schema([(name, self._type(types[name])) for name in column_names(labels)])
        self._rows: list[list[Any]] = []
        self._batches: list[Any] = []
        self._file: BinaryIO | None = None
        self._writer: Any = None

    def take(self, event: FrameEvent, frame: Frame) -> None:
        """Takes the rows of a frame, and writes a row group where enough have come."""
        with self._all_or_nothing():
            if self._file is None:
                self._file = self._path.open("wb")
                self._writer = self._parquet.ParquetWriter(self._file, self._schema, compression="zstd")
            self._rows += _rows(event, frame.captured_us, self._labels)
            if len(self._rows) >= BATCH_ROWS:
                self._make_batch()
            if sum(batch.num_rows for batch in self._batches) >= GROUP_ROWS:
                self._write_group()

    def close(self) -> None:
        """Writes what is left, and what makes the file a whole."""
        if self._file is None:
            return
        with self._all_or_nothing(), self._file, contextlib.closing(self._writer):
            if self._rows:
                self._make_batch()
            if self._batches:
                self._write_group()

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Generator[None]:
        """Takes the file away where it cannot be written to its end: nobody could read it."""
        try:
            with discarding(self._path):
                yield
        except CommandError:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                if self._file:
                    stack.enter_context(self._file)
                if self._writer:
                    stack.enter_context(contextlib.closing(self._writer))
            self._file = self._writer = None
            raise

    def _make_batch(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [self._arrow.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._batches.append(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows = []

    def _write_group(self) -> None:
        group, self._batches = self._arrow.Table.from_batches(self._batches), []
        self._writer.write_table(group, row_group_size=group.num_rows)

    def _type(self, name: str) -> Any:
        return self._arrow.timestamp("us", tz="UTC") if name == "time" else getattr(self._arrow, name)()

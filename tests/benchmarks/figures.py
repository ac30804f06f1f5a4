"""What a benchmark hands on: figures, each with the values of its rounds, and how they are kept in a file."""

import statistics
from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One cell of a table.

    Attributes:
        table: title of the table that it stands in; a part may have several.
        row: what it is a figure of.
        column: what was measured.
        values: one for each round.
        unit: of the values; empty for ratios and counts.
        least: whether the least of the rounds counts, as for processor time, to which a busy neighbour can only add;
            else the middle one does.
    """

    table: str
    row: str
    column: str
    values: tuple[float, ...]
    unit: str = ""
    least: bool = False

    @property
    def value(self) -> float:
        """The one of the rounds that counts."""
        return min(self.values) if self.least else statistics.median(self.values)


class Measured(msgspec.Struct, frozen=True):
    """What one part measured.

    Attributes:
        command: the shell command that measures it again.
        commit: what was measured, as git names it.
        date: when, in UTC.
        seconds: how long it took.
        figures: row by row.
        missing: sentences about what was not measured and why.
    """

    command: str
    commit: str
    date: str
    seconds: float
    figures: tuple[Figure, ...] = ()
    missing: tuple[str, ...] = ()


class Results(msgspec.Struct):
    """All parts that were measured on one machine."""

    machine: dict[str, str]
    parts: dict[str, Measured] = {}


class Sheet:
    """Collects the figures of a part: values of the same cell are its rounds."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, str], tuple[list[float], str, bool]] = {}
        self.missing: list[str] = []

    def add(self, table: str, row: str, column: str, value: float, unit: str = "", *, least: bool = False) -> None:
        """Takes the value of one round; `least` as in `Figure`."""
        self._cells.setdefault((table, row, column), ([], unit, least))[0].append(value)

    def value(self, table: str, row: str, column: str) -> float:
        """Returns what counts of a cell's rounds so far."""
        values, unit, least = self._cells[table, row, column]
        return Figure(table, row, column, tuple(values), unit, least).value

    def lacks(self, sentence: str) -> None:
        """Notes what was not measured and why, once."""
        if sentence not in self.missing:
            self.missing.append(sentence)

    def figures(self) -> tuple[Figure, ...]:
        """Returns all cells, in the order in which they were begun."""
        return tuple(Figure(*key, tuple(float(f"{value:.5g}") for value in values), unit, least)
                     for key, (values, unit, least) in self._cells.items())


def read(file: Path) -> Results | None:
    """Returns what an earlier run wrote; None where there is nothing of use."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError):
        return None


def write(file: Path, results: Results) -> None:
    """Writes the raw figures."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")

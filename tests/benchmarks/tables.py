"""Figures as tables: on a terminal and in Markdown."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from tests.benchmarks.figures import Figure

YES_OR_NO = "yes or no"
NOTHING = ""


@dataclass(frozen=True)
class Grid:
    """One table: its title, the titles of its columns with their units, and its rows."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def grids(figures: Iterable[Figure]) -> list[Grid]:
    """Lays figures out, each table with its rows and columns in the order in which they come first."""
    by_table: dict[str, dict[tuple[str, str], Figure]] = {}
    for figure in figures:
        by_table.setdefault(figure.table, {})[figure.row, figure.column] = figure
    return [_lay_out(title, cells) for title, cells in by_table.items()]


def _lay_out(title: str, cells: dict[tuple[str, str], Figure]) -> Grid:
    rows, columns = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    units = {column: next(figure.unit for (_, other), figure in cells.items() if other == column) for column in columns}
    titles = [f"{column}, {units[column]}" if units[column] not in ("", YES_OR_NO) else column for column in columns]
    return Grid(title, titles, [[row, *(show(cells.get((row, column))) for column in columns)] for row in rows])


def show(figure: Figure | None) -> str:
    """Returns a figure with about three digits; whole numbers as they are."""
    if figure is None:
        return NOTHING
    if figure.unit == YES_OR_NO:
        return "yes" if all(figure.values) else "no"
    value = figure.value
    if abs(value) >= 100 or all(each == int(each) for each in figure.values):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def markdown(grid: Grid) -> str:
    """Returns a table for a page; its title stands above it in bold."""
    lines = [["", *grid.columns], ["---", *["---:"] * len(grid.columns)], *grid.rows]
    return "\n".join([f"**{grid.title}**", "", *(f"| {' | '.join(line)} |" for line in lines)])


def terminal(grid: Grid) -> Table:
    """Returns a table for a terminal."""
    table = Table(box=None, pad_edge=False, title=grid.title, title_justify="left", title_style="bold")
    for index, column in enumerate(["", *grid.columns]):
        table.add_column(column, justify="right" if index else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def spread(figures: Iterable[Figure]) -> str:
    """Returns a sentence about how far the rounds of a figure lie apart; empty where each was measured once."""
    figures = list(figures)
    apart = sorted((max(f.values) - min(f.values)) / abs(f.value) for f in figures
                   if len(set(f.values)) > 1 and f.value)      # counts, which are the same each time, tell nothing
    rounds = max((len(f.values) for f in figures), default=0)
    if not apart:
        return ""
    middle, most = 100 * apart[len(apart) // 2], 100 * apart[-1]
    kinds = {figure.least for figure in figures if len(figure.values) > 1}
    what = ("Processor times the least, others medians" if len(kinds) > 1 else "The least" if True in kinds
            else "Medians")
    return (f"{what} of up to {rounds} rounds, taken in turn; a figure's rounds lie {middle:.0f} % apart in the "
            f"middle case, {most:.0f} % at most.")

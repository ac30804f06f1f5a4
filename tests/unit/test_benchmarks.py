"""The page of benchmarks is made of its raw figures; it says how each is measured again, and what is missing."""

import re
from pathlib import Path

import pytest

from tests.benchmarks import aims, figures, latency, page, plots, whole
from tests.benchmarks.density import search
from tests.benchmarks.figures import Measured, Results, Sheet
from tests.benchmarks.modes import MODES
from tests.benchmarks.parts import PARTS
from tests.benchmarks.streams import Live
from tests.benchmarks.tables import grids, spread

ROOT = Path(__file__).parents[2]


def measured(part: str, *cells: tuple[str, str, str, float], missing: tuple[str, ...] = ()) -> Measured:
    sheet = Sheet()
    for cell in cells:
        sheet.add(*cell, "ms")
    command, date = f"python -m tests.benchmarks {part}", "2026-01-31 12:00 UTC"
    return Measured(command, "abc1234", date, 1.0, sheet.figures(), missing)


@pytest.fixture
def results() -> Results:
    return Results({"CPU": "one that nobody has"}, {
        "whole": measured("whole", ("Time", "a clip", "full", 13.7), ("Time", "a clip", "full", 13.9),
                          ("Time", "a clip", "full", 19.0), ("Rates", "a clip", "1 core", 123.0)),
        "peers": measured("peers", ("a clip", "fer", "frames a second", 16.0), missing=("facex: it is not here",))})


def sections(text: str) -> dict[str, str]:
    return {title: body for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)}


def test_the_page_has_a_section_for_each_part_and_says_which_was_not_measured(results: Results, tmp_path: Path) -> None:
    found = sections(page.render(results, {}, tmp_path))

    assert list(found) == [part.title for part in PARTS.values()]
    absent = [title for title, body in found.items() if page.NOT_HERE in body]
    assert absent == [part.title for name, part in PARTS.items() if name not in results.parts]


def test_every_table_names_the_command_that_measures_it(results: Results, tmp_path: Path) -> None:
    body = sections(page.render(results, {}, tmp_path))[PARTS["whole"].title]

    tables = re.findall(r"^\*\*(.*)\*\*\n\n(?:\|.*\n)+\n`python -m tests\.benchmarks whole`$", body, re.MULTILINE)
    assert tables == ["Time", "Rates"]


def test_a_figure_is_the_median_of_its_rounds_and_what_is_missing_is_said(results: Results, tmp_path: Path) -> None:
    text = page.render(results, {}, tmp_path)

    assert "| a clip | 13.9 |" in text
    assert "Medians of up to 3 rounds" in text
    assert "- facex: it is not here" in text
    assert "one that nobody has" in text


def test_of_processor_times_the_least_of_the_rounds_counts() -> None:
    sheet = Sheet()
    for value in (13.7, 12.1, 19.0):
        sheet.add("Time", "a clip", "full", value, "ms", least=True)
        sheet.add("Time", "a clip", "wall", value, "ms")

    assert sheet.value("Time", "a clip", "full") == 12.1
    assert grids(sheet.figures())[0].rows == [["a clip", "12.1", "13.7"]]
    assert spread(sheet.figures()).startswith("Processor times the least, others medians of up to 3 rounds")


def test_links_of_the_contents_lead_to_headings(results: Results, tmp_path: Path) -> None:
    text = page.render(results, {}, tmp_path)

    headings = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in sections(text)}
    assert set(re.findall(r"\]\(#(.*?)\)", text)) == headings


def test_raw_figures_come_back_as_they_were_written(results: Results, tmp_path: Path) -> None:
    figures.write(tmp_path / "benchmarks.json", results)

    assert figures.read(tmp_path / "benchmarks.json") == results
    assert figures.read(tmp_path / "none.json") is None


def test_a_cell_that_was_not_measured_stays_empty() -> None:
    one, = grids(measured("x", ("t", "a", "left", 1.0), ("t", "b", "right", 0.0123)).figures)

    assert one.columns == ["left, ms", "right, ms"]
    assert one.rows == [["a", "1", ""], ["b", "", "0.012"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pyparsing", "ignore::DeprecationWarning:matplotlib")
def test_plots_are_drawn_of_what_is_there(tmp_path: Path) -> None:
    cells = [("Processor time of a frame, ms, one core", "a clip", column, 10.0)
             for column in ("plain loop", *MODES)]

    files = plots.draw(Results({}, {"whole": measured("whole", *cells)}), tmp_path)

    assert {name: file.read_bytes()[:4] for name, file in files.items()} == {"whole": b"\x89PNG"}


@pytest.mark.parametrize("most", [0, 1, 4, 11, 19, 30])
def test_the_most_streams_that_are_held_are_found(most: int) -> None:
    tried: list[int] = []

    def run(count: int) -> Live:
        tried.append(count)
        return Live(count, 200, 1.0, 100, 6.0, 50.0 if count <= most else 900.0, 0)

    assert search(run, 40) == most
    assert most == 0 or tried.count(most) == 2


def test_the_page_of_a_gpu_names_every_aim_and_says_that_it_was_not_measured() -> None:
    pytest.importorskip("torch", reason="torch missing")
    from tests.benchmarks.gpu.__main__ import GPU
    from tests.benchmarks.gpu.aims import AIMS
    kept = figures.read(ROOT / "docs" / "benchmarks-gpu.json")
    assert kept

    text = page.render(kept, {}, ROOT / "docs", GPU)

    assert (ROOT / "docs" / "benchmarks-gpu.md").read_text(encoding="utf-8") == text
    assert text.count("| not measured | |") == len([aim for aim in AIMS if aim.row(kept.parts) is None])
    assert text.count(page.NOT_HERE) == len(GPU.parts) - len(kept.parts)


def test_the_page_that_is_kept_is_the_one_of_the_figures_that_are_kept() -> None:
    file = ROOT / "docs" / "benchmarks.json"
    kept = figures.read(file)
    if kept is None:      # then there is no page either
        assert not (ROOT / "docs" / "benchmarks.md").exists()
        return
    drawn = {name: path for name in plots.DRAWINGS
             if (path := ROOT / "docs" / "images" / f"bench-{name}.png").exists()}
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page.render(kept, drawn, ROOT / "docs")


def test_the_page_says_which_aims_a_run_reached_and_leaves_out_what_it_did_not_measure(tmp_path: Path) -> None:
    ratios = [("360p", 1.3), ("720p", 1.1), ("1080p", 1.4)]
    results = Results({}, {
        "whole": measured("whole", *((whole.TABLE, clip, "plain loop / full", ratio) for clip, ratio in ratios),
                          *((whole.TABLE, clip, "efficiency", 0.95) for clip, _ in ratios)),
        "latency": measured("latency", (latency.TABLE, "10 live streams, full", "95 %", 120.0))})

    rows = [line.strip("| ").split(" | ") for line in sections(page.render(results, {}, tmp_path))["Aims"].splitlines()
            if line.startswith("| ")]

    assert rows[1:] == [
        ["plain loop's time of a frame over full mode's", "at least 1.25, 1.3", "1.30, 1.10, 1.40", "in part"],
        ["efficiency", "at least 0.92", "0.95, 0.95, 0.95", "yes"],
        ["95th percentile from capture to subscriber with 10 streams, ms", "at most 100", "120", "no"]]
    assert aims.section({}) == ""


def test_every_aim_is_read_off_the_figures_that_were_kept() -> None:
    kept = figures.read(ROOT / "docs/benchmarks.json")
    assert kept
    assert [aim.what for aim in aims.AIMS if aim.row(kept.parts) is None] == []

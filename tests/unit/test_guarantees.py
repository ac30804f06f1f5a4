"""Every sentence of docs/guarantees.md names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[a-z_/]+\.py)\)", re.sub(r"\s+", " ", PAGE))


@pytest.mark.parametrize(("words", "file"), LINKS)
def test_a_link_names_a_test_of_its_file(words: str, file: str) -> None:
    names = re.findall(r"def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"))

    assert [name for name in names if words.replace(" ", "_") in name]


def test_every_link_is_one_of_them() -> None:
    assert len(LINKS) == PAGE.count("](../")

"""The README and the commented configuration say what is true."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from emotiond.cli import build_parser
from emotiond.config_file import load_config
from emotiontrain.cli import build_parser as build_training_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


def blocks(kind: str, text: str = README) -> list[str]:
    return re.findall(rf"^ *```{kind}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Returns the lines of all pages that call one of the two commands, without where their output goes."""
    lines = [line.strip() for text in PAGES for block in blocks("sh", text) for line in block.splitlines()]
    calls = [line for line in lines if re.match(r"(\.venv/bin/)?emotion(d|train) |torchrun ", line)]
    return [re.split(r"\s(?:2?>|\||&)", line)[0] for line in calls]


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    assert len(README.splitlines()) <= 150
    assert [line.partition("#")[0].split() for line in blocks("sh")[0].splitlines()] == [
        ["make", "demo"], ["make", "test"]]


def test_every_file_that_the_readme_links_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_file_of_the_tree_is_there() -> None:
    folder = ROOT
    tree = re.search(r"^```\n(daemon/.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert tree
    for line in tree[1].splitlines():
        names = line.split()
        if not line.startswith(" "):
            folder = ROOT / names[0]
            assert folder.is_dir(), folder
        for name in (name for name in names if re.fullmatch(r"\w+\.(py|lua)", name)):
            assert (folder / name).is_file(), name


@pytest.mark.parametrize("line", commands())
def test_the_commands_of_the_documentation_are_accepted(line: str) -> None:
    line = re.sub(r"^torchrun .* -m (?=emotiontrain )", "", line)
    program, *arguments = shlex.split(line, comments=True)
    parser = build_training_parser() if program.endswith("emotiontrain") else build_parser()
    parser.parse_args(arguments)


def test_the_scripts_of_the_runs_give_commands_that_are_accepted(tmp_path: Path) -> None:
    called, fake = tmp_path / "called", tmp_path / "bin" / "emotiontrain"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$CALLED"; echo >> "$CALLED"\n', encoding="utf-8")
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"

    subprocess.run([ROOT / "training" / "runs" / "shipped.sh", "my data", "votes.csv", "my runs"], check=True,
                   cwd=tmp_path, env={"PATH": path, "CALLED": str(called)}, stdout=subprocess.DEVNULL)

    lines = [line.split("\0")[:-1] for line in called.read_text(encoding="utf-8").splitlines()]
    measured = ["export", "evaluate", "evaluate"]
    assert [line[0] for line in lines] == (["train"] * 6 + measured + ["train"] * 3 + measured
                                         + ["quantize", "evaluate", "evaluate"])
    for line in lines:
        build_training_parser().parse_args(line)


def test_the_configuration_of_the_readme_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "emotiond.yaml"
    file.write_text(blocks("yaml")[0], encoding="utf-8")
    assert set(load_config(file).streams) == {"lobby", "door"}

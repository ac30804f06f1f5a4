"""The command line: what it takes, what it refuses, and how commands end."""

import argparse
import importlib
import math
import os
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond import cli
from emotiond.errors import CommandError, ConfigError, NoInputError, UnavailableError
from tests.support.commands import call, program

COMMANDS = ("demo", "run", "replay", "check", "tail", "probe", "model", "config")


def replay_option(name: str, *arguments: str) -> object:
    return vars(cli.build_parser().parse_args(["replay", "a.mp4", *arguments]))[name]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    ended = call(command, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"usage: emotiond {command}")
    assert callable(importlib.import_module(f"emotiond.commands.{command}").main)


def test_help_names_every_command_and_exit_code() -> None:
    out = call("--help").out

    assert all(f"\n    {command} " in out for command in COMMANDS)
    assert all(f" {code} " in " ".join(out.split()) for code in (0, 1, 2, 66, 69, 78))


@pytest.mark.parametrize("arguments", [
    [], ["watch"], ["replay"], ["model"], ["model", "train"], ["config"], ["config", "print"], ["check", "extra"],
    ["probe"], ["run", "--unknown"], ["model", "export"], ["probe", "a.mp4", "--transport", "sctp"],
    ["probe", "a.mp4", "--seconds", "0"], ["tail", "--limit", "-1"], ["replay", "a.mp4", "--workers", "two"]])
def test_wrong_usage_ends_with_2_and_says_how_it_is_used(arguments: list[str]) -> None:
    ended = call(*arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("usage: emotiond")


@pytest.mark.parametrize(("written", "speed"), [
    ("max", math.inf), ("realtime", 1.0), ("2.0", 2.0), (".5", 0.5), ("10", 10.0)])
def test_a_speed_is_a_word_or_a_factor(written: str, speed: float) -> None:
    assert replay_option("speed", "--speed", written) == speed


@pytest.mark.parametrize("written", ["0", "-1", "nan", "fast", "", "-inf"])
def test_a_speed_that_is_none_is_refused_in_words(written: str) -> None:
    ended = call("replay", "a.mp4", f"--speed={written}")

    assert ended.code == 2
    assert f"'{written}' is not max, realtime or a number above zero" in ended.err


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1)), st.integers(-23 * 60, 23 * 60))  # noqa: DTZ001
def test_a_start_time_is_exact_to_the_microsecond(moment: datetime, offset_minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))

    parsed = replay_option("start_time", "--start-time", aware.isoformat())

    assert parsed == (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(("written", "microseconds"), [
    ("1970-01-01T00:00:00Z", 0), ("2026-01-31T12:00:00.250001Z", 1_769_860_800_250_001),
    ("2026-01-31t14:00:00+02:00", 1_769_860_800_000_000), ("2026-01-31 12:00:00Z", 1_769_860_800_000_000)])
def test_a_start_time_may_be_written_as_rfc_3339_allows(written: str, microseconds: int) -> None:
    assert replay_option("start_time", "--start-time", written) == microseconds


@pytest.mark.parametrize("written", [
    "2026-01-31T12:00:00", "yesterday", "", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "1769860800"])
def test_a_start_time_without_zone_or_before_1970_is_refused_in_words(written: str) -> None:
    ended = call("replay", "a.mp4", "--start-time", written)

    assert ended.code == 2
    assert "write one like 2026-01-31T12:00:00Z" in ended.err


@pytest.mark.parametrize(("error", "code"), [
    (CommandError, 1), (NoInputError, 66), (UnavailableError, 69), (ConfigError, 78)])
def test_a_failure_that_a_user_can_mend_is_lines_on_stderr_and_an_exit_code(
    error: type[CommandError], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error("a.yaml:1: first\na.yaml:2: second")

    monkeypatch.setattr("emotiond.commands.config.main", fail)

    ended = call("config", "schema")

    assert (ended.code, ended.out, ended.err) == (
        code, "", "emotiond: a.yaml:1: first\nemotiond: a.yaml:2: second\n")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("emotiond.commands.config.main", fail)

    with pytest.raises(ZeroDivisionError):
        call("config", "schema")


def test_ctrl_c_ends_with_130_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("emotiond.commands.config.main", interrupt)

    ended = call("config", "schema")

    assert (ended.code, ended.out, ended.err) == (130, "", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["config", "schema"], ["model", "info"]])
def test_a_reader_that_goes_away_is_no_failure(arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*program(), *arguments], stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, text=True,
            timeout=100, check=False, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    finally:
        os.close(writing)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_program_is_installed_under_its_name() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["emotiond"].partition(":")

    assert getattr(importlib.import_module(module), function) is cli.main

"""A small run of each fuzzer, and the proof that each one finds what it looks for."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emotiond.errors import CommandError
from emotiond.events import parse_id, to_json_line
from tests.fuzz.__main__ import TARGETS
from tests.fuzz.configuration import FILE
from tests.fuzz.engine import Fuzzer, Outcome, feed_random, shrink
from tests.support.daemon import with_path

INPUTS = 5000
ENOUGH = 2000       # to find what is broken
NEVER = re.compile("(?!)()")
ROOT = Path(__file__).parents[2]


def fuzz(name: str, inputs: int) -> Outcome:
    target: Any = import_module(f"tests.fuzz.{name.replace('-', '_')}")
    return feed_random(Fuzzer(target), inputs // TARGETS[name], seed=1)


def trusting_reply(reply: Any, sent: Any) -> tuple[int, tuple[int, int]]:
    del sent
    return int(reply[0]), parse_id(reply[1].decode())


def unchecked_record(record: bytes) -> dict[str, bytes]:
    return msgspec.msgpack.decode(record[4:])


def quoting(error: CommandError) -> int:
    """Shows the file that is wrong."""
    print(f"{error}: {FILE.read_text(errors='replace')}")
    return 78


def nothing(*_: object, **__: object) -> None:
    return None


def as_it_is(text: str, **_: object) -> str:
    return text


@pytest.mark.parametrize("name", TARGETS)
def test_a_small_run_finds_nothing(name: str) -> None:
    outcome = fuzz(name, INPUTS)

    assert not outcome.failure
    assert (outcome.inputs, outcome.crashes, outcome.leaks) == (INPUTS // TARGETS[name], 0, 0)


@pytest.mark.parametrize(("name", "place", "broken"), [
    ("redaction", "emotiond.redact._USER_PART", NEVER),
    ("redaction", "emotiond.redact._IN_QUERY", NEVER),
    ("redaction", "emotiond.redact._IN_PATH", NEVER),
    ("redaction", "emotiond.redact.quote", as_it_is),
    ("redaction", "emotiond.redact.unquote", as_it_is),
    ("configuration", "emotiond.cli._report", quoting),
])
def test_a_leak_is_found(name: str, place: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, broken)

    outcome = fuzz(name, ENOUGH)

    assert outcome.leaks
    assert "LeakError" in outcome.failure


@pytest.mark.parametrize(("name", "place", "broken"), [
    ("redaction", "emotiond.redact.MASK", None),
    ("entry-ids", "emotiond.events.EntryIds.rise_above", nothing),
    ("entry-ids", "emotiond.events._ID", re.compile(r"(\d+)-(\d+)")),
    ("records", "tests.fuzz.records.decode_record", unchecked_record),
    ("events", "emotiond.commands.tail._json_line", to_json_line),
    ("replies", "tests.fuzz.replies.parse_reply", trusting_reply),
    ("rounds", "emotiond.publisher.parse_reply", trusting_reply),
    ("configuration", "emotiond.config_file._SENTENCES", None),
])
def test_a_crash_is_found(name: str, place: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, broken)

    outcome = fuzz(name, ENOUGH)

    assert outcome.crashes
    assert "Case(" in outcome.failure


def test_what_fails_is_shrunk_to_the_bytes_that_matter() -> None:
    assert shrink(bytes(range(256)) * 3, lambda data: b"\x07\x08" in data) == b"\x07\x08"
    assert shrink(b"some bytes", lambda data: len(data) >= 3) == b"\0\0\0"
    assert shrink(b"some bytes", lambda data: sum(data) > 100) == b"e"


def run(patch: str) -> "subprocess.CompletedProcess[str]":
    """Runs `make fuzz` with 500 entry ids, on a machine with atheris guided by it, after some lines of Python."""
    code = f"import os, time\nimport emotiond.events as events\nimport tests.fuzz.engine as engine\n{patch}\n" \
        "from tests.fuzz.__main__ import main\nexit(main())"
    return subprocess.run(
        [*with_path(), sys.executable, "-c", code, "--inputs", "500", "--seed", "7", "--target", "entry-ids"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_make_fuzz_prints_a_line_for_each_target() -> None:
    ended = run("")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("seed 7, ")
    assert re.search(r"^entry-ids +500 inputs, +[\d,]+ a second of a core, 0 crashes, 0 leaks$", ended.stdout, re.M)
    assert not ended.stderr


@pytest.mark.parametrize(("patch", "says"), [
    ("events.EntryIds.rise_above = lambda *_: None", "does not rise above"),
    ("events.parse_id = lambda _: os.kill(os.getpid(), 11)", "ends the interpreter"),
    ("engine.HANG_SECONDS = 1; events.parse_id = lambda _: time.sleep(50)", "hangs"),
])
def test_make_fuzz_ends_with_1_and_prints_what_fails(patch: str, says: str) -> None:
    ended = run(patch)

    assert ended.returncode == 1
    assert re.search(r"500|0 inputs, .* [1-9]\d* crashes, 0 leaks$", ended.stdout, re.M)
    assert "entry-ids, seed 7: " in ended.stderr
    assert says in ended.stderr

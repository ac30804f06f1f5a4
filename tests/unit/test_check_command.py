"""`emotiond check` on files that are wrong: one sentence for each fault, with line and key, never a secret."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emotiond import redact
from emotiond.commands.check import _spool_fault
from tests.support.broken_configs import BROKEN, CAMERA, REDIS, REST, SECRET, Broken, stream
from tests.support.commands import Ended, call, run

JARGON = ("Traceback", "[Errno", "<class", "Error", "Input ", "instance of", "dictionary", "tuple", "pydantic", "^[")
"""What a user need not understand."""


def bomb(levels: int, opening: str, closing: str) -> str:
    """Returns a value that is nine times the one before it, `levels` times over: too large to walk."""
    names = [chr(ord("a") + level) for level in range(levels)]
    lines = [f"{names[0]}: &{names[0]} x"]
    for last, name in itertools.pairwise(names):
        items = ", ".join(f"k{i}: *{last}" if opening == "{" else f"*{last}" for i in range(9))
        lines.append(f"{name}: &{name} {opening}{items}{closing}")
    return "streams:\n" + "".join(f"  {line}\n" for line in lines)


@pytest.fixture(autouse=True)
def no_secrets_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file starts without what another one taught the daemon."""
    monkeypatch.setattr(redact, "_secrets", set[str]())


def check(folder: Path, content: str | bytes) -> Ended:
    file = folder / "emotiond.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return call("check", "-c", file)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_wrong_file_gets_one_sentence_that_names_line_and_key_but_no_secret(broken: Broken, tmp_path: Path) -> None:
    ended = check(tmp_path, broken.content)

    assert ended.code == 78
    assert ended.out == ""
    assert len(ended.lines) == 1, ended.err
    place = f"{tmp_path}/emotiond.yaml" + (f":{broken.line}" if broken.line else "")
    start = f"emotiond: {place}: {broken.key}: " if broken.key else f"emotiond: {place}: "
    assert ended.err.startswith(start)
    sentence = ended.err.removeprefix(start)
    assert broken.says in sentence
    assert not [word for word in JARGON if word in sentence]
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("name", [
    "a secret read as an alias", "a slash in Redis' password", "an @ in a camera's password", "a list",
    "nested too deeply"])
def test_the_same_is_said_by_the_command_in_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    file = tmp_path / "emotiond.yaml"
    content = BROKEN[name].content
    file.write_bytes(content if isinstance(content, bytes) else content.encode())

    ended = run("check", "-c", file)

    assert (ended.code, ended.out, len(ended.lines)) == (78, "", 1)
    assert BROKEN[name].says in ended.err
    assert "hunter2" not in ended.err


@pytest.mark.parametrize("name", ["a slash in Redis' password", "no Redis", "a stream named status"])
def test_run_refuses_what_check_refuses(name: str, tmp_path: Path) -> None:
    file = tmp_path / "emotiond.yaml"
    content = BROKEN[name].content
    assert isinstance(content, str)
    file.write_text(content)

    assert call("run", "-c", file) == call("check", "-c", file)


def test_every_fault_of_a_file_is_told_in_the_order_of_its_lines(tmp_path: Path) -> None:
    ended = check(tmp_path, (
        f"instance: edge 1\nredis:\n  url: http://:{SECRET}@redis\nstreams:\n  lobby:\n    source: {CAMERA}\n"
        f"    max_fps: 0\n  front door: {{source: {SECRET}}}\nlog: {{level: loud}}\n"))

    assert ended.code == 78
    assert [line.split(": ")[1:3] for line in ended.lines] == [
        [f"{tmp_path}/emotiond.yaml:{line}", key] for line, key in (
            (1, "instance"), (3, "redis.url"), (7, "streams.lobby.max_fps"), (8, "streams.front door"),
            (9, "log.level"))]
    assert "hunter2" not in ended.err


def test_an_empty_file_lacks_streams_and_a_redis(tmp_path: Path) -> None:
    for content in ("", "# nothing yet\n", "{}", "~"):
        ended = check(tmp_path, content)

        assert ended.code == 78
        assert [line.split(": ")[2] for line in ended.lines] == ["streams", "redis.url"]


@pytest.mark.parametrize(("path", "says"), [
    ("", "Is a directory"), ("none.yaml", "No such file"), ("emotiond.yaml/none", "Not a directory")])
def test_a_file_that_cannot_be_read_is_named(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "emotiond.yaml").write_text(REST)

    ended = call("check", "-c", tmp_path / path)

    assert (ended.code, len(ended.lines)) == (78, 1)
    assert str(tmp_path / path) in ended.err
    assert says in ended.err


@pytest.mark.parametrize("opening", ["[]", "{}"])
@pytest.mark.timeout(30)
def test_aliases_that_multiply_are_refused_without_walking_them_all(opening: str, tmp_path: Path) -> None:
    ended = check(tmp_path, bomb(12, *opening))

    assert ended.code == 78
    assert 12 <= len(ended.lines) < 200
    assert "Traceback" not in ended.err


SECRET_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "empty": (lambda path: path.write_text(""), "is empty"),
    "blank": (lambda path: path.write_text(f" \n{SECRET}\n"), "is empty"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00" + SECRET.encode()), "not text"),
}


@pytest.mark.parametrize(("make", "says"), SECRET_FILES.values(), ids=SECRET_FILES)
def test_a_password_file_that_gives_none_is_named(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    make(tmp_path / "secret")

    ended = check(tmp_path, (
        f"redis:\n  url: {REDIS}\n  password_file: {tmp_path}/secret\n"
        f"streams:\n  lobby:\n    source: rtsp://camera/\n    username: admin\n    password_file: {tmp_path}/secret\n"))

    assert ended.code == 78
    assert [line.split(": ")[1:3] for line in ended.lines] == [
        [f"{tmp_path}/emotiond.yaml:3", "redis.password_file"],
        [f"{tmp_path}/emotiond.yaml:8", "streams.lobby.password_file"]]
    assert all(f"{tmp_path}/secret" in line and says in line for line in ended.lines)
    assert "hunter2" not in ended.err


VARIABLES = {
    "EMOTIOND_REDIS__URL": ("redis.url", f"http://:{SECRET}@redis"),
    "EMOTIOND_REDIS__MAXLEN": ("redis.maxlen", SECRET),
    "EMOTIOND_REDIS__MAX_AGE": ("redis.max_age", "2w"),
    "EMOTIOND_REDIS__PASSWORD_FILE": ("redis.password_file", "/nowhere/at/all"),
    "EMOTIOND_COMPUTE__WORKERS": ("compute.workers", SECRET),
    "EMOTIOND_COMPUTE__DEVICE": ("compute.device", "[gpu"),
    "EMOTIOND_INSTANCE": ("instance", "edge 1"),
    "EMOTIOND_PUBLISH_EMPTY": ("publish_empty", "maybe"),
    "EMOTIOND_SPOOL__MAX_BYTES": ("spool.max_bytes", "{"),
    "EMOTIOND_LOG__LEVEL": ("log.level", "loud"),
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_bad_variable_is_named_instead_of_the_file(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, value = VARIABLES[variable]
    monkeypatch.setenv(variable, value)

    ended = check(tmp_path, stream())

    assert (ended.code, len(ended.lines)) == (78, 1)
    assert ended.err.startswith(f"emotiond: environment variable {variable}: {key}: ")
    assert not [word for word in JARGON if word in ended.err]
    assert "hunter2" not in ended.err


def test_an_unknown_variable_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTIOND_REDIS__PASSWORD", SECRET)
    monkeypatch.setenv("EMOTIOND_PORT", "tcp://10.0.0.1:9470")
    monkeypatch.setenv("EMOTIOND_STREAMS__LOBBY__SOURCE", CAMERA)

    ended = check(tmp_path, stream())

    assert ended.code == 0
    assert [re.findall(r"EMOTIOND_\w+", line) for line in ended.lines] == [
        ["EMOTIOND_PORT"], ["EMOTIOND_REDIS__PASSWORD"], ["EMOTIOND_STREAMS__LOBBY__SOURCE"]]
    assert "hunter2" not in ended.err


def right_files() -> Iterator[tuple[str, str]]:
    yield "a whole file", stream(
        "transport: udp", "max_fps: 12.5", "stall_seconds: 5s", "region: [0, 0, 1, 0.5]",
        "masks: [[0, 0, 0.1, 0.1]]", "labels: {site: hq, floor: '2'}")
    yield "a byte order mark", f"\ufeff{stream()}"
    yield "a percent-encoded password", stream(source="rtsp://admin:p%40%2F%23@camera:554/a?b=c")
    yield "an anchor used twice", (
        f"{REST}streams:\n  a: &a {{source: '{CAMERA}'}}\n  b: *a\n  c: {{<<: *a, max_fps: 5}}\n")
    yield "a socket", stream().replace(REDIS, f"unix://:{SECRET}@/run/redis.sock?db=3")
    yield "a Valkey of its own", stream().replace(REDIS, "embedded")
    yield "a test pattern", stream(source="lavfi:testsrc2=size=640x360:rate=15")


@pytest.mark.parametrize(("content"), dict(right_files()).values(), ids=dict(right_files()))
def test_a_right_file_is_said_to_be_right(content: str, tmp_path: Path) -> None:
    ended = check(tmp_path, content)

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{tmp_path}/emotiond.yaml: ok, ")


def test_a_spool_that_can_be_written_is_no_fault_and_nothing_is_made(tmp_path: Path) -> None:
    for file in (tmp_path / "spool.db", tmp_path / "not" / "yet" / "there" / "spool.db", None):
        assert _spool_fault(file) is None
    assert not list(tmp_path.iterdir())


def test_a_spool_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "can be no file" in (_spool_fault(tmp_path) or "")
    assert "can be no file" in (_spool_fault(tmp_path / "file" / "spool.db") or "")
    (tmp_path / "locked").mkdir(mode=0)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert "cannot be written" in (_spool_fault(tmp_path / "locked" / "below" / "spool.db") or "")
    assert "cannot be written" in (_spool_fault(tmp_path / "spool.db") or "")

"""Log lines: text on a terminal, JSON elsewhere, and no credentials in either, tracebacks included."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emotiond import redact
from emotiond.log import Format, setup_logging

SECRET = "p@ss w'rd\\7"
URL = f"rtsp://viewer:{SECRET}@cam.example/ch1"
FORMATS: tuple[Format, ...] = ("text", "json")


@pytest.fixture(autouse=True)
def own_root_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives the tests the root logger and a `redact` that knows nothing, and puts back what pytest had there."""
    monkeypatch.setattr(redact, "_secrets", set[str]())
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(form: Format, write: Callable[[logging.Logger], None], level: str = "info", terminal: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    setup_logging(form, level, stream)
    write(logging.getLogger("emotiond.test"))
    return stream.getvalue()


def test_a_text_line_has_time_level_message_and_fields() -> None:
    line = written("text", lambda log: log.warning("stream is %s", "down", extra={"stream": "lobby", "n": 3}))

    assert line[2] == line[5] == ":"
    assert line[8:] == " warning stream is down stream=lobby n=3\n"


def test_a_json_line_has_time_level_logger_message_and_fields() -> None:
    line = written("json", lambda log: log.warning("stream is %s", "down", extra={"stream": "lobby", "n": 3}))

    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning", "logger": "emotiond.test", "message": "stream is down", "stream": "lobby", "n": 3}


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(terminal: bool, is_json: bool) -> None:
    line = written("auto", lambda log: log.info("hello"), terminal=terminal)

    assert line.startswith("{") is is_json


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_lines_below_the_level_are_not_written(level: str, lines: int) -> None:
    def write(log: logging.Logger) -> None:
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)("hello")

    assert len(written("json", write, level).splitlines()) == lines


@pytest.mark.parametrize("form", FORMATS)
@given(message=st.text(st.characters(exclude_categories=["Cs"])))
@example(message='a "quoted"\nline\\n\x1b[31m')
def test_any_message_is_written_and_json_stays_one_line(form: Format, message: str) -> None:
    text = written(form, lambda log: log.info("%s", message, extra={"field": message}))

    if form == "json":
        assert text.count("\n") == 1
        assert json.loads(text)["field"] == json.loads(text)["message"] == redact.redact(message)
    else:
        assert redact.redact(message) in text


def raises(log: logging.Logger) -> None:
    try:
        try:
            raise ConnectionError(f"no answer from {URL}")
        except ConnectionError as error:
            raise KeyError(URL) from error
    except KeyError:
        log.exception("failed on %r", URL)


WAYS: dict[str, Callable[[logging.Logger], Any]] = {
    "in the message": lambda log: log.info(f"opening {URL}"),
    "as an argument": lambda log: log.info("opening %s", URL),
    "as a repr": lambda log: log.info("opening %r", [URL]),
    "the password alone": lambda log: log.info("AUTH %s", SECRET),
    "in a field": lambda log: log.info("opening", extra={"source": URL}),
    "in a list in a field": lambda log: log.info("opening", extra={"sources": [URL, (SECRET,)]}),
    "in a mapping in a field": lambda log: log.info("opening", extra={"streams": {"lobby": {"source": URL}}}),
    "in an exception in a field": lambda log: log.info("opening", extra={"error": ValueError(URL)}),
    "in a traceback with its cause": raises,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("write", WAYS.values(), ids=WAYS)
def test_no_line_holds_a_credential(form: Format, write: Callable[[logging.Logger], Any]) -> None:
    redact.protect_url(URL)

    text = written(form, write)

    for shown in (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], "p@ss", "w'rd", "w\\'rd"):
        assert shown not in text
    assert "***" in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_traceback_of_an_unknown_url_holds_no_credential(form: Format) -> None:
    def write(log: logging.Logger) -> None:
        try:
            raise RuntimeError("rtsp://viewer:p@ss/w@cam.example/user=viewer&password=s3cret")
        except RuntimeError:
            log.exception("bug")

    text = written(form, write)

    assert "RuntimeError: rtsp://***@cam.example" in text
    assert "p@ss" not in text
    assert "s3cret" not in text


def test_fields_that_are_numbers_stay_numbers() -> None:
    entry = json.loads(written("json", lambda log: log.info("x", extra={"a": 1, "b": 2.5, "c": True, "d": None})))

    assert (entry["a"], entry["b"], entry["c"], entry["d"]) == (1, 2.5, True, None)

"""Logging: readable text on a terminal, one JSON object a line elsewhere, credentials redacted in both."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

from emotiond.redact import redact

Format = Literal["auto", "text", "json"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def setup_logging(form: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Sends all logging to `stream` (stderr); `auto` is text on a terminal and JSON elsewhere."""
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    text = form == "text" or (form == "auto" and out.isatty())
    handler.setFormatter(_TextFormatter() if text else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        text = f"{when} {record.levelname.lower():7} {record.getMessage()}{fields}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return redact(text)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        entry |= {key: _clean(value) for key, value in _fields(record).items()}
        if record.exc_info:
            entry["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def _clean(value: object) -> object:
    """Numbers stay; all else becomes text without credentials."""
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))

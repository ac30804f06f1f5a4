"""`emotiond config`: the configuration file for editors (`schema`) and for people (`reference`)."""

import argparse
import json
from collections.abc import Iterator
from typing import Any, cast

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo

from emotiond.config import Config, StreamConfig
from emotiond.config_values import is_duration

_INTRO = """\
# Every key

What `emotiond config reference` prints: the keys of the [configuration](configuration.md) with their defaults.
Durations are seconds or one like `500ms`, `30s`, `5m`, `24h`, `7d`; sizes are bytes or one like `512MiB`; rectangles
are `[left, top, right, bottom]` as fractions of the picture as displayed. Paths are relative to the folder that the
daemon runs in. YAML reads `on`, `no` and `1` as something else than text: put such names in quotes.
"""
_PAGE, _LIVE, _USE = "configuration.md", "live.md", "responsible-use.md"
_MORE = {
    "streams": "#each-stream", "detector.interval": f"{_PAGE}#following-faces",
    "classifier.weights": f"{_PAGE}#weights-in-8-bits", "classifier.interval": f"{_PAGE}#following-faces",
    "classifier.smoothing_seconds": f"{_PAGE}#smoothing", "classifier.abstain_below": f"{_PAGE}#abstaining",
    "http.listen": _LIVE, "http.token_file": f"{_LIVE}#who-may-look", "http.preview": f"{_LIVE}#pictures",
    "http.streams_file": f"{_PAGE}#streams-over-http", "privacy.mode": f"{_USE}#counts-instead-of-faces",
    "privacy.blur_preview": f"{_USE}#pictures-on-the-live-page", "responsible_use.purpose": _USE,
    "shard.index": f"{_PAGE}#shards", "source": "cameras.md"}
"""Key -> where docs/ tells more of it."""
_UNITS = {"h": 3600, "m": 60, "s": 1}


def main(args: argparse.Namespace) -> int:
    """Prints the schema or the reference."""
    if args.action == "reference":
        print(reference(), end="")
        return 0
    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    print(json.dumps(schema, indent=2))
    return 0


def reference() -> str:
    """Returns docs/reference.md."""
    return "\n".join([_INTRO, *_table(_keys(Config)), "", "## Each stream", "", *_table(_keys(StreamConfig))]) + "\n"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yields every key that holds one value, written as in `redis.url`."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{name}.")
        else:
            yield f"{prefix}{name}", field


def _table(keys: Iterator[tuple[str, FieldInfo]]) -> list[str]:
    rows = [f"| `{key}` | {_default(field)} | {_meaning(key, field)} |" for key, field in keys]
    return ["| key | default | meaning |", "|---|---|---|", *rows]


def _meaning(key: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"{text} [More]({_MORE[key]})" if key in _MORE else text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    extra = cast(dict[str, Any], field.json_schema_extra or {})
    if "default" in extra:      # one that is made at the start
        return str(extra["default"])
    return f"`{_write(field.default, field)}`"


def _write(value: object, field: FieldInfo) -> str:
    """Writes a value as one would in the file."""
    if isinstance(value, ByteSize):
        return value.human_readable().replace(".0", "")
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value >= 1 and is_duration(field):
        unit = next(unit for unit, seconds in _UNITS.items() if value % seconds == 0)
        return f"{value / _UNITS[unit]:g}{unit}"
    return json.dumps(value)

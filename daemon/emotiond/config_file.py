"""Reads the configuration file; every fault becomes one line that names file, line and key, and no value."""

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from emotiond.config import ENV_PREFIX, Config, StreamConfig, read_secret
from emotiond.errors import ConfigError
from emotiond.redact import redact


@dataclass(frozen=True)
class _Fault:
    line: int | None
    key: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return redact(f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}")


def load_config(path: Path) -> Config:
    """Reads, overrides from the environment and validates.

    Raises:
        ConfigError: with one line for each fault, in the order of the file.
    """
    root, content = _parse(path)
    faults = list(_duplicate_keys(root)) if root else []
    try:
        config = Config(**content)
    except ValidationError as error:
        faults += [_explain(detail, root) for detail in error.errors(include_url=False, include_input=False)]
        config = None
    except SettingsError as error:
        raise ConfigError(redact(f"environment: {error}")) from None
    if config:
        faults += [_Fault(_line_of(root, key), ".".join(key), text) for key, text in _check_files(config)]
    if faults or config is None:
        raise ConfigError("\n".join(
            str(_Fault(fault.line, fault.key, fault.text, fault.where or str(path)))
            for fault in sorted(faults, key=lambda fault: fault.line or 0)))
    return config


def make_config(content: dict[str, Any]) -> Config:
    """Validates values that come from the command line; faults as in `load_config`, without lines."""
    try:
        return Config(**content)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise ConfigError("\n".join(
            redact(f"{fault.key}: {fault.text}") for fault in (_explain(d, None) for d in details))) from None


def _parse(path: Path) -> tuple[yaml.Node | None, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name the file with -c") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    try:
        root: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        content: Any = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not valid YAML ({error.problem}); mend the line") from None
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{path}: is not valid YAML (unprintable characters); save it as plain text") from None
    if content is None:
        return root, {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}:1: holds no keys; begin with `streams:` and `redis:`")
    keys = cast(dict[object, Any], content)
    bad = next((key for key in keys if not isinstance(key, str)), None)
    if bad is not None:
        raise ConfigError(f"{path}: {bad}: is not text; put the key in quotes")
    return root, cast(dict[str, Any], content)


def _explain(detail: ErrorDetails, root: yaml.Node | None) -> _Fault:
    """Turns one of pydantic's errors into a sentence without the value."""
    loc = tuple(part for part in detail["loc"] if part != "[key]")
    location = _existing(root, loc)
    key = ".".join(str(part) for part in loc[:max(len(location), 1)])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        text = "is no key of the configuration" + _suggest(loc)
        key = ".".join(str(part) for part in loc)
    elif kind == "value_error":
        text = str(context["error"])
    elif kind == "missing":
        key, text = ".".join(str(part) for part in loc), "is missing"
    elif kind == "string_pattern_mismatch":
        text = f"does not match {context['pattern']}"
    else:
        text = detail["msg"].removeprefix("Input ")
    variable = f"{ENV_PREFIX}{'__'.join(str(part) for part in loc)}".upper()
    set_by = next((name for name in os.environ if name.upper() == variable), None)
    if set_by:
        return _Fault(None, key, text, f"environment variable {set_by}")
    return _Fault(_line_of(root, loc), key, text)


def _suggest(loc: Sequence[int | str]) -> str:
    model: type[BaseModel] | None = Config
    path = list(loc[:-1])
    if path[:1] == ["streams"]:
        model, path = StreamConfig, path[2:]
    for part in path:
        annotation = model.model_fields[str(part)].annotation if model and str(part) in model.model_fields else None
        model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    if model is None:
        return ""
    close = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1, cutoff=0.6)
    known = ", ".join(model.model_fields)
    return f"; did you mean {close[0]}?" if close else f"; there are {known}"


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield str(index), value, value


def _line_of(root: yaml.Node | None, loc: Sequence[int | str]) -> int | None:
    """Returns the line of the deepest part of `loc` that stands in the file."""
    if root is None:
        return None
    line, node = None, root
    for part in loc:
        found = next(((key, value) for name, key, value in _children(node) if name == str(part)), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _existing(root: yaml.Node | None, loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """Cuts the names of pydantic's union branches off `loc`: what follows a value that stands in the file."""
    if root is None:
        return tuple(part for part in loc if part not in ("float", "literal['auto']", "bool", "int", "constrained-int"))
    node: yaml.Node | None = root
    existing: list[int | str] = []
    for part in loc:
        node = next((value for name, _, value in _children(node) if name == str(part)), None) if node else None
        if node is None:
            break
        existing.append(part)
    return tuple(existing)


def _duplicate_keys(node: yaml.Node, prefix: str = "") -> Iterator[_Fault]:
    seen: set[str] = set()
    for name, key, value in _children(node):
        full = f"{prefix}{name}"
        if name in seen:
            yield _Fault(key.start_mark.line + 1, full, "stands twice; remove one")
        seen.add(name)
        yield from _duplicate_keys(value, f"{full}.")


def _check_files(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the key and the fault of every secret that cannot be read."""
    secrets = {("redis", "password_file"): config.redis.password_file}
    secrets |= {("streams", name, "password_file"): s.password_file for name, s in config.streams.items()}
    for key, path in secrets.items():
        if path:
            try:
                read_secret(path)
            except ValueError as error:
                yield key, str(error)

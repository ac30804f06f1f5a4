"""Reads the configuration file; every fault becomes one line that names file, line and key, and no value."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from emotiond.config import ENV_PREFIX, Config, PlainConfig, StreamConfig, read_secret
from emotiond.errors import ConfigError, NoInputError
from emotiond.redact import protect, protect_url, redact

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")   # controls, breaks, half characters
_TEXT_KEYS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
_SECTION = "is not a section; indent its keys below it, or remove it"
_SIZE = "is not a size; write a number of bytes or one like 512MiB, 1GiB"
_WHOLE, _NUMBER, _SWITCH = "should be a whole number", "should be a number", "should be true or false"
_SENTENCES = {
    "dict_type": _SECTION, "model_type": _SECTION, "model_attributes_type": _SECTION,
    "string_type": "is not text; write it, in quotes where it looks like something else",
    "path_type": "is not a path; write it in quotes",
    "tuple_type": "is not a list; write it in brackets",
    "byte_size": _SIZE, "byte_size_unit": _SIZE, "missing": "is missing; add it",
    "int_type": _WHOLE, "int_parsing": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_type": _NUMBER, "float_parsing": _NUMBER, "finite_number": _NUMBER,
    "bool_type": _SWITCH, "bool_parsing": _SWITCH,
}


@dataclass(frozen=True)
class _Fault:
    line: int | None
    key: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        key = repr(self.key)[1:-1]  # a fault is one line, whatever a key holds
        return redact(f"{place}: {key}: {self.text}" if key else f"{place}: {self.text}")


def load_config(path: Path) -> Config:
    """Reads, overrides from the environment, and validates; without the streams of `http.streams_file`.

    Raises:
        ConfigError: with one line for each fault, in the order of the file.
    """
    return _load(path, Config)


def _load_streams(path: Path, named: Path, added: bytes | None) -> dict[str, StreamConfig]:
    """Reads the streams file that a configuration names, or takes what is to be in it; none is there at first."""
    key, file = f"{path}: http.streams_file", Path(os.path.expandvars(named))
    if "$" in str(file):
        raise ConfigError(f"{key}: {named} holds a variable that is not set; set it, or write the path without")
    if added is None:
        try:
            added = file.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{key}: {file} cannot be read ({error.strerror}); make it readable for the daemon's user"
                              ) from None
    config = _load(file, PlainConfig, added)
    if others := config.model_fields_set - {"streams"}:
        raise ConfigError(f"{file}: holds {', '.join(sorted(others))} beside streams, but http.streams_file is a file "
                          "of the daemon's own; name another one")
    return config.streams


def _load(path: Path, kind: type[Config], written: bytes | None = None) -> Config:
    root, content = _parse(path, written)
    faults = list(_check_keys(root, set())) if root else []
    try:
        config = kind(**content) if not faults else None
    except ValidationError as error:
        faults, config = _explain_all(error, root), None
    if config:
        faults += [_place(loc, ".".join(loc), text, root) for loc, text in _check_config(config)]
    if faults or config is None:
        raise ConfigError("\n".join(
            str(replace(fault, where=fault.where or str(path)))
            for fault in sorted(faults, key=lambda fault: fault.line or 0)))
    return config


def load_service_config(path: Path, added: bytes | None = None) -> Config:
    """Reads a configuration that the service can run with, with the streams that were added over HTTP.

    Args:
        path: the file.
        added: what is to be in `http.streams_file`, where it is not to be read.

    Raises:
        ConfigError: as `load_config`, there is no stream or one twice, or no Redis.
    """
    config = load_config(path)
    faults: list[str] = []
    if config.http.streams_file:
        streams = _load_streams(path, config.http.streams_file, added)
        faults += [f"streams.{name}: is in {config.http.streams_file} too; remove one of them"
                   for name in sorted(streams.keys() & config.streams.keys())]
        config = config.model_copy(update={"streams": {**config.streams, **streams}})
    if not config.streams and config.http.streams_file is None:
        faults.append("streams: there is none; add one like `lobby: {source: rtsp://camera/}`")
    if config.redis.url is None:
        faults.append("redis.url: is missing; name a server like redis://localhost:6379/0, "
                      "or write embedded to have a Valkey started here")
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))
    return config


def make_config(content: dict[str, Any], environment: bool = False) -> Config:
    """Validates values that come from the command line; faults as in `load_config`, without lines.

    Args:
        content: as in the file.
        environment: whether EMOTIOND_* variables go before it, as they do before a file.
    """
    try:
        return (Config if environment else PlainConfig)(**content)
    except ValidationError as error:
        raise ConfigError("\n".join(
            redact(f"{fault.key}: {fault.text}") for fault in _explain_all(error, None))) from None


def make_stream_config(content: dict[str, Any]) -> StreamConfig:
    """Validates a source that comes from the command line.

    Raises:
        NoInputError: one sentence about the source.
    """
    try:
        return StreamConfig(**content)
    except ValidationError as error:
        faults = _explain_all(error, None)
        raise NoInputError(redact(f"{content['source']}: {'; '.join(fault.text for fault in faults)}")) from None


def _parse(path: Path, written: bytes | None) -> tuple[yaml.Node | None, dict[str, Any]]:
    try:
        text = (path.read_bytes() if written is None else written).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name the file with -c") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    try:
        root: yaml.Node | None = yaml.compose(text, yaml.SafeLoader)
        content: Any = yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; two or three levels are all it needs") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = re.sub(r"'(?!<)\S{4,}'", "'...'", str(error.problem))  # may quote a password that has no quotes
        raise ConfigError(f"{path}:{line}: is not valid YAML ({problem}); mend the line, or quote its value") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: is not valid YAML (unprintable characters); save it as plain text") from None
    except ValueError:
        raise ConfigError(f"{path}: holds a number or a date that does not exist; put it in quotes") from None
    if content is None:
        return root, {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}:1: holds no keys; begin with `streams:` and `redis:`")
    return root, cast(dict[str, Any], content)


def _explain_all(error: ValidationError, root: yaml.Node | None) -> list[_Fault]:
    """Explains each fault once: the branches of a union are joined to one sentence."""
    faults: dict[tuple[str, str, int | None], _Fault] = {}
    details = error.errors(include_url=False, include_input=False)
    misspelt = [(*detail["loc"][:-1], _closest(detail["loc"])) for detail in details
                if detail["type"] == "extra_forbidden"]
    for detail in details:
        if detail["type"] == "missing" and detail["loc"] in misspelt:
            continue
        fault = _explain(detail, root)
        place = (fault.where, fault.key, fault.line)
        if place in faults:
            fault = replace(fault, text=f"{faults[place].text} or {fault.text.removeprefix('should be ')}")
        faults[place] = fault
    return list(faults.values())


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
    else:
        text = _SENTENCES.get(kind) or detail["msg"].removeprefix("Input ")
    if kind == "missing":
        key = ".".join(str(part) for part in loc)
    return _place(loc, key, text, root)


def _place(loc: tuple[int | str, ...], key: str, text: str, root: yaml.Node | None) -> _Fault:
    """Says where the value at `loc` comes from: a variable of the environment, or a line of the file."""
    for length in range(len(loc), 0, -1):
        parts = [str(part) for part in loc[:length]]
        set_by = next((name for name in os.environ if name.upper() == f"{ENV_PREFIX}{'__'.join(parts)}".upper()), None)
        if set_by:
            return _Fault(None, ".".join(parts), text, f"environment variable {set_by}")
    return _Fault(_line_of(root, loc), key, text)


def _suggest(loc: Sequence[int | str]) -> str:
    close = _closest(loc)
    return f"; did you mean {close}?" if close else f"; there are {', '.join(_known_keys(loc[:-1]))}"


def _closest(loc: Sequence[int | str]) -> str | None:
    return next(iter(difflib.get_close_matches(str(loc[-1]), _known_keys(loc[:-1]), n=1)), None)


def _known_keys(section: Sequence[int | str]) -> list[str]:
    if section[:1] == ("streams",):
        return list(StreamConfig.model_fields)
    model: type[BaseModel] = Config
    for part in section:
        model = cast(type[BaseModel], model.model_fields[str(part)].annotation)
    return list(model.model_fields)


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


def _check_keys(node: yaml.Node, seen: set[int], prefix: str = "") -> Iterator[_Fault]:
    """Yields keys that stand twice or are no text, such as `on` and `1`, and what cannot be printed; protects URLs.

    What aliases share is visited once.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    names: set[str] = set()
    for name, key, value in _children(node):
        full = f"{prefix}{name}"
        for text in [part.value for part in (key, value) if isinstance(part, yaml.ScalarNode)]:
            protect_url(text)  # also one that stands at the wrong key, before that is told
            if _UNPRINTABLE.search(text):
                yield _Fault(key.start_mark.line + 1, full, "holds a character that cannot be printed; remove it")
        if isinstance(node, yaml.MappingNode):
            if name in names:
                yield _Fault(key.start_mark.line + 1, full, "stands twice; remove one")
            if not prefix and name.startswith("_"):  # pydantic-settings would take it for an option of its own
                yield _Fault(key.start_mark.line + 1, full, "is no key of the configuration; remove it")
            if key.tag not in _TEXT_KEYS:
                yield _Fault(key.start_mark.line + 1, full, "is not text in YAML; put the key in quotes")
            names.add(name)
        yield from _check_keys(value, seen, f"{full}.")


def _check_config(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the key and the fault of values that do not go together, and of every secret that cannot be read."""
    if config.shard.index >= config.shard.count:
        yield ("shard", "index"), f"is none of {config.shard.count} shards; they are numbered from 0"
    if config.http.streams_file and not config.http.token_file:
        yield ("http", "streams_file"), "needs http.token_file: who adds streams makes the daemon open them"
    if config.http.preview and config.privacy.mode == "aggregate":
        yield ("http", "preview"), "shows single faces, and privacy.mode is aggregate; leave one of them out"
    secrets = {("redis", "password_file"): config.redis.password_file, ("http", "token_file"): config.http.token_file}
    secrets |= {("streams", name, "password_file"): s.password_file for name, s in config.streams.items()}
    for key, path in secrets.items():
        if path:
            try:
                read_secret(path)
            except ValueError as error:
                if "/" not in str(path):
                    protect(str(path))  # it may be the password itself
                yield key, str(error)

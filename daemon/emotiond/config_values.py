"""Types of the configuration's values; each fault is a sentence with its mend and without the value."""

import os
import re
from typing import Annotated, Any, cast, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field
from pydantic.fields import FieldInfo

from emotiond.redact import protect_url

STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https", "lavfi")
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SECONDS = 10 * 365 * 86400.0
_LEAST_BYTES = 1024 * 1024   # room for the largest event
_OR_TEXT: dict[str, Any] = {"type": ["number", "string"]}
_TLS_OPTION = (r"ssl_(ca_certs|ca_path|certfile|keyfile|password)=[^&]+|ssl_check_hostname=(true|false)"
               r"|ssl_cert_reqs=(none|optional|required)")
_SPELL = "/ @ : ? # in a password as %2F %40 %3A %3F %23"


def kind_of(source: str) -> str:
    """Returns rtsp, rtsps, http, https, lavfi, device or file."""
    scheme, separator, _ = source.partition(":")
    if separator and scheme.lower() in STREAM_SCHEMES:
        return scheme.lower()
    return "device" if source.startswith("/dev/video") else "file"


def _match(pattern: str, fault: str) -> AfterValidator:
    """Makes a validator of text whose fault is told in words and not as a regular expression."""
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


def _check_stream_name(name: str) -> str:
    if name == "status":
        raise ValueError("is taken by the status stream; give the stream another name")
    return name


def _parse_duration(value: object) -> object:
    if isinstance(value, str | bool):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", str(value))
        if not match:
            raise ValueError("is not a duration; write a number of seconds or one like 500ms, 30s, 5m, 24h, 7d")
        return float(match[1]) * _UNITS[match[2] or "s"]
    return value


def _check_size(size: ByteSize) -> ByteSize:
    if size < _LEAST_BYTES:
        raise ValueError("is too small; write 1MiB or more")
    return size


def _check_spool_path(path: str) -> str:
    if not path.strip() or re.search(r"[\x00-\x1f\x7f]", path):
        raise ValueError("is no path; name a file, or write auto or memory")
    return path


def _check_source(source: str) -> str:
    protect_url(source)
    if re.search(r"[\x00-\x1f\x7f]", source):
        raise ValueError("holds a character that cannot be printed; remove it")
    if not source.strip():
        raise ValueError("is empty; name a URL, a file or a device")
    scheme, separator, rest = source.partition(":")
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme):
        known = scheme.lower() in STREAM_SCHEMES and bool(rest.removeprefix("//"))
        if not known and not os.path.exists(source):
            raise ValueError("is no source; use rtsp://, rtsps://, http://, https://, lavfi:, a file or /dev/video0")
        if known and scheme.lower() != "lavfi":
            _check_url(source, rest)
    return source


def _check_url(url: str, rest: str) -> None:
    user_part, at, behind = rest.removeprefix("//").partition("@")
    if at and ("@" in behind or re.search(r"[/?#]", user_part)):
        raise ValueError("has an @ that may be part of the password or of the path; write "
                         f"{_SPELL} and @ elsewhere as %40, or use username and password_file")
    if not rest.startswith("//") or not _has_valid_port(url):
        raise ValueError("is no URL; write one like rtsp://camera:554/stream, with a port up to 65535")


def _check_redis_url(url: str) -> str:
    if url == "embedded":
        return url
    protect_url(url)
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in REDIS_SCHEMES or not rest:
        raise ValueError("is no Redis URL; use redis://host:6379/0, rediss://, unix:///path, redis+sentinel://, "
                         "redis+cluster:// or embedded")
    if "+" in scheme:
        try:
            _, service, plain = split_redis_url(url)
        except ValueError:
            service, plain = "", ""
        if not plain or scheme.endswith("+sentinel") != bool(service):
            raise ValueError("names no primary, or a host without its port; write one like "
                             "redis+sentinel://host:26379,host:26379/primary/0 or redis+cluster://host:6379,host:6379, "
                             f"every host with its port, and {_SPELL}")
        _check_plain_redis_url(plain)
    else:
        _check_plain_redis_url(url)
    return url


def _check_plain_redis_url(url: str) -> None:
    import redis.connection  # takes longer than the rest of this module
    scheme = url.partition(":")[0]
    try:
        redis.connection.parse_url(url)
        database = urlsplit(url).path.strip("/") if scheme != "unix" else ""
    except ValueError:  # its message would show a part of the URL
        database = "none"
    option = rf"(db=\d+|{_TLS_OPTION})" if scheme == "rediss" else r"db=\d+"
    if (query := urlsplit(url).query) and not re.fullmatch(f"{option}(&{option})*", query):
        raise ValueError("has options that are not allowed; only db= may follow the ?, and in a rediss:// URL "
                         "ssl_ca_certs=, ssl_certfile=, ssl_keyfile=, ssl_check_hostname=false or ssl_cert_reqs=none")
    if not re.fullmatch(r"\d*", database) or (scheme != "unix" and not _has_valid_port(url)):
        raise ValueError(f"has no valid port or database; write one like redis://host:6379/0, and {_SPELL}")


def split_redis_url(url: str) -> tuple[list[tuple[str, int]], str, str]:
    """Splits a redis+sentinel:// or redis+cluster:// URL.

    Returns:
        The hosts with their ports; Sentinel's name of the primary, empty for a Cluster; a plain URL of the first host
        with the user, the database and the options.

    Raises:
        ValueError: a host has no port.
    """
    scheme, _, rest = url.partition("://")
    rest, question, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user_part, at, names = authority.rpartition("@")
    service, _, database = path.partition("/") if "sentinel" in scheme else ("", "", path)
    hosts: list[tuple[str, int]] = []
    for name in names.split(","):
        host, _, port = name.rpartition(":")
        if not host.strip("[]") or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("a host has no port")
        hosts.append((host.strip("[]"), int(port)))
    plain = f"{scheme.partition('+')[0]}://{user_part}{at}{names.partition(',')[0]}/{database}{question}{query}"
    return hosts, service, plain


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:  # its message would show a part of the URL
        return False


def _check_listen(listen: str) -> str:
    if int(listen.rpartition(":")[2]) > 65535:
        raise ValueError("has a port above 65535; write one like 127.0.0.1:9470")
    return listen


def _need_four(value: object) -> object:
    if not isinstance(value, list | tuple) or len(cast(list[object], value)) != 4:
        raise ValueError("is not four numbers; write [left, top, right, bottom] as fractions of the picture")
    return cast(object, value)


def _need_area(rectangle: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = rectangle
    if left >= right or top >= bottom:
        raise ValueError("is empty; write [left, top, right, bottom] as fractions of the picture, left below right")
    return rectangle


def is_duration(field: FieldInfo) -> bool:
    """Tells whether a key holds a duration."""
    inner = [part for kind in get_args(field.annotation) for part in getattr(kind, "__metadata__", ())]    # `X | None`
    return any(isinstance(each, BeforeValidator) and each.func is _parse_duration for each in (*field.metadata, *inner))


NAME = r"[A-Za-z0-9_.-]{1,64}"
_LISTEN = r"(\[[0-9A-Fa-f:]+\]|[^\s:\[\]]*):\d{1,5}"
_DEVICE = r"auto|cpu|cuda(:\d{1,3})?|torch:cpu"
_PREFIX = r"[^\s{}]{1,128}"
_PURPOSE = r"(?=.*\S)[^\x00-\x1f\x7f]{1,200}"

Name = Annotated[str, _match(NAME, "is no name; use 1 to 64 of the characters A-Z a-z 0-9 _ . -"),
                 Field(json_schema_extra={"pattern": f"^{NAME}$"})]
StreamName = Annotated[Name, AfterValidator(_check_stream_name)]
StreamSource = Annotated[str, AfterValidator(_check_source)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
KeyPrefix = Annotated[str, _match(_PREFIX, "is no key prefix; use 1 to 128 characters without spaces and braces"),
                      Field(json_schema_extra={"pattern": f"^{_PREFIX}$"})]
Purpose = Annotated[str, _match(_PURPOSE, "is no purpose; say in 1 to 200 characters what emotions are read for")]
Device = Annotated[str, _match(_DEVICE, "is no device; use auto, cpu, cuda or one like cuda:0"),
                   Field(json_schema_extra={"pattern": f"^({_DEVICE})$"})]
ListenAddress = Annotated[
    str, _match(_LISTEN, "is no address with a port; write one like 127.0.0.1:9470 or [::1]:9470"),
    AfterValidator(_check_listen), Field(json_schema_extra={"pattern": f"^{_LISTEN}$"})]
Duration = Annotated[float, Field(ge=0, le=_LONGEST_SECONDS, json_schema_extra=_OR_TEXT),
                     BeforeValidator(_parse_duration)]
LongDuration = Annotated[float, Field(ge=1, le=_LONGEST_SECONDS, json_schema_extra=_OR_TEXT),
                         BeforeValidator(_parse_duration)]
SpoolPath = Annotated[str, AfterValidator(_check_spool_path), Field(json_schema_extra={"minLength": 1})]
Size = Annotated[ByteSize, AfterValidator(_check_size)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rectangle = Annotated[tuple[Fraction, Fraction, Fraction, Fraction],
                      BeforeValidator(_need_four), AfterValidator(_need_area)]

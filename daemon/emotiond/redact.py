"""Keeps credentials out of everything the daemon writes.

Cameras carry them in the user part of a URL, in its query and in its path, often unescaped
(`rtsp://admin:p@ss/w@host`), so text is cleaned by pattern as well as by the exact secrets known.
"""

import re
from urllib.parse import quote, unquote

MASK = "***"

_SECRET = r"(?:\w*?(?:pass|pwd|psw|secret|token|auth|session)\w*|(?:login)?pas|pw|(?:api|access)?_?key|sid)"
_PERSON = r"(?:user(?:name)?|usr|(?:login)?use|login)"
_BEGIN, _EQUALS = r"(?i)(?<![A-Za-z0-9])", r"(?:=|%3d)"
_PLAIN_USER_PART = re.compile(r"(?i)([a-z*][a-z0-9+.*-]*://)[^\s'\"<>/?#]*@")
_USER_PART = re.compile(r"(?i)([a-z*][a-z0-9+.*-]*://)[^\s'\"<>]*@")
_NO_URL = r"(?!://[^\s'\"<>]*@)"  # a URL that follows an = keeps its ://, by which its user part is found
_IN_QUERY = re.compile(rf"(?i)([?&;](?:{_SECRET}|{_PERSON}){_EQUALS})(?:{_NO_URL}[^&;\s'\"<>])+")
_IN_PATH = re.compile(rf"{_BEGIN}((?:{_SECRET}|{_PERSON}){_EQUALS})(?:{_NO_URL}[^&;/?\s'\"<>])+")
_QUERY_SECRET = re.compile(rf"{_BEGIN}{_SECRET}{_EQUALS}([^&]+)")
_PATH_SECRET = re.compile(rf"{_BEGIN}{_SECRET}{_EQUALS}(([^&/]+?)(?:_[a-z]+=[^&/]*)?)(?=[&/]|\Z)")
_secrets: set[str] = set()


def protect(secret: str) -> None:
    """Makes `redact` remove this exact text from now on: as written, in percent-encoding or without it, in a `repr`."""
    for plain in {secret, unquote(secret)}:
        if len(plain) >= 4:  # shorter ones would blank ordinary words; the patterns still cover them
            in_repr, beside_quotes = repr(plain)[1:-1], repr(plain + "'\"")[1:-4]
            _secrets.update({plain, quote(plain, safe="", errors="replace"), in_repr, beside_quotes})


def protect_url(url: str) -> None:
    """Protects the passwords inside a URL, also those that were not percent-encoded."""
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return
    user_part = rest.rpartition("@")[0]
    if ":" in user_part:
        protect(user_part.partition(":")[2])
        protect(user_part)  # where the password alone is too short
    path, _, query = rest.partition("?")
    for match in [*_PATH_SECRET.finditer(path), *_QUERY_SECRET.finditer(query)]:
        for secret in match.groups():
            protect(secret)


def redact(text: str) -> str:
    """Returns `text` without credentials."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _PLAIN_USER_PART.sub(rf"\1{MASK}@", text)  # first: a password may look like a query or a path
        text = _IN_PATH.sub(rf"\1{MASK}", _IN_QUERY.sub(rf"\1{MASK}", text))
    return _USER_PART.sub(rf"\1{MASK}@", text)

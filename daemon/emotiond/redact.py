"""Keeps credentials out of everything the daemon writes.

Cameras carry them in the user part of a URL, in its query and in its path, often unescaped
(`rtsp://admin:p@ss/w@host`), so text is cleaned by pattern as well as by the exact secrets known.
"""

import re
from urllib.parse import unquote

MASK = "***"

_USER_PART = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@")
_NAMED = re.compile(
    r"(?i)(\b|_)(pass(?:word|wd|phrase)?|pwd|pw|psw|secret|token|api_?key|key|auth|sid|session|user(?:name)?|usr|login)"
    r"(=|%3d|_(?=\S))([^&;\s'\"<>/?]+)(?=[&;/?\s'\"<>]|$)")
_secrets: set[str] = set()


def protect(secret: str) -> None:
    """Makes `redact` remove this exact text, as written and percent-decoded, from now on."""
    for form in (secret, unquote(secret)):
        if len(form) >= 4:  # shorter ones would blank ordinary words; the patterns still cover them
            _secrets.add(form)


def protect_url(url: str) -> None:
    """Protects the password inside a URL, also one that was not percent-encoded."""
    scheme, separator, rest = url.partition("://")
    if separator and "@" in rest and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        user_part = rest.rpartition("@")[0]
        protect(user_part.partition(":")[2])


def redact(text: str) -> str:
    """Returns `text` without credentials."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _USER_PART.sub(rf"\1{MASK}@", text)
    return _NAMED.sub(rf"\1\2\3{MASK}", text) if "://" in text else text

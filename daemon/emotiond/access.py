"""Who may do what over HTTP: this machine's programs, this machine's browser, who knows the token."""

import hmac
import logging
import re
from email.message import Message
from ipaddress import ip_address
from pathlib import Path

from emotiond.config import read_secret

_BY_A_PROXY = re.compile("forwarded|via|x-forwarded-.*|x-real-ip|x-envoy-.*|cf-connecting-ip|true-client-ip")
_BY_A_BROWSER = ("Origin", "Sec-Fetch-Site")
_SEND = "send the token of http.token_file as `Authorization: Bearer TOKEN`"

log = logging.getLogger(__name__)

Refusal = tuple[int, str]
"""Status and sentence."""


class Access:
    """Decides from an address and a request's headers."""

    def __init__(self, token_file: Path | None) -> None:
        """`token_file` is `http.token_file`."""
        self.token_file = token_file

    def refuse_to_act(self, address: str, headers: Message) -> Refusal | None:
        """Who knows the token may act; without one this machine's programs may, no browser, no proxy that says so."""
        if self.token_file:
            return self._refuse_without_token(headers)
        browser = any(name in headers for name in _BY_A_BROWSER)
        if is_from_here(address, headers) and not browser:
            return None
        return 403, ("only programs that connect from 127.0.0.1 or ::1 may POST, no browser and no proxy; name a token "
                     "in http.token_file, and send it as `Authorization: Bearer TOKEN`")

    def refuse_to_watch(self, address: str, headers: Message) -> Refusal | None:
        """Who knows the token may watch; without one this machine's programs may, and its browser's own page."""
        if self.token_file:
            return self._refuse_without_token(headers)
        own = headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin") and "Origin" not in headers
        if is_from_here(address, headers) and own:
            return None
        return 403, ("what is seen of people is shown to this machine alone, through no proxy; name a token in "
                     "http.token_file to look from elsewhere")

    def _refuse_without_token(self, headers: Message) -> Refusal | None:
        try:
            expected = read_secret(self.token_file) if self.token_file else ""
        except ValueError as error:
            log.error("http.token_file: %s", error)
            return 503, "the token cannot be read; see the daemon's log"
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if hmac.compare_digest(token.strip().encode("latin-1"), expected.encode()) and scheme.lower() == "bearer":
            return None
        return 401, _SEND


def is_loopback(address: str) -> bool:
    """Tells whether an address is this machine's own."""
    ip = ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def is_from_here(address: str, headers: Message) -> bool:
    """Tells a request of this machine from one of a proxy that says so, or of a page that took this machine's name."""
    by_a_proxy = any(_BY_A_PROXY.fullmatch(name.lower()) for name in headers)
    return is_loopback(address) and _is_asked_by_no_name(headers) and not by_a_proxy


def _is_asked_by_no_name(headers: Message) -> bool:
    """Tells an address or localhost from a name, which a page of that name could have pointed at this machine."""
    name = re.sub(r":\d+$", "", headers.get("Host", "localhost")).strip("[]")
    try:
        return name.lower() == "localhost" or bool(ip_address(name))
    except ValueError:
        return False

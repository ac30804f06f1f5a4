"""Who may watch and who may act over HTTP."""

from collections.abc import Mapping
from email.message import Message
from pathlib import Path

import pytest

from emotiond.access import Access

TOKEN = "open-sesame"
HERE, ELSEWHERE = "127.0.0.1", "10.8.0.7"
OWN_PAGE = {"Host": "127.0.0.1:9470", "Sec-Fetch-Site": "same-origin"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def make_headers(headers: Mapping[str, str]) -> Message:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return message


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.mark.parametrize("headers", [
    {}, OWN_PAGE, {"Host": "localhost:9470", "Sec-Fetch-Site": "none"}, {"Host": "[::1]:9470"}])
@pytest.mark.parametrize("address", [HERE, "::1", "::ffff:127.0.0.1"])
def test_this_machine_and_its_browser_may_watch_and_with_a_token_file_who_knows_the_token_alone(
    address: str, headers: dict[str, str], token_file: Path,
) -> None:
    assert Access(None).refuse_to_watch(address, make_headers(headers)) is None

    access = Access(token_file)      # a proxy that says nothing looks like this
    refused = access.refuse_to_watch(address, make_headers(headers))
    assert refused
    assert refused[0] == 401
    assert access.refuse_to_watch(address, make_headers({**headers, **BEARER})) is None


@pytest.mark.parametrize(("address", "headers"), [
    (ELSEWHERE, {}), (ELSEWHERE, OWN_PAGE), (HERE, {"Host": "evil.example:9470"}),
    (HERE, {**OWN_PAGE, "Sec-Fetch-Site": "cross-site"}), (HERE, {**OWN_PAGE, "Sec-Fetch-Site": "same-site"}),
    (HERE, {"Origin": "http://evil.example"}), (HERE, {"X-Forwarded-For": ELSEWHERE}), (HERE, {"Forwarded": "for=1"}),
    (HERE, {"x-forwarded-proto": "https"}), (HERE, {"CF-Connecting-IP": ELSEWHERE}),
    (HERE, {"Via": "1.1 proxy"})])
def test_others_may_watch_with_the_token_alone(address: str, headers: dict[str, str], token_file: Path) -> None:
    refused = Access(None).refuse_to_watch(address, make_headers(headers))
    assert refused
    assert refused[0] == 403
    assert "http.token_file" in refused[1]
    refused = Access(None).refuse_to_watch(address, make_headers({**headers, **BEARER}))
    assert refused
    assert refused[0] == 403

    access = Access(token_file)
    assert access.refuse_to_watch(address, make_headers({**headers, **BEARER})) is None
    for wrong in ({}, {"Authorization": "Bearer open"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
        refused = access.refuse_to_watch(address, make_headers({**headers, **wrong}))
        assert refused
        assert refused[0] == 401


def test_a_browser_may_not_act_even_here_without_the_token(token_file: Path) -> None:
    assert Access(None).refuse_to_act(HERE, make_headers({})) is None
    for headers in (OWN_PAGE, {"Origin": "http://127.0.0.1:9470"}, {"Via": "1.1 proxy"}, {"Host": "evil.example"}):
        refused = Access(None).refuse_to_act(HERE, make_headers(headers))
        assert refused
        assert refused[0] == 403
    refused = Access(token_file).refuse_to_act(HERE, make_headers({}))
    assert refused
    assert refused[0] == 401
    assert Access(token_file).refuse_to_act(ELSEWHERE, make_headers(BEARER)) is None


def test_a_token_that_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    access = Access(tmp_path / "missing")

    for refused in (access.refuse_to_act(HERE, make_headers(BEARER)),
                    access.refuse_to_watch(ELSEWHERE, make_headers({"Authorization": "Bearer "}))):
        assert refused
        assert refused[0] == 503

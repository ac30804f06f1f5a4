"""Credentials, wherever cameras and users put them, never come out of `redact`."""

from collections.abc import Callable

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from emotiond import redact
from emotiond.redact import protect, protect_url

TEXT = st.characters(exclude_categories=["Cs", "Cc"])
ANYTHING = st.one_of(
    st.text(TEXT, min_size=1, max_size=20), st.text(st.sampled_from("p@/:#?&=%\\'\" <>4e"), min_size=1, max_size=12))
IN_A_URL = ANYTHING.filter(lambda text: not set(text) & set(" '\"<>") and text.split() == [text])
IN_A_QUERY = IN_A_URL.filter(lambda text: not set(text) & set("&;@"))      # the configuration refuses an @ there
IN_A_PATH = IN_A_QUERY.filter(lambda text: not set(text) & set("/?"))
AROUND = ("{}", "cannot open {}: refused", "'{}'", '{{"source": "{}"}}', "first {}, then {}", "<{}>\n\tnext line")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_secrets", set[str]())


def forgotten() -> None:
    """Between examples, what the last one taught is forgotten."""
    redact._secrets.clear()


def cleaned(password: str, text: Callable[[str], str]) -> str:
    """Returns what comes out of `text(password)`, for a password that stands nowhere else, nor in masks."""
    assume(password not in text("") and password not in text("x") and "*" not in password and password != "@")
    return redact.redact(text(password))


@given(ANYTHING, st.sampled_from(AROUND))
@example("p@ss/w#rd?x:", "{}")
@example("a b", "{}")
@example("it's", "'{}'")
@example("back\\slash", "{}")
def test_a_known_urls_password_never_comes_out(password: str, around: str) -> None:
    forgotten()
    url = "rtsp://viewer:{}@cam.example:554/ch1"
    protect_url(url.format(password))

    text = cleaned(password, lambda secret: around.format(*[url.format(secret)] * 2))

    assert password not in text
    assert "cam.example" in text


@given(st.text(TEXT, min_size=4, max_size=20))
@example("p@ss w'rd")
@example("back\\slash\"")
def test_a_known_urls_password_never_comes_out_alone_or_in_a_repr(password: str) -> None:
    forgotten()
    protect_url(f"rtsp://viewer:{password}@cam.example/ch1")

    assert password not in cleaned(password, lambda secret: f"wrong: {secret}.")
    assert repr(password)[1:-1] not in cleaned(repr(password)[1:-1], lambda secret: f"wrong: {secret}.")


@given(IN_A_URL, st.sampled_from(AROUND))
@example("p@ss/w#rd?x:", "{}")
@example("p", "{}")
def test_an_unknown_urls_password_never_comes_out(password: str, around: str) -> None:
    forgotten()

    text = cleaned(password, lambda secret: around.format(*[f"rtsps://viewer:{secret}@cam.example/ch1?a=b"] * 2))

    assert password not in text
    assert "cam.example" in text


QUERIES = ("?user=viewer&password={}", "?password={}&channel=1", "?a=b&pwd={}&c", "?token={}", "?api_key={}",
           "?loginuse=viewer&loginpas={}", "?x=1;passwd={}", "?PASSWORD={}", "?access_token={}&x", "?authbasic={}")
PATHS = ("/user=viewer&password={}", "/user=viewer&password={}/live", "/user=viewer_password={}_channel=1_stream=0.sdp",
         "/user=viewer_password={}_channel=1_stream=0.sdp?real_stream", "/login=viewer&pass={}&x=1", "/pwd%3D{}")


@given(IN_A_QUERY, st.sampled_from(QUERIES), st.sampled_from(AROUND), st.booleans())
@example("ab/cd?e", QUERIES[0], "{}", False)
def test_a_password_in_a_query_never_comes_out(password: str, query: str, around: str, known: bool) -> None:
    forgotten()
    url = f"http://cam.example/video{query}"
    if known:
        protect_url(url.format(password))

    text = cleaned(password, lambda secret: around.format(*[url.format(secret)] * 2))

    assert password not in text
    assert text.count("cam.example") == around.count("{}")


@given(IN_A_PATH, st.sampled_from(PATHS), st.sampled_from(AROUND), st.booleans())
def test_a_password_in_a_path_never_comes_out(password: str, path: str, around: str, known: bool) -> None:
    forgotten()
    url = f"rtsp://cam.example:554{path}"
    if known:
        protect_url(url.format(password))

    text = cleaned(password, lambda secret: around.format(*[url.format(secret)] * 2))

    assert password not in text
    assert text.count("cam.example") == around.count("{}")


@given(st.text(TEXT, min_size=4, max_size=20).filter(lambda text: not set(text) & set("&/_?")),
       st.sampled_from(QUERIES + PATHS))
def test_a_password_of_a_known_query_or_path_never_comes_out_alone(password: str, rest: str) -> None:
    forgotten()
    protect_url(f"rtsp://cam.example{rest.format(password)}")

    assert password not in cleaned(password, lambda secret: f"refused: {secret}.")


@given(st.text(TEXT, min_size=4, max_size=20), st.text(TEXT, max_size=20), st.text(TEXT, max_size=20))
def test_a_protected_text_never_comes_out(secret: str, before: str, after: str) -> None:
    forgotten()
    protect(secret)

    assert secret not in cleaned(secret, lambda text: before + text + after)


def test_a_percent_encoded_password_is_known_decoded_and_encoded() -> None:
    protect_url("rtsp://viewer:p%40ss%2Fw@cam.example/")

    assert redact.redact("p%40ss%2Fw or p@ss/w") == "*** or ***"


def test_a_password_of_half_characters_is_known_too() -> None:
    protect_url("rtsp://viewer:se\ud800cret@cam.example/")

    assert redact.redact("se\ud800cret or se%3Fcret") == "*** or ***"


def test_a_password_with_a_quote_is_known_in_a_repr_with_both_kinds_of_quotes() -> None:
    protect("it's secret")

    assert redact.redact(repr("'it's secret' or \"it's secret\"")) == "'\\'***\\' or \"***\"'"


def test_a_password_at_a_paths_end_is_known_with_its_line_break() -> None:
    protect_url("rtsp://cam.example/pwd=abc\n")

    assert redact.redact("abc\n or abc") == "*** or abc"


def test_a_secret_that_begins_another_one_leaves_nothing_of_it() -> None:
    for secret in ("hunter2", "hunter2-quark", "the hunter2-quark"):
        protect(secret)

    assert redact.redact("hunter2, hunter2-quark, the hunter2-quark") == "***, ***, ***"


@pytest.mark.parametrize(("text", "shown"), [
    ("rtsp://admin:p@ss/w#rd@cam/ch1", "rtsp://***@cam/ch1"),
    ("rtsp://admin@cam/ch1", "rtsp://***@cam/ch1"),
    ("http://cam/v?user=admin&password=p@ss/w&x=1", "http://cam/v?user=***&password=***&x=1"),
    ("http://cam/v?loginuse=admin&loginpas=secret", "http://cam/v?loginuse=***&loginpas=***"),
    ("rtsp://cam/user=admin/password=secret/ch1", "rtsp://cam/user=***/password=***/ch1"),
    ("rtsp://cam:554/user=admin_password=secret_channel=1.sdp?real_stream", "rtsp://cam:554/user=***?real_stream"),
    ("rtsp://a:b@one, rtsp://c:d@two", "rtsp://***@one, rtsp://***@two"),
    ("redis://:secret@redis:6379/0", "redis://***@redis:6379/0"),
    ("RTSP://A:B@CAM/?PWD=C", "RTSP://***@CAM/?PWD=***"),
    ("rtsp://admin:pw=secret@cam/ch1", "rtsp://***@cam/ch1"),
    ("rtsp://admin:pw=se/cret@cam/ch1", "rtsp://***@cam/ch1"),
    ("auth=rtsp://admin:secret@cam/ch1", "auth=***://***@cam/ch1"),
    ("http://cam/?token=rtsp://admin:se&cret@cam/ch1", "http://***@cam/ch1"),
    ("http://cam/?token=ab://cd&x=1", "http://cam/?token=***&x=1"),
])
def test_an_unknown_url_is_shown_without_its_credentials(text: str, shown: str) -> None:
    assert redact.redact(text) == shown


@given(st.text(), st.lists(st.text(min_size=4), max_size=3))
def test_redacting_twice_changes_nothing_more(text: str, secrets: list[str]) -> None:
    forgotten()
    for secret in secrets:
        protect(secret)
    assume(not any(set(secret) <= {"*"} for secret in redact._secrets))
    once = redact.redact(text)
    assume(not any(secret in once for secret in redact._secrets))

    assert redact.redact(once) == once


@pytest.mark.parametrize("text", [
    "stream is down: nothing came for 10 s",
    "redis://redis:6379/0 answers",
    "user= and password_file, key_prefix, maxlen",
    "rtsp://cam.example/key_prefix/user_script: there are username, password_file, key_prefix",
    "opened http://cam.example/?channel=1&subtype=0 in 0.3 s",
    "see https://cloudevents.io or write to someone@cloudevents.io",
    "a@b.example",
])
def test_what_is_no_credential_stays(text: str) -> None:
    assert redact.redact(text) == text


def test_a_url_without_credentials_protects_nothing() -> None:
    for url in ("rtsp://cam.example/ch1", "rtsp://viewer@cam.example/", "clip.mp4", "/dev/video0", "unix:///run/r.sock",
                "lavfi:testsrc2=rate=15", "http://cam.example/?user=viewer", "redis://redis:6379/0"):
        protect_url(url)

    assert redact._secrets == set()

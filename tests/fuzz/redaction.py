"""URL redaction: a password in a URL, known to it or not, never comes out, whatever stands around it."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from emotiond import redact
from tests.fuzz.engine import LeakError
from tests.fuzz.inputs import Inputs

USER_PARTS = ("rtsp://viewer:{}@cam.example:554/ch1", "rtsps://viewer:{}@cam.example/a?b=c", "redis://:{}@redis:6379/0",
              "HTTP://a:{}@[::1]:80/", "redis+sentinel://me:{}@one:26379,two:26379/main/0")
QUERIES = ("http://cam.example/video?user=viewer&password={}", "http://cam.example/?password={}&channel=1",
           "http://cam.example/?x=1;pwd={}", "https://cam.example/?API_KEY={}", "http://cam.example/?a=b&token={}&c",
           "http://cam.example/?loginuse=viewer&loginpas={}", "http://cam.example/?access_token={}&x")
PATHS = ("rtsp://cam.example:554/user=viewer&password={}", "rtsp://cam.example/user=viewer&password={}/live",
         "rtsp://cam.example/user=viewer_password={}_channel=1_stream=0.sdp?real_stream", "rtsp://cam.example/pwd%3D{}")
IN_A_URL = r"[\s'\"<>*]"                   # what ends a URL in a text; asterisks may be those of a mask
REFUSED = {USER_PARTS: IN_A_URL, QUERIES: r"[\s'\"<>*&;@]", PATHS: r"[\s'\"<>*&;@/?]"}
ALONE = {USER_PARTS: r"\*", QUERIES: r"[*&]", PATHS: r"[*&/_?]"}        # ends it in a URL that is known
BOTH = "'\""                               # quotes, beside which `repr` shows a text in another way
LEAST = 4                                  # characters of a password that is known by itself


@dataclass(frozen=True)
class Case:
    """A text with a password in it.

    Attributes:
        url: its template.
        password: as the URL has it.
        known: whether the URL was read before, as the configuration's are.
        before: text before the URL.
        between: text after it, before the password stands alone where it is known.
        form: in which form it stands alone.
        quoted: whether the whole text is shown by `repr`.
    """

    url: str
    password: str
    known: bool
    before: str
    between: str
    form: int
    quoted: bool

    def forms(self) -> set[str]:
        """Returns what must not come out: as written, decoded, encoded, or as `repr` shows it."""
        if not self.known:
            return {self.password}
        return {shape for plain in {self.password, unquote(self.password)} if len(plain) >= LEAST
                for shape in (plain, encode(plain), repr(plain)[1:-1], repr(plain + BOTH)[1:-4])}

    def text(self, password: str, alone: str) -> str:
        """Returns the text with other passwords."""
        text = f"{self.before}{self.url.format(password)}{self.between}"
        if self.known:
            text += f" {alone} {self.url.format(password)}"
        return repr(text)[1:-1] if self.quoted else text


def encode(text: str) -> str:
    """Percent-encodes all that can be."""
    return quote(text, safe="", errors="replace")


def draw(inputs: Inputs) -> Case | None:
    """Makes a case; the password is left out where it stands in the text anyway."""
    urls, known = inputs.choose((USER_PARTS, QUERIES, PATHS)), inputs.flag()
    password = inputs.text(16)
    if inputs.flag():
        password = encode(password) if inputs.flag() else quote(password, errors="replace")
    password = re.sub(ALONE[urls] if known else REFUSED[urls], "", password)
    case = Case(inputs.choose(urls), password, known, inputs.text(24), inputs.text(24), inputs.below(16),
                known and inputs.flag())
    forms = case.forms()
    blank = case.text("", "") + "\n" + case.text("x", "x")
    return case if forms and all(form and form not in blank for form in forms) else None


def check(case: Case) -> None:
    """Lets the password through nowhere."""
    redact._secrets.clear()
    forms = case.forms()
    if case.known:
        redact.protect_url(case.url.format(case.password))
        redact.protect_url(case.between)
    text = case.text(case.password, sorted(forms)[case.form % len(forms)])

    cleaned = redact.redact(text)

    for form in forms:
        if form in cleaned:
            raise LeakError(f"{form!r} comes out of {text!r} in {cleaned!r}")

"""Configuration files: each is read, or refused in whole sentences that hold no secret and nothing unprintable."""

import argparse
import contextlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from emotiond import cli, redact
from emotiond.commands import check as command
from emotiond.errors import CommandError
from tests.fuzz.engine import LeakError
from tests.fuzz.inputs import Inputs
from tests.support.broken_configs import BROKEN, CAMERA, REDIS, SECRET

ROOT = Path(__file__).parents[2]
SAMPLE = re.sub(r"^( *)# (?=[a-z_]+: )", r"\1", (ROOT / "deploy/emotiond.yaml").read_text(), flags=re.MULTILINE)
RIGHT = (
    re.sub(r".*(_file|username): .*\n| *#.*", "", SAMPLE).replace("//camera", f"//viewer:{SECRET}@camera"),
    f"streams:\n  lobby:\n    source: {CAMERA}\n    labels: &l {{site: hq}}\n  door: {{source: clip.mp4, labels: *l}}\n"
    f"redis:\n  url: {REDIS}\n",
    f"streams:\n  lobby: {{source: 'http://camera/?user=a&password={SECRET}', masks: [[0, 0, 1, 0.5]]}}\n"
    f"redis: {{url: 'redis+sentinel://:{SECRET}@one:26379,two:26379/main/0'}}\n",
    f"redis: {{url: 'unix:///run/redis.sock?db=1'}}\nstreams: {{a: {{source: 'rtsp://c/user=a&pwd={SECRET}'}}}}\n",
)
WRONG = tuple(
    broken.content for broken in BROKEN.values() if isinstance(broken.content, str) and len(broken.content) < 1000)
VALUES = (
    f"'{CAMERA}'", CAMERA, f"'{REDIS}'", f"[{CAMERA}]", f"{{url: '{REDIS}'}}", f"!!binary {CAMERA}",
    f"'rtmp://:{SECRET}@c'", "null", "~", "[]", "{}", "''", "'\\'", '"\\0"', '"\\ud800"', '"\\x1b[2J"', '"a\\nb"',
    '"\\u2028"', "0", "-1", "1e400", ".nan", ".inf", "1:30", "0x10", "0o7", "1_0", "2026-02-30", "2026-01-31", "yes",
    "on", "12h", "1GiB", "999999999999d", "[0, 0, 1, 1]", "[[0, 0, 1, 1]]", "{a: b}", "&x [*x]", "*x", "<<: {a: b}",
    "|\n  a\n", ">-\n  b\n", "!x y", "!!str 5", "!!set {a}", "/etc/hostname", "/nowhere", "127.0.0.1:70000", "auto",
    "memory", "embedded", "$HOME/x", "${", "é" * 70, "redis://[", "rtsp://[::1", "rtsp://\u2100:1/", "redis://h:1/٣",
    "'127.0.0.1:٣'", "'1٣s'", "'٣GiB'")
KEYS = (
    "streams", "redis", "url", "source", "password_file", "username", "labels", "_x", "status", "maxlen", "on", "1",
    "?", "<<", '"\\n"', '"\\ud800"', "instance", "log", "http", "listen", "token_file", "path", "spool", "masks")
MARKS = ("\n", " ", ":", ": ", "- ", "\t", "{", "}", "[", "]", ",", "#", "'", '"', "---\n")
BARE = re.compile(rf"(?<![:=]){SECRET}")     # no part of a URL: it shall not become a key, for keys are told
A_KEY = re.compile(r"[\w.-]+(?=: |:$)", re.MULTILINE)
A_VALUE = re.compile(r"(?<=[:\[-] )[^\s,{}\[\]][^\n,{}\[\]#]*")
FILE = Path(f"/proc/self/fd/{os.memfd_create('emotiond.yaml')}")      # in memory, and gone with the process
A_WORD_ENDS = re.compile(r"(\s+|[{}\[\],:#'\"](?=\s|$))")


@dataclass(frozen=True)
class Case:
    """The text of a file."""

    text: str


def draw(inputs: Inputs) -> Case:
    """Changes a file here and there, in whole words, so that the secret stays one: its values and keys, or anything."""
    text = inputs.choose(inputs.choose((RIGHT, RIGHT, WRONG)))
    change = _change_values if BARE.search(text) or inputs.flag() else _change_anything
    return Case(change(inputs, text))


def _change_values(inputs: Inputs, text: str) -> str:
    for _ in range(1 + inputs.below(4)):
        pattern, others = (A_KEY, KEYS) if inputs.below(4) == 3 else (A_VALUE, VALUES)
        if places := [match.span() for match in pattern.finditer(text)]:
            begin, end = inputs.choose(places)
            other = inputs.text(8) if inputs.below(8) == 7 else inputs.choose(others)
            text = text[:begin] + other + text[end:]
    return text


def _change_anything(inputs: Inputs, text: str) -> str:
    parts = A_WORD_ENDS.split(text)
    for _ in range(1 + inputs.below(4)):
        at = inputs.below(len(parts))
        match inputs.below(4):
            case 0:
                parts[at:at + 1 + inputs.below(3)] = []
            case 1:
                parts[at:at] = parts[inputs.below(len(parts)):][:1 + inputs.below(8)]
            case 2:
                parts[at:at] = [inputs.text(8)]
            case _:
                parts[at] = inputs.choose(inputs.choose((MARKS, KEYS, VALUES)))
        parts = parts or [""]
    return "".join(parts)


def check(case: Case) -> None:
    """Reads the file as `emotiond check` does."""
    redact._secrets.clear()
    FILE.write_bytes(case.text.encode(errors="surrogatepass"))
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            command.main(argparse.Namespace(config=FILE, connect=False))
        except CommandError as error:
            code = cli._report(error)
    text = said.getvalue()
    if SECRET in text:
        raise LeakError(repr(text))
    sentence = rf"emotiond: {re.escape(str(FILE))}(:\d+)?: \S.*\w.*" if code else r".*: ok, \d+ streams?"
    assert code in (0, 78)
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        assert line.isprintable(), repr(line)
        assert re.fullmatch(sentence, line), repr(line)

"""One look for the secrets that tests plant, in everything that the daemon and its commands write while the tests run.

Every planted secret holds `MARK`. Whatever the tests' helpers get from a process of the product goes through `look`:
both outputs of each command, the daemon's log, its pages and metrics, the arguments of its processes and what it left
in Redis. A secret there fails the test that got it; the end of a run tells how much was looked at.
"""

import contextlib
from collections import Counter
from urllib.parse import unquote

import psutil

MARK = "hunter2"        # of letters and digits: quoted as in a URL, in JSON or in a repr it is the same
_BESIDE = 60

LOOKED: Counter[str] = Counter()
"""Where was looked, and how often."""


def look(where: str, what: str | bytes) -> None:
    """Fails the test where a planted secret is shown.

    Args:
        where: the kind of output.
        what: the whole of it.
    """
    LOOKED[where] += 1
    text = (what.decode(errors="replace") if isinstance(what, bytes) else what).lower()
    for form in (text, unquote(text)) if "%" in text else (text,):
        at = form.find(MARK)
        assert at < 0, f"a planted secret is in {where}: ...{form[max(at - _BESIDE, 0):at + _BESIDE]}..."


def look_at_arguments(pid: int) -> None:
    """Looks at the arguments of a process and of all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                look("arguments", "\0".join(each.cmdline()))


def plant(secret: str) -> str:
    """Returns a password that a server of the tests asks for; it is one that `look` finds."""
    assert not secret or MARK in secret.lower(), f"a planted secret holds {MARK}"
    return secret


def summary() -> str:
    """Returns how much was looked at, in a line."""
    kinds = ", ".join(f"{where}: {count:,}" for where, count in LOOKED.most_common())
    return f"looked for planted secrets in {LOOKED.total():,} outputs" + (f" ({kinds})" if kinds else "")

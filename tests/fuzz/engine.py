"""Feeds targets with bytes and keeps what fails: guided by the code's coverage where atheris is, at random elsewhere.

atheris (https://github.com/google/atheris) brings libFuzzer to Python. Hypothesis shrinks better, but is slow: of URL
redaction, one core of an Intel Xeon does 1,800 inputs a second with `given`, 3,000 with `fuzz_one_input`, 22,000 with
atheris. atheris has no wheels for ARM64, hence the random bytes there. Three in four inputs are random with it too:
much of what is tried is written in C, where it sees no coverage and tries the same short inputs again and again.
"""

import importlib
import json
import logging
import mmap
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol, cast

from tests.fuzz.inputs import Inputs

HANG_SECONDS = 60
MOST_BYTES = 1024         # of an input
SHRINK_SECONDS = 20.0
GUIDED = find_spec("atheris") is not None


class LeakError(AssertionError):
    """A secret came out."""


class Target(Protocol):
    """A module: what it makes of bytes, and what must hold for it."""

    def draw(self, inputs: Inputs) -> Any:
        """Returns a case whose `repr` tells all of it; None where the bytes make no sense."""
        ...

    def check(self, case: Any) -> None:
        """Raises LeakError where a secret comes out, and anything else where something else is wrong."""
        ...


@dataclass
class Outcome:
    """What came of a target.

    Attributes:
        inputs: different cases that were checked.
        seconds: of a core that they took.
        crashes: cases that failed but leaked nothing.
        leaks: cases in which a secret came out.
        failure: the smallest case that failed, and how.
    """

    inputs: int = 0
    seconds: float = 0.0
    crashes: int = 0
    leaks: int = 0
    failure: str = ""


class Fuzzer:
    """Feeds one target and keeps the shortest input that fails."""

    def __init__(self, target: Target) -> None:
        """Takes the target."""
        self.outcome = Outcome()
        self._target = target
        self._known: set[int] = set()
        self._shortest: bytes | None = None
        self._begin = time.process_time()

    def feed(self, data: bytes) -> None:
        """Checks what these bytes make."""
        case = self._target.draw(Inputs(data))
        if case is None or (known := hash(repr(case))) in self._known:
            return
        self._known.add(known)
        self.outcome.inputs += 1
        error = self._fails(case)
        if error is None:
            return
        if isinstance(error, LeakError):
            self.outcome.leaks += 1
        else:
            self.outcome.crashes += 1
        if self._shortest is None or len(data) < len(self._shortest):
            self._shortest = data

    def end(self) -> Outcome:
        """Shrinks what failed, and returns what came of it all."""
        self.outcome.seconds = time.process_time() - self._begin
        if self._shortest is not None:
            case = self._target.draw(Inputs(shrink(self._shortest, self._fails_alike(self._shortest))))
            error = self._fails(case)
            self.outcome.failure = f"{type(error).__name__}: {error}\n{case!r}"
        return self.outcome

    def _fails(self, case: Any) -> BaseException | None:
        try:
            self._target.check(case)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also a panic of a library in Rust
            return error
        return None

    def _fails_alike(self, data: bytes) -> Callable[[bytes], bool]:
        kind = type(self._fails(self._target.draw(Inputs(data))))

        def alike(shorter: bytes) -> bool:
            case = self._target.draw(Inputs(shorter))
            return case is not None and type(self._fails(case)) is kind

        return alike


def shrink(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Returns a shorter input that fails too: without parts of it, then with lower bytes, as long as that helps."""
    deadline = time.monotonic() + SHRINK_SECONDS
    before = None
    while data != before and time.monotonic() < deadline:
        before = data
        size = len(data)
        while size:
            for at in range(len(data) - size, -1, -size):
                if fails(shorter := data[:at] + data[at + size:]):
                    data = shorter
            size //= 2
        for at, value in enumerate(data):
            lower = next((low for low in (0, 1, value // 2, value - 1) if 0 <= low < value
                          and fails(data[:at] + bytes([low]) + data[at + 1:])), value)
            data = data[:at] + bytes([lower]) + data[at + 1:]
    return data


def feed_random(fuzzer: Fuzzer, inputs: int, seed: int) -> Outcome:
    """Feeds random bytes until so many inputs were checked."""
    source = random.Random(seed)
    while fuzzer.outcome.inputs < inputs:
        fuzzer.feed(random_bytes(source))
    return fuzzer.end()


def random_bytes(source: random.Random) -> bytes:
    """Returns bytes of any length."""
    return source.randbytes(source.randrange(MOST_BYTES))


def fuzz(name: str, inputs: int, seed: int) -> Outcome:
    """Checks so many inputs of a target in a process of its own, which a hang or a crash of the interpreter ends."""
    last, (reader, writer) = mmap.mmap(-1, MOST_BYTES + 2), os.pipe()
    if child := os.fork():
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        if said:
            return Outcome(**json.loads(said))
        size = int.from_bytes(last[:2], "little")
        how = "hangs" if os.WTERMSIG(status) == signal.SIGALRM else f"ends the interpreter (status {status:#x})"
        return Outcome(crashes=1, failure=f"an input {how}; the bytes that make it:\n{last[2:2 + size]!r}")
    try:
        _feed_child(name, inputs, seed, last, writer)
    except BaseException:
        os.write(writer, json.dumps(vars(Outcome(crashes=1, failure=traceback.format_exc()))).encode())
    os._exit(1)


def _feed_child(name: str, inputs: int, seed: int, last: mmap.mmap, writer: int) -> Any:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libFuzzer talks
    logging.disable()
    fuzzer = Fuzzer(cast(Target, _load(name)))

    def feed(data: bytes) -> None:
        last[:2 + len(data)] = len(data).to_bytes(2, "little") + data
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # libFuzzer has set its own
        signal.alarm(HANG_SECONDS)
        fuzzer.feed(data)
        if fuzzer.outcome.inputs >= inputs:
            signal.alarm(0)
            os.write(writer, json.dumps(vars(fuzzer.end())).encode())
            os._exit(0)

    source = random.Random(seed)
    if not GUIDED:
        while True:
            feed(random_bytes(source))
    atheris = cast(Any, importlib.import_module("atheris"))

    def mutate(data: bytes, most: int, _: int) -> bytes:
        return atheris.Mutate(data, most) if source.random() < 0.25 else random_bytes(source)

    atheris.Setup([name, f"-seed={seed + 1}", f"-max_len={MOST_BYTES}", "-len_control=0", "-timeout=0", "-verbosity=0",
                   "-rss_limit_mb=0", "-runs=-1"], feed, custom_mutator=mutate)
    atheris.Fuzz()


def _load(name: str) -> object:
    module = f"tests.fuzz.{name.replace('-', '_')}"
    if not GUIDED:
        return importlib.import_module(module)
    with cast(Any, importlib.import_module("atheris")).instrument_imports(include=["emotiond"]):
        return importlib.import_module(module)

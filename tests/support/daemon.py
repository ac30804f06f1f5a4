"""`emotiond run` as a child process, and what it says of itself over HTTP and in its log."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families

import emotiond
import emotionnet
import emotiontrain
import yunet
from tests.support.leaks import look, look_at_arguments
from tests.support.process import ServerProcess
from tests.support.waiting import free_port, poll

DROPS = ("newer_frame", "max_fps", "stale", "too_large", "inference_error", "shutdown")
_ROOTS = {str(Path(package.__file__ or "").parents[1]) for package in (emotiond, emotionnet, emotiontrain, yunet)}


@dataclass(frozen=True)
class Answer:
    """What a page said."""

    status: int
    kind: str
    text: str


class Scrape:
    """One reading of /metrics; names are given without their prefix."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [(sample.name.removeprefix("emotiond_"), sample.labels, sample.value)
                         for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Returns the sum over the series that have these labels, of which there must be one."""
        found = [value for sample, has, value in self._samples if sample == name and labels.items() <= has.items()]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def assert_frames_add_up(self) -> None:
        """Asserts for every stream: frames read = analysed + dropped, by reason + in flight."""
        streams = [labels["stream"] for sample, labels, _ in self._samples if sample == "stream_frames_read_total"]
        assert streams
        for stream in streams:
            read, analyzed = (
                self(f"{name}_total", stream=stream) for name in ("stream_frames_read", "frames_analyzed"))
            dropped = sum(self("frames_dropped_total", stream=stream, reason=reason) for reason in DROPS)
            flying = self("frames_in_flight", stream=stream)
            assert read == analyzed + dropped + flying, f"{stream}: {read} != {analyzed} + {dropped} + {flying}"
            assert dropped == self("frames_dropped_total", stream=stream), f"{stream}: dropped for unknown reasons"


class Daemon(ServerProcess):
    """Runs from entering to leaving; started means that its models are loaded and its streams are there.

    Args:
        folder: gets its configuration and its log.
        streams: the section of that name.
        redis: the section of that name, or its URL alone.
        before: Python that its process executes first, to break something in it.
        own_group: whether it gets a process group of its own, as from a shell, so that Ctrl-C can be sent to it.
        sections: more of the configuration.
    """

    START_S = 60.0      # on a machine that may be busy

    def __init__(
        self,
        folder: Path,
        streams: Mapping[str, Mapping[str, Any]],
        redis: str | Mapping[str, Any],
        *,
        before: str = "",
        own_group: bool = False,
        **sections: Any,
    ) -> None:
        self.port = free_port()
        self.names = tuple(streams)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "emotiond.log"
        file = write_config(folder / "emotiond.yaml", {
            "instance": "test", "streams": {name: dict(stream) for name, stream in streams.items()},
            "redis": {"url": redis} if isinstance(redis, str) else dict(redis),
            "spool": {"path": str(folder / "spool.db")}, **sections,
            "http": {"listen": f"127.0.0.1:{self.port}", **sections.get("http", {})}})
        program = ["-m", "emotiond"]
        if before:
            program = ["-c", f"{before}\nimport sys, emotiond.cli\nsys.exit(emotiond.cli.main())"]
        group = ["setsid"] if own_group else []
        super().__init__("emotiond", [*group, *with_path(), sys.executable, *program, "run", "-c", str(file)], self.log)

    def ready(self) -> bool:
        """Tells whether it is ready, or waits for nothing but Redis."""
        return self.answers() and "loading" not in self.get("/readyz").text

    def answers(self) -> bool:
        """Tells whether it answers over HTTP, ready or not."""
        try:
            return bool(self.get("/healthz"))
        except OSError:
            return False

    def get(self, path: str, accept: str = "*/*") -> Answer:
        """Returns a page, whatever its status.

        Raises:
            OSError: there was no answer.
        """
        return get_page(self.port, path, accept)

    def scrape(self) -> Scrape:
        """Reads /metrics."""
        return Scrape(self.get("/metrics").text)

    def streams(self) -> dict[str, dict[str, Any]]:
        """Reads /streams."""
        return json.loads(self.get("/streams").text)

    def wait_until_ready(self, deadline_s: float = 30) -> None:
        """Returns when /readyz says 200."""
        poll(lambda: self.get("/readyz").status == 200, deadline_s,
             lambda: f"not ready: {self.get('/readyz').text}\n{self.output()}")

    def wait_for(self, expectation: Callable[[Scrape], bool], what: str, deadline_s: float = 30) -> Scrape:
        """Returns the first reading of /metrics that is as expected."""
        seen: list[Scrape] = []

        def is_so() -> bool:
            seen[:] = [self.scrape()]
            return expectation(seen[0])

        poll(is_so, deadline_s, lambda: f"not in time: {what}\n{self.output()}", every_s=0.1)
        return seen[0]

    def end(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = 60) -> int:
        """Sends it a signal, waits for its end and returns the exit code."""
        self.child.send_signal(number)
        return self.wait(deadline_s)

    def wait(self, deadline_s: float = 60) -> int:
        """Waits for its end and returns the exit code."""
        try:
            return self.child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"emotiond did not end within {deadline_s:g} s\n{self.output()}") from None

    def start(self) -> None:
        """Starts it and returns once it is ready.

        Raises:
            AssertionError: it ended, or was not ready in time; with the end of its output.
        """
        super().start()
        look_at_arguments(self.child.pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.runs:
                look_at_arguments(self.child.pid)
        finally:
            super().__exit__(kind, error, trace)
        if error is None and self.log.exists():
            look("logs", self.log.read_bytes())

    def log_entries(self, message: str = "") -> list[dict[str, Any]]:
        """Returns the lines of its log that hold this text, parsed; lines that are no JSON stay out."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if message in entry["message"]]


def endless(clip: Path, fps: int) -> dict[str, Any]:
    """Returns a stream that plays a clip for ever, at its pace; on a busy machine it waits and drops no frame."""
    return {"source": f"lavfi:movie={clip}:loop=0,setpts=N/({fps}*TB),realtime", "live": False}


def get_page(port: int, path: str, accept: str = "*/*") -> Answer:
    """Returns a page of 127.0.0.1, whatever its status.

    Raises:
        OSError: there was no answer.
    """
    request = Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urlopen(request, timeout=10) as reply:
            return _answer(reply.status, reply.headers, reply.read())
    except HTTPError as error:
        with error:
            return _answer(error.code, error.headers, error.read())


def send(port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    """Returns what 127.0.0.1 answers to a request, whatever its status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {name: value.encode() for name, value in headers.items()})
        reply = connection.getresponse()
        return _answer(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def _answer(status: int, headers: Message, body: bytes) -> Answer:
    look("pages", f"{headers}\n{body.decode()}")
    return Answer(status, headers["Content-Type"], body.decode())


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Writes a configuration as YAML and returns its path."""
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path


def with_path() -> list[str]:
    """Returns what goes before a command so that it finds the packages under test, installed or not."""
    return ["env", f"PYTHONPATH={os.pathsep.join(sorted(_ROOTS))}"]

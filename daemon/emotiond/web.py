"""The daemon's HTTP pages: metrics, health, readiness and the state of every stream."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from emotiond import __version__
from emotiond.errors import UnavailableError

LAST_ANSWER_SECONDS = 1.0

log = logging.getLogger(__name__)


class WebServer:
    """Serves until `close`; `run` is a thread's whole life."""

    def __init__(
        self, address: tuple[str, int], registry: CollectorRegistry, ready: Callable[[], str | None],
        healthy: Callable[[], str | None], streams: Callable[[], object],
    ) -> None:
        """Binds the port.

        Args:
            address: host and port; port 0 takes a free one.
            registry: what /metrics shows.
            ready: why the daemon is not ready, None when it is.
            healthy: why it is not healthy, None when it is.
            streams: what /streams shows.

        Raises:
            UnavailableError: the port cannot be had.
        """
        pages: dict[str, Callable[[BaseHTTPRequestHandler], tuple[int, str, bytes]]] = {
            "/metrics": lambda request: _metrics(registry, request.headers.get("Accept", "")),
            "/healthz": lambda _: _verdict(healthy()),
            "/readyz": lambda _: _verdict(ready()),
            "/streams": lambda _: (200, "application/json", msgspec.json.encode(streams())),
        }

        class Handler(_Handler):
            routes = pages

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        try:
            self._server = Server(address, Handler)
        except OSError as error:
            raise UnavailableError(f"http.listen: {join_address(*address)} cannot be used ({error.strerror}); "
                                   "give another port or end what listens there") from None
        self.port: int = self._server.server_address[1]

    def run(self) -> None:
        """Answers requests."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Ends `run`, frees the port, and gives answers under way a moment."""
        self._server.shutdown()
        self._server.server_close()
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        for thread in list(self._server.answering):
            thread.join(max(deadline - time.monotonic(), 0))


def join_address(host: str, port: int) -> str:
    """Returns host:port as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True    # a client that never ends its request must not keep the daemon
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.answering: set[threading.Thread] = set()
        super().__init__(address, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a request in a thread of its own, which `answering` holds meanwhile."""
        thread = threading.current_thread()
        self.answering.add(thread)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.answering.discard(thread)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no event."""
        log.debug("http request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = f"emotiond/{__version__}"
    sys_version = ""
    timeout = 5  # seconds an idle client may hold a thread
    routes: dict[str, Callable[[BaseHTTPRequestHandler], tuple[int, str, bytes]]] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        page = self.routes.get(self.path.partition("?")[0])
        self._answer(*(page(self) if page else (404, "text/plain", b"no such page; there are /metrics /healthz "
                                                                   b"/readyz /streams\n")))

    do_HEAD = do_GET

    def _answer(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def _metrics(registry: CollectorRegistry, accept: str) -> tuple[int, str, bytes]:
    encoder, kind = choose_encoder(accept)
    return 200, kind, encoder(registry)


def _verdict(problem: str | None) -> tuple[int, str, bytes]:
    return (200, "text/plain", b"ok\n") if problem is None else (503, "text/plain", f"{problem}\n".encode())

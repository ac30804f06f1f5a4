"""The daemon's HTTP pages: metrics, health, readiness, the state of every stream; and how it is told to change them."""

import contextlib
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from emotiond import __version__
from emotiond.access import Access, is_from_here
from emotiond.config import HttpConfig
from emotiond.errors import ConfigError, UnavailableError
from emotiond.fleet import Fleet, NotThereError
from emotiond.live.pages import LivePages

LAST_ANSWER_SECONDS = 1.0
_MOST_BODY = 65536
_HEADERS = {    # of every answer: a browser takes nothing from elsewhere, shows itself nowhere else, keeps nothing
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}

log = logging.getLogger(__name__)


Page = tuple[int, str, bytes]
"""Status, content type and body of an answer."""

ReadBody = Callable[[], bytes]
"""Returns the body of a request."""


class WebServer:
    """Serves until `close`; `run` is a thread's whole life."""

    def __init__(
        self, config: HttpConfig, registry: CollectorRegistry, ready: Callable[[], str | None],
        healthy: Callable[[], str | None], streams: Callable[[], object], reload: Callable[[], object],
        fleet: Fleet, live: LivePages,
    ) -> None:
        """Binds the port.

        Args:
            config: where to listen, and who may do what.
            registry: what /metrics shows.
            ready: why the daemon is not ready, None when it is.
            healthy: why it is not healthy, None when it is.
            streams: what /streams shows.
            reload: what POST /-/reload does; returns what it answers, raises ConfigError or UnavailableError.
            fleet: what POST /streams and DELETE /streams/NAME do.
            live: the live page.

        Raises:
            UnavailableError: the port cannot be had.
        """
        get: dict[str, Callable[[BaseHTTPRequestHandler], Page]] = {
            "/metrics": lambda request: _metrics(registry, request.headers.get("Accept", "")),
            "/healthz": lambda _: _verdict(healthy()),
            "/readyz": lambda _: _verdict(ready()),
            "/streams": lambda _: _json(streams()),
            "/live": lambda _: (200, "application/json", live.message()),
        }
        get |= {path: lambda _, page=page: (200, *page) for path, page in live.files.items()}
        post: dict[str, Callable[[ReadBody], Page]] = {
            "/-/reload": lambda _: _done(reload),
            "/streams": lambda read: _done(lambda: fleet.add(read())),
        }

        def remove_stream(name: str) -> Page:
            return _done(lambda: fleet.remove(name))

        class Handler(_Handler):
            pages, actions, access = get, post, Access(config.token_file)
            remove, picture, watch = staticmethod(remove_stream), staticmethod(live.picture), staticmethod(live.watch)

        address = config.address

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

        try:
            self._server = Server(address, Handler)
        except OSError as error:
            raise UnavailableError(f"http.listen: {join_address(*address)} cannot be used ({error.strerror}); "
                                   "give another port or end what listens there") from None
        self.port: int = self._server.server_address[1]
        self._live = live

    def run(self) -> None:
        """Answers requests."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """Ends `run`, frees the port, and gives answers under way a moment."""
        self._server.shutdown()
        self._server.server_close()
        self._live.close()
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        for thread in list(self._server.answering):
            thread.join(max(deadline - time.monotonic(), 0))


def join_address(host: str, port: int) -> str:
    """Returns host:port as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"


class _BodyError(Exception):
    """A body is too large, or does not say how large it is."""


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
        """A client that went away is no event; anything else is a bug."""
        if isinstance(sys.exception(), OSError):
            log.debug("http request failed", exc_info=True)
        else:
            log.error("http request failed; please report this", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = f"emotiond/{__version__}"
    sys_version = ""
    timeout = 5  # seconds an idle client may hold a thread
    pages: Mapping[str, Callable[[BaseHTTPRequestHandler], Page]] = MappingProxyType({})
    actions: Mapping[str, Callable[[ReadBody], Page]] = MappingProxyType({})
    remove: Callable[[str], Page]
    picture: Callable[[str], tuple[str, bytes] | None]
    watch: Callable[[Callable[[bytes], object]], bool]
    access: Access

    def do_GET(self) -> None:
        path, page = self._path(), self.pages.get(self._path())
        if path == "/live" or self._pictured():
            refusal = self.access.refuse_to_watch(self.client_address[0], self.headers)
        elif path == "/streams" and self.access.token_file and not is_from_here(self.client_address[0], self.headers):
            # It names the cameras' addresses; without a token, listening on loopback alone keeps them.
            refusal = self.access.refuse_to_act(self.client_address[0], self.headers)
        else:
            refusal = None
        if refusal:
            self._answer(_text(*refusal))
        elif path == "/live" and self.command == "GET" and "text/event-stream" in self.headers.get("Accept", ""):
            self._stream_events()
        elif name := self._pictured():
            picture = self.picture(name)
            self._answer((200, *picture) if picture else _text(
                404, "there is no such picture; http.preview: true shows those of streams that run"))
        else:
            self._answer(page(self) if page else self._no_page())

    do_HEAD = do_GET

    def _stream_events(self) -> None:
        """Writes server-sent events until the page is closed."""
        begun = False

        def write(data: bytes) -> None:
            nonlocal begun
            if not begun:
                self._send_head(200, "text/event-stream")
                begun = True
            self.wfile.write(data)

        if not self.watch(write):
            self._answer(_text(503, "too many pages are open; close one"))

    def do_POST(self) -> None:
        self._act(self.actions.get(self._path()))

    def do_DELETE(self) -> None:
        name = self._stream()
        self._act((lambda _: self.remove(name)) if name else None)

    def _act(self, action: Callable[[ReadBody], Page] | None) -> None:
        self._unread = self.headers.get("Content-Length", "0") != "0"
        if action is None:
            page = self._no_page()
        else:
            try:
                refusal = self.access.refuse_to_act(self.client_address[0], self.headers)
                page = _text(*refusal) if refusal else action(self._read_body)
            except _BodyError:
                page = _text(413, f"send a body of at most {_MOST_BODY} bytes with its Content-Length")
            log.info(self.command, extra={"path": self._path(), "from": self.client_address[0], "status": page[0]})
        self._answer(page)
        if self._unread:  # it could cut the answer off
            self.connection.settimeout(LAST_ANSWER_SECONDS)
            with contextlib.suppress(OSError):
                self.rfile.read1(_MOST_BODY)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > _MOST_BODY:
            raise _BodyError
        self._unread = False
        return self.rfile.read(int(length))

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _stream(self) -> str:
        """Returns NAME of the path /streams/NAME, "" of another one."""
        folder, _, name = self._path().rpartition("/")
        return unquote(name) if folder == "/streams" else ""

    def _pictured(self) -> str:
        """Returns NAME of the path /streams/NAME/picture, "" of another one."""
        match = re.fullmatch("/streams/([^/]+)/picture", self._path())
        return unquote(match[1]) if match else ""

    def _allowed(self) -> list[str]:
        path = self._path()
        return [*(["GET", "HEAD"] if path in self.pages or self._pictured() else []),
                *(["POST"] if path in self.actions else []), *(["DELETE"] if self._stream() else [])]

    def _no_page(self) -> Page:
        if allowed := self._allowed():
            return _text(405, f"{self._path()} wants {' or '.join(method for method in allowed if method != 'HEAD')}")
        return _text(404, f"no such page; there are {' '.join(self.pages)} /streams/NAME/picture, "
                          f"POST {' '.join(self.actions)} and DELETE /streams/NAME")

    def _answer(self, page: Page) -> None:
        code, kind, body = page
        more = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": ", ".join(self._allowed())}}.get(code, {})
        self._send_head(code, kind, {"Content-Length": str(len(body)), **more})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, code: int, kind: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.send_response(code)
        for name, value in ({"Content-Type": kind} | _HEADERS | dict(more)).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def _metrics(registry: CollectorRegistry, accept: str) -> Page:
    encoder, kind = choose_encoder(accept)
    return 200, kind, encoder(registry)


def _verdict(problem: str | None) -> Page:
    return _text(200, "ok") if problem is None else _text(503, problem)


def _done(action: Callable[[], object]) -> Page:
    try:
        return _json(action())
    except ConfigError as error:
        return _text(422, str(error))
    except NotThereError as error:
        return _text(404, str(error))
    except UnavailableError as error:
        return _text(503, str(error))


def _json(content: object) -> Page:
    return 200, "application/json", msgspec.json.encode(content)


def _text(code: int, text: str) -> Page:
    return code, "text/plain", f"{text}\n".encode()

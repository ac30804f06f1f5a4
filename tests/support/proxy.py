"""A TCP proxy on loopback that can lose the replies of a server that did what it was asked."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Literal, Self

from tests.support.waiting import poll

Loss = Literal["cut", "silence"]
"""The connection ends instead of the reply; or stays open and says nothing."""

_CHUNK = 1 << 16


class LossyProxy:
    """Passes bytes between clients and a server from entering to leaving.

    Attributes:
        port: where clients connect.
        lost: replies lost so far.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lost = 0
        self._lock = threading.Lock()
        self._to_lose, self._request, self._how = 0, b"", "cut"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def lose(self, replies: int, request: bytes, how: Loss, deadline_s: float = 30) -> None:
        """Lets the server receive the next requests that hold these bytes, loses their replies, and returns then."""
        with self._lock:
            self._to_lose, self._request, self._how = replies, request, how
        poll(lambda: self._to_lose == 0, deadline_s, "there was no such request")

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                _hang_up(each)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # pyright: ignore[reportArgumentType]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):      # closed
            while True:
                client = self._listener.accept()[0]
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                with self._lock:
                    self._sockets += [client, server]
                losing = threading.Event()
                self._start(self._pass_requests, client, server, losing)
                self._start(self._pass_replies, server, client, losing)

    def _pass_requests(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                with self._lock:
                    if self._to_lose and self._request in data:
                        losing.set()      # before the server can answer
                server.sendall(data)
        _hang_up(server)

    def _pass_replies(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while (data := server.recv(_CHUNK)) and not losing.is_set():
                client.sendall(data)
            if data:
                with self._lock:
                    self._to_lose -= 1
                    self.lost += 1
                if self._how == "silence":
                    while server.recv(_CHUNK):
                        pass
        _hang_up(client)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

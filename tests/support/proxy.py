"""TCP proxies on loopback: one loses the replies of a server that did its work, one is a bad line to a camera."""

import contextlib
import random
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Literal, Self

from tests.support.waiting import poll

Loss = Literal["cut", "silence"]
"""The connection ends instead of the reply; or stays open and says nothing."""

_CHUNK = 1 << 16
_LINE_BYTES = 1 << 14      # what a line holds that is on its way; the kernel's own buffers would hold minutes of video
_RTP_HEADER = 12


class Proxy(ABC):
    """Passes bytes between clients and a server from entering to leaving; what its kinds do to them is their own.

    Attributes:
        port: where clients connect.
    """

    buffer_bytes: int | None = None

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    @abstractmethod
    def connect(self, client: socket.socket, server: socket.socket) -> None:
        """Starts to pass between the two."""

    def cut(self) -> None:
        """Ends every connection there is."""
        with self._lock:
            for each in self._sockets:
                hang_up(each)

    def start(self, target: Callable[..., None], *arguments: object) -> None:
        """Starts a thread, which ends with the proxy."""
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        self.start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        hang_up(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):      # closed
            while True:
                client = self._listener.accept()[0]
                server = socket.socket()
                if self.buffer_bytes:
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer_bytes)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer_bytes)
                try:
                    server.connect(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    server.close()
                    continue
                with self._lock:
                    self._sockets += [client, server]
                self.connect(client, server)


class LossyProxy(Proxy):
    """Loses replies of Redis when it is told to.

    Attributes:
        lost: replies lost so far.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.lost = 0
        self._to_lose, self._request, self._how = 0, b"", "cut"

    def lose(self, replies: int, request: bytes, how: Loss, deadline_s: float = 30) -> None:
        """Lets the server receive the next requests that hold these bytes, loses their replies, and returns then."""
        with self._lock:
            self._to_lose, self._request, self._how = replies, request, how
        poll(lambda: self._to_lose == 0, deadline_s, "there was no such request")

    def connect(self, client: socket.socket, server: socket.socket) -> None:
        losing = threading.Event()
        self.start(self._pass_requests, client, server, losing)
        self.start(self._pass_replies, server, client, losing)

    def _pass_requests(self, client: socket.socket, server: socket.socket, losing: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                with self._lock:
                    if self._to_lose and self._request in data:
                        losing.set()      # before the server can answer
                server.sendall(data)
        hang_up(server)

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
        hang_up(client)


class BadLine(Proxy):
    """The line to an RTSP camera over TCP; how bad it is may change at any time.

    Attributes:
        held: nothing comes through, and every connection stays open.
        bytes_per_second: the most that comes through, None without a limit.
        damage: share of the RTP packets in which bits are flipped.
        loss: share of the RTP packets that do not come.
        damaged: packets damaged so far.
        lost: packets lost so far.
    """

    buffer_bytes = _LINE_BYTES

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.held = False
        self.bytes_per_second: float | None = None
        self.damage = self.loss = 0.0
        self.damaged = self.lost = 0
        self._random = random.Random(1)

    def connect(self, client: socket.socket, server: socket.socket) -> None:
        self.start(self._pass_requests, client, server)
        self.start(self._pass_video, server, client)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_CHUNK):
                server.sendall(data)
        hang_up(server)

    def _pass_video(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for part in _interleaved(server):
                while self.held and not self._over.wait(0.05):
                    pass
                if self._over.is_set():
                    break
                if (passed := self._worsen(part)) is not None:
                    client.sendall(passed)
                if self.bytes_per_second:
                    time.sleep(len(part) / self.bytes_per_second)
        hang_up(client)

    def _worsen(self, part: bytes) -> bytes | None:
        """Returns what becomes of a packet or an answer, None where it is lost."""
        is_video = part[:2] == b"$\0" and len(part) > 4 + _RTP_HEADER + 2
        if not is_video:
            return part
        if self._random.random() < self.loss:
            self.lost += 1
            return None
        if self._random.random() < self.damage:
            self.damaged += 1
            damaged = bytearray(part)
            for _ in range(1 + len(part) // 50):
                at = self._random.randrange(4 + _RTP_HEADER, len(part))
                damaged[at] ^= 1 << self._random.randrange(8)
            return bytes(damaged)
        return part


def _interleaved(connection: socket.socket) -> Iterator[bytes]:
    """Yields the answers and the packets that an RTSP server sends over one connection (RFC 2326, 10.12)."""
    file = connection.makefile("rb")
    while first := file.read(1):
        if first == b"$":
            head = file.read(3)
            yield first + head + file.read(int.from_bytes(head[1:]))
            continue
        answer, length = first, 0
        while not answer.endswith(b"\r\n\r\n"):
            line = file.readline()
            if not line:
                return
            answer += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        yield answer + file.read(length)


def hang_up(connection: socket.socket) -> None:
    """Ends a connection for both sides, where it is there yet."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)

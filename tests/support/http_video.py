"""A small HTTP server on loopback: video files, and cameras that send JPEG after JPEG or a transport stream."""

import re
import threading
import time
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2

from tests.support.pictures import Picture

_STEP_SECONDS = 0.05


class HttpVideo:
    """Serves from entering to leaving.

    Args:
        files: path, such as "/clip.mp4", to a file; parts of it are given to whom asks for them.
        cameras: path to pictures, sent one after the other, again and again.
        fps: of the cameras.
        channels: path to a transport stream, sent at its pace, again and again; another one put in its place follows
            when the one before has come to its end.
    """

    def __init__(
        self, files: Mapping[str, Path] | None = None, cameras: Mapping[str, Sequence[Picture]] | None = None,
        fps: float = 10, channels: Mapping[str, Path] | None = None,
    ) -> None:
        self.channels: MutableMapping[str, Path] = dict(channels or {})
        self._files = files or {}
        self._cameras = {path: [_to_jpeg(picture) for picture in pictures]
                         for path, pictures in (cameras or {}).items()}
        self._fps = fps
        self._over = threading.Event()
        serve = self._serve

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):      # the client had enough
                    serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def url(self, path: str) -> str:
        """Returns the URL of a file or camera."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        if request.path in self._files:
            self._send_file(request, self._files[request.path].read_bytes())
        elif request.path in self._cameras:
            self._send_pictures(request, self._cameras[request.path])
        elif request.path in self.channels:
            self._send_channel(request)
        else:
            request.send_error(404)

    def _send_file(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = int(wanted[2]) if wanted and wanted[2] else len(content) - 1
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        request.send_header("Accept-Ranges", "bytes")
        request.send_header("Content-Type", "video/mp4")
        request.send_header("Content-Length", str(last + 1 - first))
        request.end_headers()
        request.wfile.write(content[first:last + 1])

    def _send_pictures(self, request: BaseHTTPRequestHandler, pictures: Sequence[bytes]) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        request.end_headers()
        begin, sent = time.monotonic(), 0
        while not self._over.wait(max(begin + sent / self._fps - time.monotonic(), 0)):
            picture = pictures[sent % len(pictures)]
            request.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\n"
                                b"Content-Length: %d\r\n\r\n%b\r\n" % (len(picture), picture))
            sent += 1


    def _send_channel(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        begin, shown = time.monotonic(), 0.0
        while not self._over.is_set():
            file = self.channels[request.path]
            content = file.read_bytes()
            with av.open(str(file)) as container:
                seconds = (container.duration or 0) / 1_000_000
            size = round(len(content) * _STEP_SECONDS / seconds)
            for start in range(0, len(content), size):
                request.wfile.write(content[start:start + size])
                shown += min(size, len(content) - start) / len(content) * seconds
                self._over.wait(max(begin + shown - time.monotonic(), 0))


def _to_jpeg(picture: Picture) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()

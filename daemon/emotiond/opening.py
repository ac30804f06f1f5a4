"""Opens a camera, a URL, a device or a file with PyAV, and says in one sentence why it cannot.

Timeouts are always set: without them FFmpeg waits for ever on a silent server. The protocols FFmpeg may use are
limited to the source's own kind, so that a playlist cannot make it open something else.
"""

import errno
import os
import time
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import av
import av.error
import av.logging
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from emotiond.config import StreamConfig, read_secret
from emotiond.config_values import kind_of
from emotiond.redact import redact
from emotiond.source import SLICE_SECONDS, SLICED, Source, error_words

Outcome = Literal["refused", "timeout", "auth", "not_found", "protocol"]

OPEN_SECONDS = 5.0
MAX_PIXELS = 64 * 1024 * 1024   # 8192 x 8192; a few bytes can claim 16k x 16k
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,srtp,tcp,udp", "rtsps": "rtsps,rtsp,rtp,srtp,tls,tcp,udp,crypto",
    "http": "http,tcp,crypto", "https": "https,http,tls,tcp,crypto", "file": "file",
}
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}        # FFmpeg shows text as a picture
_PLAYLISTS = {"hls", "concat", "dash", "sdp", "imf"}         # name other files, which are not followed

av.logging.set_level(None)  # FFmpeg's own lines would print URLs


class OpenError(Exception):
    """A source could not be opened; `outcome` says how, the message says it in words, without secrets."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(redact(message))
        self.outcome: Outcome = outcome


def open_source(config: StreamConfig, device: str = "cpu") -> Source:
    """Opens a camera, URL, device, test pattern or file.

    Args:
        config: the stream's.
        device: what runs the networks. `cuda:N` decodes the video too; what it cannot is decoded in software.

    Raises:
        OpenError: it cannot be opened or holds no video.
    """
    kind = kind_of(config.source)
    name, form, options = _target(config, kind)
    begin = time.monotonic()
    timeout = (OPEN_SECONDS, SLICE_SECONDS if kind in SLICED else config.stall_seconds)
    try:
        container = av.open(name, mode="r", format=form, options=options, timeout=timeout, hwaccel=_hwaccel(device))
    except av.error.ExitError:
        raise OpenError("timeout", f"{config.source} did not answer within {OPEN_SECONDS:.0f} s; "
                        "check address and network") from None
    except (FFmpegError, OSError, ValueError) as error:
        outcome, mend = _classify(error, kind, time.monotonic() - begin)
        raise OpenError(outcome, f"{config.source} cannot be opened ({error_words(error)}); {mend}") from None
    try:
        return Source(container, _video_stream(container, config.source), kind, config)
    except BaseException:
        container.close()
        raise


def _hwaccel(device: str) -> HWAccel | None:
    if not device.startswith("cuda"):
        return None
    from emotiond.device.runtime import accelerator  # only here: importing torch takes seconds
    return accelerator(device)


def _target(config: StreamConfig, kind: str) -> tuple[str, str | None, dict[str, str]]:
    """Returns what to open, FFmpeg's format where it cannot be guessed, and options."""
    source = config.source
    if kind == "lavfi":
        return source.partition(":")[2], "lavfi", {}
    if kind == "device":
        return source, "v4l2", {}
    # without merge_pmt_versions pictures that a transport stream goes on with under another id would never be seen
    options = {"protocol_whitelist": _PROTOCOLS[kind], "merge_pmt_versions": "1"}
    if kind == "file":
        path = Path(source)
        if os.path.exists(path) and not os.path.isfile(path):  # FFmpeg would wait for a named pipe's writer for ever
            raise OpenError("protocol", f"{source} is no file; give a video or a picture")
        _check_head(path)
        return f"file:{source}", None, options
    # without fpsprobesize FFmpeg waits for twenty frames to guess the rate: 5 s of a slow camera
    options |= {"analyzeduration": "3000000", "fpsprobesize": "0"}
    if kind in SLICED:
        options |= {"rtsp_transport": config.transport, "analyzeduration": "500000"}
    return _with_credentials(config), None, options


def _check_head(path: Path) -> None:
    """Refuses what FFmpeg must not even begin to open: it would open the files that a playlist names."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return  # FFmpeg's error says why
    if not head:
        raise OpenError("protocol", f"{path} is empty; give a video or a picture")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"#EXTM3U", b"ffconcat")):
        raise OpenError("protocol", f"{path} is a playlist; give the videos that it names")


def _with_credentials(config: StreamConfig) -> str:
    """Puts user name and password, percent-encoded, into the URL given to FFmpeg."""
    scheme, _, rest = config.source.partition("://")
    written, _, address = rest.rpartition("@")  # the configuration allows no @ behind the address
    user, _, password = (quote(part, safe="%") for part in written.partition(":"))  # may be encoded already
    if config.username:
        user = quote(config.username, safe="")
    if config.password_file:
        try:
            password = quote(read_secret(config.password_file), safe="")
        except ValueError as error:
            raise OpenError("auth", str(error)) from None
    credentials = f"{user}:{password}" if password else user
    return f"{scheme}://{credentials}@{address}" if credentials else config.source


def _video_stream(container: InputContainer, source: str) -> VideoStream:
    names = set(container.format.name.split(","))
    if names & _PLAYLISTS and kind_of(source) == "file":
        raise OpenError("protocol", f"{source} is a playlist; give the videos that it names")
    if names & _TEXT_FORMATS or not container.streams.video:
        raise OpenError("protocol", f"{source} holds no video; give a video or a picture")
    video = container.streams.video[0]
    context = video.codec_context
    if context is None:  # pyright: ignore[reportUnnecessaryComparison] - what PyAV's stubs do not say
        raise OpenError("protocol", f"{source} has a codec that FFmpeg cannot decode; give it as H.264 or H.265")
    if context.width * context.height > MAX_PIXELS:
        raise OpenError("protocol", f"{source} has pictures of {context.width}x{context.height}; "
                        f"at most {MAX_PIXELS // 1024 // 1024} million pixels are read")
    context.thread_count = 1  # as many analyzers as cores keep them busy already
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return video


def _classify(error: Exception, kind: str, seconds: float) -> tuple[Outcome, str]:
    if kind != "file" and seconds >= OPEN_SECONDS:  # FFmpeg calls what it was interrupted in by other names too
        return "timeout", "check address and network"
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return "auth", "check user name and password"
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return "not_found", "check the path"
        case ConnectionRefusedError() | ConnectionResetError() | BrokenPipeError():
            return "refused", "check address and port, and that the server runs"
        case TimeoutError():
            return "timeout", "check address and network"
        case PermissionError() if kind == "file":
            return "protocol", "let the daemon's user read it, and give no playlist but the videos that it names"
        case av.error.InvalidDataError() if kind == "file":
            return "protocol", "give a video or a picture that is whole"
        case FFmpegError() if error.errno == errno.EIO and kind not in ("file", "device", "lavfi"):
            return "refused", "check that the host's name is right and can be resolved"  # FFmpeg's word for that
        case _:
            return "protocol", "check the source"

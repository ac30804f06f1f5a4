"""An RTSP server of GStreamer's, run by the system's own Python: mounts of encoded frames, sent at their pace.

    python3 rtsp_server.py CONFIGURATION    serves until it is ended
    python3 rtsp_server.py --check          exit 0 where everything it needs is installed

The configuration is what tests/support/rtsp.py writes. The frames come from here with timestamps that only rise:
a file that GStreamer loops itself starts its timestamps anew, and the rest goes out in a burst.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# (gi is the system's, and what it offers is made while it runs)

import json
import sys
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

NEEDED = ("appsrc", "rtpbin", "h264parse", "rtph264pay", "h265parse", "rtph265pay", "jpegparse", "rtpjpegpay",
          "videotestsrc", "x264enc")
PIPELINES = {
    "h264": "( appsrc name=frames caps=video/x-h264,stream-format=byte-stream,alignment=au "
            "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
    "hevc": "( appsrc name=frames caps=video/x-h265,stream-format=byte-stream,alignment=au "
            "! h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1 )",
    "mjpeg": "( appsrc name=frames caps=image/jpeg ! jpegparse ! rtpjpegpay name=pay0 pt=26 )",
}


class Feed:
    """Encoded frames in the order of decoding, from a file that rtsp.py wrote."""

    def __init__(self, path: str) -> None:
        header, data = Path(path).read_bytes().split(b"\n", 1)
        fields = json.loads(header)
        self.codec: str = fields["codec"]
        self.duration: int = fields["duration"]          # ns
        self.frames: list[tuple[int, int, bytes]] = []   # time to send it, time it shows (ns), data
        start = 0
        for dts, pts, size in fields["frames"]:
            self.frames.append((dts, pts, data[start:start + size]))
            start += size


class Player:
    """Hands an appsrc its next frame when the time to send it has come.

    That is the time of its decoding, moved so that none goes out before it shows: GStreamer's sinks alone would
    send a file's B-frames in bursts, or ahead of the time that the camera's clock gives them.
    """

    def __init__(self, feed: Feed, loop: bool) -> None:
        self.feed, self.loop = feed, loop
        self.sent = 0

    def need_data(self, source: Any, _length: int) -> None:
        rounds, index = divmod(self.sent, len(self.feed.frames))
        if rounds and not self.loop:
            source.emit("end-of-stream")
            return
        send_at, shows_at, data = self.feed.frames[index]
        begin = rounds * self.feed.duration
        time.sleep(max(0, begin + send_at - source.get_current_running_time()) / Gst.SECOND)
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = begin + shows_at
        self.sent += 1
        source.emit("push-buffer", buffer)


def make_factory(mount: dict[str, Any]) -> Any:
    """One mount: all its clients see the same playing, which begins anew for the first to come."""
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_enable_rtcp(mount["report_s"] is not None)
    feed = Feed(mount["feed"]) if "feed" in mount else None
    factory.set_launch(PIPELINES[feed.codec] if feed else mount["launch"])

    def configure(_factory: Any, media: Any) -> None:
        if feed:
            source = media.get_element().get_by_name("frames")
            source.set_property("is-live", True)
            source.set_property("format", Gst.Format.TIME)
            source.connect("need-data", Player(feed, mount["loop"]).need_data)
        if mount["report_s"] is not None:
            media.connect("prepared", set_reports)

    def set_reports(media: Any) -> None:
        for element in media.get_element().get_parent().children:
            if element.get_factory().get_name() == "rtpbin":
                element.set_property("ntp-time-source", mount["clock"])
                session = element.emit("get-internal-session", 0)
                session.set_property("rtcp-min-interval", int(mount["report_s"] * Gst.SECOND))

    factory.connect("media-configure", configure)
    return factory


def make_authentication(user: str, password: str, method: str) -> Any:
    """Lets in one user, by digest or basic authentication."""
    authentication = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    if method == "digest":
        authentication.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        authentication.add_digest(user, password, token)
    else:
        authentication.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        authentication.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    return authentication


def serve(configuration: dict[str, Any]) -> None:
    """Serves until the process is ended."""
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(configuration["port"]))
    user = configuration["user"]
    if user is not None:
        server.set_auth(make_authentication(user, configuration["password"], configuration["method"]))
    for path, mount in configuration["mounts"].items():
        factory = make_factory(mount)
        if user is not None:
            permissions = GstRtspServer.RTSPPermissions()
            for permission in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role(user, permission, True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    if server.attach(None) == 0:
        sys.exit(f"port {configuration['port']} is taken")
    # Sessions of clients that vanished would keep their media playing.
    GLib.timeout_add_seconds(2, lambda: server.get_session_pool().cleanup() >= 0)
    GLib.MainLoop().run()


if __name__ == "__main__":
    Gst.init(None)
    if sys.argv[1:] == ["--check"]:
        sys.exit(" ".join(name for name in NEEDED if Gst.ElementFactory.find(name) is None) or 0)
    serve(json.loads(Path(sys.argv[1]).read_text()))

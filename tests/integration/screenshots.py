"""Pictures of the live page for the documentation: `python -m tests.integration.screenshots FOLDER [--seconds 150]`.

Four cameras play the demo's portrait, begun at different places, and one is not there.
"""

import argparse
import tempfile
import time
from pathlib import Path

import emotiond
from tests.benchmarks.cameras import write_cameras
from tests.support.browser import Tab, open_browser
from tests.support.daemon import Daemon
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port

CLIP = Path(emotiond.__file__).parent / "demo" / "portrait.mp4"
NAMES = {"lobby": 0, "entrance": 2, "desk": 4, "hall": 6}
FRAMES_A_SECOND = 10
SIZES = {"light": (1280, 900, 1), "dark": (1280, 900, 1), "phone": (390, 844, 2)}


def main() -> None:
    """Writes live-light.png, live-dark.png and live-phone.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=150, help="before the pictures are taken (%(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_cameras(CLIP, folder / "cameras", FRAMES_A_SECOND)
        streams: dict[str, dict[str, object]] = {
            name: {"source": str(files[index]), "live": True} for name, index in NAMES.items()}
        streams["garage"] = {"source": f"rtsp://viewer:secret@127.0.0.1:{free_port()}/stream"}
        with RedisServer(folder / "redis") as redis, Daemon(
                folder / "daemon", streams, redis.url, http={"preview": True}, instance="edge-1",
                responsible_use={"purpose": "a look at the live page"}) as daemon, open_browser() as browser:
            time.sleep(arguments.seconds)
            for kind, (width, height, scale) in SIZES.items():
                tab = Tab(browser, f"http://127.0.0.1:{daemon.port}/", viewport={"width": width, "height": height},
                          color_scheme="dark" if kind == "dark" else "light", device_scale_factor=scale)
                for stream in ("lobby", "entrance", "desk") if kind != "phone" else ("lobby",):
                    tab.page.locator(f'[data-stream="{stream}"] button').click()
                time.sleep(8)      # rates are known then
                tab.page.locator('[data-stream="lobby"] .faces li').first.wait_for()
                time.sleep(1.5)    # and the picture is one of it
                tab.page.screenshot(path=arguments.folder / f"live-{kind}.png")
                tab.close()


if __name__ == "__main__":
    main()

"""Bad lines to cameras, and cameras that refuse: each is told apart, none harms its neighbour, all come back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from emotiond.frames import LIVE_DEPTH
from emotiond.pipeline import CPU_BATCH
from tests.support.daemon import Daemon, Scrape, endless
from tests.support.events import Entry, assert_whole, read_entries, read_status
from tests.support.pictures import Picture, face_frames
from tests.support.proxy import BadLine
from tests.support.redis_server import RedisServer
from tests.support.rtsp import TEST_PATTERN, RtspServer
from tests.support.videos import write_video
from tests.support.waiting import free_port, poll

pytestmark = pytest.mark.slow

FPS = 5      # two busy cores hold that for all streams
PASSWORD, WRONG_PASSWORD = "hunter2-is-right", "hunter2-is-not"
REFUSED_SECONDS = 4.0
PATIENCE = f"""
import emotiond.opening, emotiond.stream
emotiond.opening.OPEN_SECONDS, emotiond.stream.REFUSED_SECONDS = 3.0, {REFUSED_SECONDS}
"""
WITH_SOUND = TEST_PATTERN.removesuffix(")") + "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8 )"
MOST_MEMORY = 64 << 20
CUT = ("held", "slow", "sound")     # streams whose line is so bad that they go down
NOISY = ("damaged", "lossy")        # and those that go on with what comes through
STALL_SECONDS = {"held": 3, "slow": 3, "sound": 3}


@dataclass(frozen=True)
class Run:
    """What a daemon made of its cameras: while their lines were good, bad, and good again."""

    good: Scrape
    bad: Scrape
    good_again: Scrape
    grown: int                  # bytes of memory while the lines were bad
    latest: float               # age of a slow line's picture in seconds, at most
    lasted: float               # seconds in all
    states: dict[str, str]      # while the lines were bad
    entries: dict[str, list[Entry]]
    status: dict[str, list[tuple[str, str | None, str | None]]]
    output: str


def noisy_faces(count: int) -> Iterator[Picture]:
    """Yields pictures whose noise keeps the coder busy: they need as many bytes as a real camera's."""
    noise = np.random.default_rng(1)
    for picture in face_frames(count, 320, 240):
        yield np.clip(picture + noise.integers(-12, 12, picture.shape), 0, 255).astype(np.uint8)


def running(*streams: str) -> Callable[[Scrape], bool]:
    return lambda scrape: all(scrape("stream_up", stream=stream) == 1 for stream in streams)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Run]:
    require_server("rtsp-server")
    require_server("redis-server")
    folder = tmp_path_factory.mktemp("lines")
    clip = write_video(folder / "clip.mp4", noisy_faces(3 * FPS), fps=FPS)
    bytes_per_second = clip.stat().st_size / 3
    secret = folder / "password"
    secret.write_text(WRONG_PASSWORD)
    begin = time.monotonic()
    with (
        RedisServer(folder / "redis") as redis,
        RtspServer(folder / "open", {"/clip": clip, "/sound": WITH_SOUND}) as server,
        RtspServer(folder / "digest", {"/clip": clip}, user="ada", password=PASSWORD) as guarded,
        BadLine(server.port) as held, BadLine(server.port) as damaged, BadLine(server.port) as lossy,
        BadLine(server.port) as slow, BadLine(server.port) as sound,
    ):
        lines = {"held": held, "damaged": damaged, "lossy": lossy, "slow": slow, "sound": sound}
        streams = {name: {"source": f"rtsp://127.0.0.1:{line.port}/{'sound' if name == 'sound' else 'clip'}",
                          "stall_seconds": STALL_SECONDS.get(name, 10)} for name, line in lines.items()}
        with Daemon(folder, streams | {
            "near": endless(clip, FPS),
            "dead": {"source": f"rtsp://127.0.0.1:{free_port()}/clip"},
            "wrong-password": {
                "source": guarded.url("/clip", user=""), "username": "ada", "password_file": str(secret)},
            "unknown-path": {"source": server.url("/cellar")},
        }, redis.url, before=PATIENCE, publish_empty=True) as daemon:
            good = daemon.wait_for(running("near", *lines), "all lines are good")
            poll(lambda: [e for e in read_entries(redis.client, "slow") if e.body["clock"] == "rtcp"], 30,
                 "no time of the camera's")

            held.held = True
            damaged.damage = lossy.loss = 0.2
            slow.bytes_per_second = bytes_per_second / 3
            sound.loss = 1.0
            process = psutil.Process(daemon.child.pid)
            before = process.memory_info().rss
            ages: dict[tuple[int, int], float] = {}      # of events when they were first seen

            def all_seen(scrape: Scrape) -> bool:
                newest = read_entries(redis.client, "slow")[-1]
                ages.setdefault(newest.id, time.time() - newest.time.timestamp())
                return (
                    all(scrape("stream_reconnects_total", stream=stream, reason="stall")
                        > good("stream_reconnects_total", stream=stream, reason="stall") for stream in CUT)
                    and all(scrape("stream_decode_errors_total", stream=stream) >= 10 for stream in NOISY)
                    and scrape("stream_connects_total", stream="held", outcome="timeout") >= 1
                    and scrape("stream_connects_total", stream="wrong-password", outcome="auth") >= 2
                    and scrape("stream_connects_total", stream="unknown-path", outcome="not_found") >= 2)

            bad = daemon.wait_for(all_seen, "all faults are seen", deadline_s=60)
            grown, states = process.memory_info().rss - before, {
                name: stream["state"] for name, stream in daemon.streams().items()}
            outputs = [daemon.get(page).text for page in ("/metrics", "/streams", "/readyz")]

            held.held, damaged.damage, lossy.loss, slow.bytes_per_second, sound.loss = False, 0.0, 0.0, None, 0.0
            secret.write_text(PASSWORD)
            good_again = daemon.wait_for(running("near", "wrong-password", *lines), "all is well again", deadline_s=60)
            poll(lambda: read_entries(redis.client, "wrong-password"), 30, daemon.output)
            assert daemon.end() == 0
        lasted = time.monotonic() - begin
        yield Run(
            good, bad, good_again, grown, max(ages.values()), lasted, states,
            {stream: read_entries(redis.client, stream) for stream in daemon.names},
            {stream: [(kind, body["reason"], body["detail"]) for kind, body in read_status(redis.client, stream)]
             for stream in daemon.names},
            "\n".join([*outputs, daemon.log.read_text(), str([
                entry.fields for key in (*daemon.names, "status") for entry in read_entries(redis.client, key)])]))


@pytest.mark.parametrize(("stream", "says"), [
    ("held", "nothing came for"), ("slow", "slower than the camera"), ("sound", "only sound")])
def test_a_line_that_brings_no_picture_in_time_is_left_and_tried_again(run: Run, stream: str, says: str) -> None:
    first, down, *_, last = run.status[stream]

    assert first == ("up", None, None)
    assert down[:2] == ("down", "stall")
    assert says in (down[2] or "")
    assert last == ("up", None, None)
    stalls = run.good_again("stream_reconnects_total", stream=stream, reason="stall")
    assert stalls == run.good_again("stream_reconnects_total", stream=stream) >= 1
    assert run.good_again("stream_connects_total", stream=stream, outcome="ok") >= 2


@pytest.mark.parametrize("stream", NOISY)
def test_of_a_line_that_damages_or_loses_some_the_rest_is_analysed(run: Run, stream: str) -> None:
    assert run.status[stream] == [("up", None, None)]
    assert run.good("stream_decode_errors_total", stream=stream) == 0
    assert run.bad("stream_decode_errors_total", stream=stream) >= 10
    assert run.bad("stream_reconnects_total", stream=stream) == 0
    assert run.bad("frames_analyzed_total", stream=stream) > run.good("frames_analyzed_total", stream=stream) + 10


def test_pictures_of_a_slow_line_get_no_older_than_its_patience_and_none_pile_up(run: Run) -> None:
    assert STALL_SECONDS["slow"] / 2 < run.latest < 3 * STALL_SECONDS["slow"]
    assert run.bad("frames_in_flight", stream="slow") <= LIVE_DEPTH + 2 * CPU_BATCH
    assert run.grown < MOST_MEMORY


@pytest.mark.parametrize(("stream", "state", "outcome"), [
    ("wrong-password", "auth_failed", "auth"), ("unknown-path", "not_found", "not_found")])
def test_who_is_refused_asks_again_seldom(run: Run, stream: str, state: str, outcome: str) -> None:
    tries = run.bad("stream_connects_total", stream=stream, outcome=outcome)

    assert run.states[stream] in (state, "connecting")
    assert run.status[stream][0][:2] == ("down", outcome)
    assert tries == run.bad("stream_connects_total", stream=stream) >= 2
    assert tries <= 1 + run.lasted / REFUSED_SECONDS
    assert tries < run.bad("stream_connects_total", stream="dead", outcome="refused")


def test_a_password_that_is_mended_in_its_file_is_read_at_the_next_try(run: Run) -> None:
    assert [kind for kind, _, _ in run.status["wrong-password"]] == ["down", "up"]
    assert run.entries["wrong-password"]


def test_no_password_is_in_any_output(run: Run) -> None:
    assert "wrong-password" in run.output
    assert PASSWORD not in run.output
    assert WRONG_PASSWORD not in run.output


def test_the_neighbour_of_bad_lines_loses_nothing(run: Run) -> None:
    assert run.status["near"] == [("up", None, None)]
    assert run.good_again("frames_dropped_total", stream="near") == 0
    assert_whole(run.entries["near"])
    assert len(run.entries["near"]) > 3 * FPS

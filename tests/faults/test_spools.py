"""A spool that is full, on a full disk, or damaged: what is lost is counted, the rest comes in order, all goes on."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emotiond.spool import Spool
from tests.support import disks
from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, assert_whole, read_entries
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll

FPS = 5
MIB = 1 << 20
SMALL_DISK = 2 * MIB
FLIPPED = (10, 20, 30)
EARLIER = "earlier"      # mark of the events that an earlier run left


class Counts:
    """Counts what a spool says."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()

    def produced(self, stream: str, events: int) -> None:
        self.made[stream] += events

    def lost(self, stream: str, reason: str, events: int) -> None:
        self.gone[reason] += events


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few pages."""
    with disks.small_disk(tmp_path / "disk", SMALL_DISK) as folder:
        yield folder


def live(clip: Path) -> dict[str, str]:
    """Returns a stream that plays a clip for ever as a camera would."""
    return {"source": endless(clip, FPS)["source"]}


def leave(path: Path, events: int, max_bytes: int = 100 * MIB) -> int:
    """Leaves so many numbered events of `door` in a spool, as an earlier run would; returns how many it holds then."""
    counts, now_us = Counts(), time.time_ns() // 1000
    spool = Spool(path, max_bytes, 60, counts)
    spool.add_stream("door")
    for number in range(events):
        body = json.dumps({"frame": number, "filler": "x" * 2000})
        fields = {"specversion": "1.0", "id": f"door/{EARLIER}/{number}", "source": "/emotiond/test",
                  "type": "emotiond.frame.v1", "subject": "door", "time": "2026-01-01T00:00:00.000000Z",
                  "datacontenttype": "application/json", "data": body}
        captured_us = now_us - (events - number) * 1000
        spool.put("door", {name: value.encode() for name, value in fields.items()}, captured_us, 0.0, captured_us)
        spool.commit()
    spool.close()
    return counts.made["door"] - counts.gone["spool_full"]


def part(entries: list[Entry]) -> tuple[list[int], list[Entry]]:
    """Returns the numbers of the earlier run's events, which must come first, and the others."""
    earlier = [entry for entry in entries if EARLIER in entry.fields["id"]]
    assert entries[:len(earlier)] == earlier
    return [entry.frame for entry in earlier], entries[len(earlier):]


def test_a_full_spool_drops_the_oldest_of_a_camera_counts_them_and_lets_a_recording_wait(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    left = leave(tmp_path / "spool.db", 600, MIB)
    server = RedisServer(tmp_path / "redis")
    with Daemon(tmp_path, {"door": live(clip), "tape": endless(clip, FPS)}, server.url,
                spool={"path": str(tmp_path / "spool.db"), "max_bytes": MIB}) as daemon:
        full = daemon.wait_for(
            lambda scrape: scrape("events_dropped_total", stream="door", reason="spool_full") >= 3, "a full spool")
        waiting = daemon.scrape()("stream_frames_read_total", stream="tape")
        with server:
            daemon.wait_until_ready()
            daemon.wait_for(lambda scrape: scrape("stream_frames_read_total", stream="tape") > waiting + FPS,
                            "the recording goes on")
            last = daemon.scrape()
            assert daemon.end() == 0
            earlier, new = part(read_entries(server.client, "door"))
            tape = read_entries(server.client, "tape")

    dropped = last("events_dropped_total", stream="door", reason="spool_full")
    assert full("spool_bytes") <= full("spool_capacity_bytes") == MIB
    assert last("events_dropped_total") == dropped
    assert earlier == sorted(set(earlier))
    assert left - len(earlier) == dropped
    assert earlier[0] >= 600 - left + full("events_dropped_total")      # while nothing was on its way to Redis
    assert new == sorted(new, key=lambda entry: entry.frame)
    assert_whole(tape)
    assert len(new) + len(tape) == daemon.log_entries("stopped")[0]["frames_analyzed"]


def test_while_the_disk_is_full_events_go_on_from_memory_and_none_is_lost(
    small_disk: Path, tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    filler = small_disk / "filler"
    with (
        RedisServer(tmp_path / "redis") as server,
        Daemon(tmp_path, {"door": live(clip)}, server.url, spool={"path": str(small_disk / "spool.db")}) as daemon,
    ):
        poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
        fill(filler)
        daemon.wait_for(lambda scrape: scrape("spool_failing") == 1, "the disk is full")
        before = len(read_entries(server.client, "door"))
        poll(lambda: len(read_entries(server.client, "door")) > before + FPS, 30, daemon.output)
        full = daemon.scrape()
        filler.unlink()
        mended = daemon.wait_for(lambda scrape: scrape("spool_failing") == 0, "the disk takes events again")
        assert daemon.end() == 0
        entries = read_entries(server.client, "door")

    assert full("ready") == 1
    assert mended("events_dropped_total") == 0
    assert mended("frames_dropped_total", reason="inference_error") == 0
    frames = [entry.frame for entry in entries]
    assert frames == sorted(set(frames))
    assert len(frames) == daemon.log_entries("stopped")[0]["frames_analyzed"]


def fill(file: Path) -> None:
    """Writes until the disk is full."""
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(512))
        except OSError:
            return


def flip(content: bytes) -> bytes:
    """Changes one byte of some events."""
    flipped = bytearray(content)
    for number in FLIPPED:
        flipped[flipped.index(b'"frame": %d,' % number) + 30] ^= 1
    return bytes(flipped)


def wipe(content: bytes) -> bytes:
    """Wipes pages in the middle of a file."""
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 8192 + content[middle + 8192:]


def test_a_damaged_spool_gives_what_can_be_read_counts_the_rest_and_never_ends_the_daemon(
    tmp_path: Path, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    path = tmp_path / "spool.db"
    assert leave(path, 300) == 300
    path.write_bytes(wipe(flip(path.read_bytes())))
    with RedisServer(tmp_path / "redis") as server, Daemon(tmp_path, {"door": live(clip)}, server.url) as daemon:
        poll(lambda: len(part(read_entries(server.client, "door"))[1]) > FPS, 30, daemon.output)
        scrape = daemon.scrape()
        assert daemon.end() == 0
        earlier, new = part(read_entries(server.client, "door"))
    Spool(path, MIB, 60, Counts()).close()      # nothing is left to be mended

    missing = set(range(300)) - set(earlier)
    assert earlier == sorted(set(earlier))
    assert set(FLIPPED) < missing
    assert len(missing) == scrape("events_dropped_total", stream="door", reason="disk_error") < 50
    assert new == sorted(new, key=lambda entry: entry.frame)
    assert scrape("frames_dropped_total") == 0
    assert daemon.log_entries("it is set aside")

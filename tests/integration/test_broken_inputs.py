"""Files that are no video, or only part of one: a clear sentence or what could be analysed, never a traceback."""

import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import cv2
import pytest

from tests.support.commands import Ended, call, table_rows
from tests.support.daemon import with_path
from tests.support.pictures import face_frames, smiling_face, write_huge_png
from tests.support.videos import write_audio, write_flipped, write_truncated, write_video

MOST_MEMORY = 400 * 1024 * 1024
FRAMES = 45


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three seconds of a face: MP4 with its index in front, Matroska, MPEG-TS; by their endings."""
    folder = tmp_path_factory.mktemp("videos")
    made = {ending: write_video(folder / f"video.{ending}", face_frames(FRAMES, 320, 240))
            for ending in ("mp4", "mkv", "ts")}
    made["mp4"] = index_in_front(made["mp4"], folder / "front.mp4")
    return made


def index_in_front(source: Path, path: Path) -> Path:
    with av.open(str(source)) as container, av.open(str(path), "w", options={"movflags": "+faststart"}) as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in container.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    return path


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("Dear diary, today there was no picture.\n" * 100)


def write_noise(path: Path) -> None:
    path.write_bytes(zlib.compress(bytes(range(256)) * 500, 9) * 100)


def write_zeros(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap(path.with_name("trap"))))


@dataclass
class Trap:
    """Makes a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def write_no_index(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), face_frames(5, 320, 240))
    write_truncated(whole, path, 0.5)
    whole.unlink()


def write_huge_jpeg(path: Path) -> None:
    content = bytearray(cv2.imencode(".jpg", smiling_face())[1].tobytes())
    frame_header = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, frame_header + 5, 16384, 16384)
    path.write_bytes(content)


def write_huge_bmp(path: Path) -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 16384, 16384, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 100_000, 0, 0, 54) + header + bytes(100_000))


@pytest.mark.parametrize(("name", "write"), [
    ("empty.mp4", write_nothing), ("empty.jpg", write_nothing),
    ("diary.txt", write_text), ("diary.mp4", write_text), ("diary.jpg", write_text), ("diary", write_text),
    ("noise.mp4", write_noise), ("noise.jpg", write_noise), ("zeros.ts", write_zeros),
    ("model.pkl", write_pickle), ("model.mp4", write_pickle), ("model.pt", write_pickle),
    ("sound.mp4", write_audio), ("sound.m4a", write_audio),
    ("without-index.mp4", write_no_index),
    ("huge.png", write_huge_png), ("huge.jpg", write_huge_jpeg), ("huge.bmp", write_huge_bmp),
    ("pipe.mp4", os.mkfifo), ("folder.mp4", os.mkdir), ("missing.mp4", lambda path: None),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_video_is_refused_in_one_sentence(
    name: str, write: Callable[[Path], object], tmp_path: Path
) -> None:
    write(tmp_path / name)

    ended = call("replay", tmp_path / name)

    assert_refused(ended, tmp_path / name)
    assert not (tmp_path / "trap").exists()


def test_a_glob_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    assert_refused(call("replay", tmp_path / "*.mp4"), tmp_path / "*.mp4")


@pytest.mark.parametrize("write", [write_huge_png, write_huge_jpeg, write_huge_bmp])
def test_pictures_that_claim_to_be_huge_take_no_memory(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "huge.jpg")
    # not ru_maxrss, which counts what the parent held when it forked
    code = ("import re, sys, emotiond.cli; code = emotiond.cli.main(sys.argv[1:]); "
            "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024); sys.exit(code)")

    ended = subprocess.run([*with_path(), sys.executable, "-c", code, "replay", str(tmp_path / "huge.jpg")],
                           capture_output=True, text=True, timeout=100, check=False)

    assert ended.returncode == 66
    assert int(ended.stdout) < MOST_MEMORY


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_of_a_truncated_video_all_that_is_there_is_analysed(
    share: float, ending: str, videos: dict[str, Path], tmp_path: Path
) -> None:
    video = write_truncated(videos[ending], tmp_path / f"part.{ending}", share)
    there, damaged = decode(video)

    ended = call("replay", video)

    if not there:
        assert_refused(ended, video)
    else:
        # A transport stream that ends between two pictures says nothing of those that are missing.
        assert_analysed(ended, video, there, failed=damaged > 0 or ending != "ts")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("share", [1e-5, 1e-4, 1e-3, 1e-2])
def test_of_a_damaged_video_all_that_can_be_decoded_is_analysed(
    share: float, ending: str, videos: dict[str, Path], tmp_path: Path
) -> None:
    video = write_flipped(videos[ending], tmp_path / f"damaged.{ending}", share=share)
    there, damaged = decode(video)

    ended = call("replay", video)

    if not there:
        assert_refused(ended, video)
    else:
        assert_analysed(ended, video, there, failed=damaged > 0)


def test_the_files_beside_a_broken_one_are_analysed_all_the_same(videos: dict[str, Path], tmp_path: Path) -> None:
    write_text(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(videos["mp4"].read_bytes())
    write_nothing(tmp_path / "c.mp4")
    write_audio(tmp_path / "d.mp4")

    ended = call("replay", tmp_path)

    assert ended.code == 1
    assert table_rows(ended.out)["b"]["frames"] == str(FRAMES)
    assert [Path(line.split()[1].rstrip(":")).name for line in ended.lines] == ["a.mp4", "c.mp4", "d.mp4"]
    assert "Traceback" not in ended.err


PLAYLISTS = {
    "absolute.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\n{video}\n#EXT-X-ENDLIST\n",
    "url.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\nfile://{video}\n#EXT-X-ENDLIST\n",
    "beside.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\nvideo.ts\n#EXT-X-ENDLIST\n",
    "server.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "pipe.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\npipe.ts\n#EXT-X-ENDLIST\n",
    "disguised.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:3,\n{video}\n#EXT-X-ENDLIST\n",
    "absolute.ffconcat": "ffconcat version 1.0\nfile {video}\n",
    "beside.ffconcat": "ffconcat version 1.0\nfile video.ts\n",
    "concat.mp4": "ffconcat version 1.0\nfile video.ts\n",
    "server.ffconcat": "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.ts\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
                   "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_neither_another_file_nor_a_connection(
    name: str, videos: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "video.ts").write_bytes(videos["ts"].read_bytes())
    os.mkfifo(tmp_path / "pipe.ts")      # who opens it waits for ever
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / name).write_text(PLAYLISTS[name].format(video=videos["ts"], port=server.getsockname()[1]))

        ended = call("replay", tmp_path / name)

        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert_refused(ended, tmp_path / name)


@pytest.mark.parametrize("name", ["concat:{video}", "subfile,,start,0,end,0,,:{video}", "data:text/plain,hello",
                                  "file:{video}", "pipe:0", "async:{video}", "crypto:{video}"])
def test_ffmpegs_own_protocols_are_no_way_around(name: str, videos: dict[str, Path]) -> None:
    source = name.format(video=videos["ts"])

    ended = call("replay", source)

    assert ended.code in (66, 78)
    assert ended.out == ""
    assert re.fullmatch(r"emotiond: .*; .*\n", ended.err)


def decode(video: Path) -> tuple[int, int]:
    """Decodes as far as FFmpeg can; returns the pictures there are, and how much FFmpeg calls damaged."""
    pictures = damaged = 0
    try:
        container = av.open(str(video))
    except av.error.FFmpegError:
        return 0, 1
    with container, suppress(av.error.FFmpegError):
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                damaged += 1
                continue
            pictures += len(frames)
            damaged += sum(frame.is_corrupt for frame in frames)
    return pictures, damaged


def assert_refused(ended: Ended, path: Path) -> None:
    """Asserts exit 66, nothing on stdout, and one sentence on stderr that names the file and a mend."""
    assert ended.code == 66
    assert ended.out == ""
    assert re.fullmatch(rf"emotiond: {re.escape(str(path))}:? .+; .+\n", ended.err)


def assert_analysed(ended: Ended, path: Path, frames: int, *, failed: bool) -> None:
    """Asserts that all `frames` were read, and exit 1 with one sentence that names the file where it is not whole."""
    assert table_rows(ended.out)[path.stem]["frames"] == str(frames)
    if failed:
        assert ended.code == 1
        assert re.fullmatch(rf"emotiond: {re.escape(str(path))}: .+\n", ended.err)
    else:
        assert (ended.code, ended.err) == (0, "")

"""The smaller commands: `probe`, `tail` and `model`."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import emotionnet
from tests.conftest import require
from tests.support.commands import Ended, call, program
from tests.support.daemon import with_path, write_config
from tests.support.events import read_entries
from tests.support.pictures import face_frames
from tests.support.redis_server import RedisServer
from tests.support.videos import write_audio, write_video
from tests.support.waiting import free_port, poll

WEIGHTS = Path(emotionnet.__file__).parent / "weights"
SECRET = "s3cr3t-hunter2"
START = "2026-01-31T12:00:00Z"


@pytest.fixture(scope="module")
def smile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of one smiling face."""
    return write_video(tmp_path_factory.mktemp("smile") / "smile.mp4", face_frames(30, 320, 240))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, smile: Path) -> Iterator[RedisServer]:
    """A Redis with the events of two streams, and what another program put beside them."""
    require("redis-server")
    folder = tmp_path_factory.mktemp("redis")
    shutil.copy(smile, folder / "door.mp4")
    with RedisServer(folder / "server", password=SECRET) as server:
        ended = call("replay", smile, folder / "door.mp4", "--redis", server.url, "--start-time", START)
        assert (ended.code, ended.err) == (0, "")
        server.client.set("emotions:something", "else")
        yield server


def check_connect(folder: Path, streams: dict[str, Any], redis_url: str) -> Ended:
    file = write_config(folder / "emotiond.yaml", {
        "streams": streams, "redis": {"url": redis_url}, "spool": {"path": str(folder / "spool.db")}})
    return call("check", "-c", file, "--connect")


def test_check_opens_all_that_a_configuration_names(tmp_path: Path, smile: Path, redis: RedisServer) -> None:
    ended = check_connect(tmp_path, {"door": {"source": str(smile)}}, redis.url)

    assert (ended.code, ended.err) == (0, "")
    told = [line.partition(",")[0] for line in ended.out.splitlines()]
    assert told == ["models: ok", "spool: ok", "redis: ok", "streams.door: ok", f"{tmp_path}/emotiond.yaml: ok"]
    assert "h264 320x240" in ended.out
    assert not (tmp_path / "spool.db").exists()


def test_check_names_everything_that_is_not_there_at_once_and_no_secret(
    tmp_path: Path, smile: Path, redis: RedisServer
) -> None:
    nobody = f"rtsp://viewer:{SECRET}@127.0.0.1:{free_port()}/door"
    (tmp_path / "text.mp4").write_text("no video")
    ended = check_connect(tmp_path, {
        "door": {"source": nobody}, "hall": {"source": str(tmp_path / "text.mp4")}, "yard": {"source": str(smile)},
    }, redis.url.replace(SECRET, f"{SECRET}-not"))

    assert ended.code == 69
    assert [line.split(": ")[1] for line in ended.lines] == ["redis.url", "streams.door.source", "streams.hall.source"]
    assert "streams.yard: ok" in ended.out
    assert SECRET not in ended.err + ended.out


def test_probe_tells_what_a_recording_holds(smile: Path) -> None:
    ended = call("probe", smile)

    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"h264, 320x240 .*15\.00 frames/s", ended.out)
    assert re.search(r"up to 1 in a picture \(\d+ looked at\)", ended.out)
    assert str(smile) in ended.out


def test_probe_shows_the_picture_as_displayed(tmp_path: Path) -> None:
    video = write_video(tmp_path / "phone.mp4", face_frames(5, 320, 240), rotation=90)

    assert "240x320" in call("probe", video).out


@pytest.mark.parametrize("write", [lambda path: path.write_text("no video"), write_audio, lambda path: None])
def test_probe_ends_with_66_where_a_file_is_no_video(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path / "file.mp4")

    ended = call("probe", tmp_path / "file.mp4")

    assert (ended.code, ended.out) == (66, "")
    assert re.fullmatch(rf"emotiond: {tmp_path}/file\.mp4 .+; .+\n", ended.err)


@pytest.mark.parametrize("url", [
    "rtsp://ada:{secret}@127.0.0.1:{port}/lobby", "rtsp://127.0.0.1:{port}/lobby?user=ada&password={secret}",
    "http://ada:{secret}@127.0.0.1:{port}/lobby"])
def test_probe_ends_with_69_where_a_camera_is_missing_and_keeps_its_password(url: str) -> None:
    ended = call("probe", url.format(secret=SECRET, port=free_port()))

    assert (ended.code, ended.out) == (69, "")
    assert re.fullmatch(r"emotiond: .*127\.0\.0\.1.* cannot be opened .+; .+\n", ended.err)
    assert SECRET not in ended.err


def test_tail_prints_the_events_of_a_stream_in_order(redis: RedisServer) -> None:
    ended = call("tail", "smile", "--json", "--limit", "7", "--from-start", "--redis", redis.url)

    assert (ended.code, ended.err) == (0, "")
    assert [json.loads(line) for line in ended.out.splitlines()] == [
        entry.event for entry in read_entries(redis.client, "smile")[:7]]


def test_tail_without_a_name_prints_all_streams_but_the_status(redis: RedisServer) -> None:
    redis.client.xadd("emotions:status", {"type": "emotiond.heartbeat.v1"})

    ended = call("tail", "--json", "--limit", "60", "--from-start", "--redis", redis.url)

    subjects = [json.loads(line)["subject"] for line in ended.out.splitlines()]
    assert {name: subjects.count(name) for name in subjects} == {"smile": 30, "door": 30}


def test_tail_prints_a_line_for_each_face(redis: RedisServer) -> None:
    ended = call("tail", "smile", "--limit", "30", "--from-start", "--redis", redis.url)

    header, *lines = ended.out.splitlines()
    assert header.split()[:3] == ["time", "stream", "frame"]
    assert len(lines) == 30
    assert all(re.match(rf"2026-01-31T12:00:\S+Z +smile +{frame} +1 +\d+,\d+ \d+x\d+ +happy ", line)
               for frame, line in enumerate(lines))


def test_tail_waits_for_new_events_and_passes_over_what_is_none(redis: RedisServer, smile: Path) -> None:
    child = start_tail(redis, "smile", "--json", "--limit", "3")
    redis.client.xadd("emotions:smile", {"hello": "from another program"})

    assert call("replay", smile, "--redis", redis.url).code == 0

    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert [json.loads(line)["data"]["frame"] for line in out.splitlines()] == [0, 1, 2]
    assert "2026-01-31" not in out


def test_tail_goes_on_when_redis_is_back(tmp_path: Path, smile: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        child = start_tail(server, "smile", "--json", "--limit", "30")
        server.kill()
        server.start()
        assert call("replay", smile, "--redis", server.url).code == 0
        out, err = child.communicate(timeout=60)

    assert child.returncode == 0
    assert [json.loads(line)["data"]["frame"] for line in out.splitlines()] == list(range(30))
    assert re.fullmatch(r"Redis at redis://127\.0\.0\.1:\d+/0 failed \(connection: .*; trying again\n", err)


def test_tail_ends_on_ctrl_c_without_a_traceback(redis: RedisServer) -> None:
    child = start_tail(redis, "smile")

    child.send_signal(signal.SIGINT)

    _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (130, "")


def test_tail_says_where_redis_is_missing_and_keeps_its_password() -> None:
    ended = call("tail", "--redis", f"redis://ada:{SECRET}@127.0.0.1:{free_port()}/0")

    assert ended.code == 69
    assert re.search(r"emotiond: Redis at redis://\S*127\.0\.0\.1\S* failed .*; check redis\.url", ended.err)
    assert SECRET not in ended.err


def start_tail(redis: RedisServer, *arguments: str) -> "subprocess.Popen[str]":
    """Starts it in a process of its own and returns once it waits for events."""
    child = subprocess.Popen([*program(), "tail", *arguments, "--redis", redis.url], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)

    def waits() -> bool:
        clients: Any = redis.client.client_list()
        return any(client["cmd"] == "xread" and "b" in client["flags"] for client in clients)

    try:
        poll(waits, 60, "tail does not read")
    except BaseException:
        child.kill()
        raise
    return child


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A copy of the shipped set."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


def test_model_info_shows_what_the_shipped_weights_are() -> None:
    ended = call("model", "info")

    assert (ended.code, ended.err) == (0, "")
    for text in ("emotionnet-", "1,768,551", "angry, disgust, fear, happy, neutral, sad, surprise", "emotionnet.onnx"):
        assert text in ended.out


def test_model_info_reads_ones_own_weights(weights: Path) -> None:
    description = json.loads((weights / "emotionnet.json").read_text())
    (weights / "emotionnet.json").write_text(json.dumps({**description, "version": "7.7.7"}))

    assert "emotionnet-7.7.7" in call("model", "info", weights).out


def test_model_verify_accepts_the_shipped_weights() -> None:
    ended = verify_without_torch("builtin")

    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"onnxruntime +ok", ended.out)
    assert re.search(r"torch +not installed", ended.out)


@pytest.mark.parametrize("name", ["emotionnet.onnx", "emotionnet.safetensors"])
def test_model_verify_refuses_a_tampered_file(name: str, weights: Path) -> None:
    content = bytearray((weights / name).read_bytes())
    content[len(content) // 2] ^= 1
    (weights / name).write_bytes(content)

    ended = verify_without_torch(str(weights))

    assert ended.code == 78
    assert re.fullmatch(rf"emotiond: {weights}/{name}: its sha256 .+\n", ended.err)


@pytest.mark.parametrize("change", [
    {"labels": ["angry", "happy"]}, {"labels": ["a", "b", "c", "d", "e", "f", "f"]}, {"input": {"side": 63}},
    {"sha256": {}}, {"surprise": 1}, {"parameters": 0}])
def test_model_verify_refuses_a_tampered_description(change: dict[str, Any], weights: Path) -> None:
    description = json.loads((weights / "emotionnet.json").read_text())
    (weights / "emotionnet.json").write_text(json.dumps({**description, **change}))

    ended = call("model", "verify", weights)

    assert ended.code == 78
    assert re.fullmatch(rf"emotiond: {weights}/emotionnet.+\n", ended.err)


@pytest.mark.parametrize("name", ["model.pt", "missing.json", "text.json"])
def test_model_info_refuses_what_is_no_set_of_weights(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")

    ended = call("model", "info", tmp_path / name)

    assert (ended.code, ended.out) == (78, "")
    assert re.fullmatch(rf"emotiond: {tmp_path}/{name}: .+; .+\n", ended.err)
    assert "Errno" not in ended.err


def verify_without_torch(weights: str) -> Ended:
    """Runs `model verify` as the base install does, which has no torch."""
    code = "import sys; sys.modules['torch'] = None; import emotiond.cli; sys.exit(emotiond.cli.main(sys.argv[1:]))"
    ended = subprocess.run([*with_path(), sys.executable, "-c", code, "model", "verify", weights],
                           capture_output=True, text=True, timeout=100, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)

"""Redis over TLS and over a socket of the file system: what cannot be trusted is refused, in one clear sentence."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from emotiond.config import RedisConfig
from emotiond.store import Store, describe, error_kind
from tests.support.certificates import ANY_NAME, Certificate, Tls, make_authority
from tests.support.commands import run
from tests.support.daemon import Daemon, endless, write_config
from tests.support.events import assert_whole, read_entries
from tests.support.pictures import face_frames
from tests.support.redis_groups import Cluster, Watched
from tests.support.redis_server import RedisServer
from tests.support.videos import write_video
from tests.support.waiting import poll

FPS = 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second with a face in each frame."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", face_frames(FPS, 320, 240), fps=FPS)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Tls:
    require_server("redis-server")
    require_server("openssl")
    return Tls(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tls: Tls) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), tls=tls) as server:
        yield server


@pytest.fixture(scope="module")
def stranger(tls: Tls) -> Certificate:
    """An authority that signed nothing here."""
    return make_authority(tls.authority.file.parent, "stranger")


def test_events_come_whole_once_the_right_authority_is_named(
    server: RedisServer, tls: Tls, stranger: Certificate, clip: Path, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(stranger.file.read_bytes())
    url = server.url.replace(str(tls.authority.file), str(authority))
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, url) as daemon:
        refused = daemon.wait_for(lambda scrape: scrape("redis_errors_total", kind="connection") >= 2
                                  and scrape("spool_events") >= FPS, "refused")
        not_ready = daemon.get("/readyz")
        authority.write_bytes(tls.authority.file.read_bytes())
        daemon.wait_until_ready()
        poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
        assert daemon.end() == 0

    assert refused("redis_up") == refused("ready") == 0
    assert not_ready.status == 503
    assert "?ssl_ca_certs=" in not_ready.text
    assert len(daemon.log_entries("certificate verify failed")) == 1      # not at each try
    assert daemon.log_entries("stopped")[0]["frames_dropped"] == 0
    entries = read_entries(server.client, "door")
    assert_whole(entries)
    assert len(entries) == daemon.log_entries("stopped")[0]["frames_analyzed"]


@pytest.mark.parametrize(("change", "says"), [
    (lambda url, tls, own: url.replace(str(tls.authority.file), str(own)), "?ssl_ca_certs="),
    (lambda url, tls, own: url.partition("?")[0], "?ssl_ca_certs="),      # the system's authorities
    (lambda url, tls, own: url.partition("&")[0], "ssl_certfile="),
    (lambda url, tls, own: url.replace(str(tls.client.key), str(own.with_suffix(".key"))), "check the files"),
    (lambda url, tls, own: url.replace(str(tls.authority.file), "/nowhere/authority.pem"), "check the files"),
    (lambda url, tls, own: url.replace(str(tls.authority.file), __file__), "check the files"),
    (lambda url, tls, own: url.partition("?")[0].replace("rediss", "redis"), "check redis.url"),
], ids=["another authority", "no authority", "no certificate", "another's key", "no such file", "no certificate's file",
        "no TLS"])
def test_a_server_or_client_that_is_not_trusted_is_one_sentence_with_the_mend(
    change: Callable[[str, Tls, Path], str], says: str, server: RedisServer, tls: Tls, stranger: Certificate
) -> None:
    url = change(server.url, tls, stranger.file)
    store = Store(RedisConfig(url=url), url)

    with pytest.raises(redis.RedisError) as error:
        store.ping()
    store.close()

    sentence = describe(error.value, url)
    assert error_kind(error.value) == "connection"
    assert says in sentence.partition("; ")[2]
    assert "\n" not in sentence


def test_a_server_under_another_name_than_its_certificates_is_refused(tls: Tls, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", tls=Tls(tmp_path / "tls", "DNS:elsewhere")) as server:
        url = server.url.replace(ANY_NAME, "")
        store = Store(RedisConfig(url=url), url)
        with pytest.raises(redis.RedisError) as error:
            store.ping()
        store.close()

    assert url != server.url
    assert "as its certificate does" in describe(error.value, url)


def test_the_check_names_what_is_missing(server: RedisServer, clip: Path, tmp_path: Path) -> None:
    ended = run("check", "--connect", "-c", write_config(tmp_path / "emotiond.yaml", {
        "streams": {"door": {"source": str(clip)}}, "redis": {"url": server.url.partition("&")[0]},
        "spool": {"path": str(tmp_path / "spool.db")}}))

    assert ended.code == 69
    assert "ssl_certfile=" in ended.err
    assert "Traceback" not in ended.err


def test_an_option_that_is_none_is_a_configuration_error(tmp_path: Path, clip: Path) -> None:
    ended = run("check", "-c", write_config(tmp_path / "emotiond.yaml", {
        "streams": {"door": {"source": str(clip)}}, "redis": {"url": "rediss://127.0.0.1/0?ssl_ca_cert=ca.pem"}}))

    assert ended.code == 78
    assert "ssl_ca_certs=" in ended.err


def test_events_come_whole_over_a_socket_of_the_file_system(
    clip: Path, tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")
    socket = tmp_path / "redis.sock"
    with (
        RedisServer(tmp_path / "redis", options={"unixsocket": str(socket)}) as server,
        Daemon(tmp_path, {"door": endless(clip, FPS)}, f"unix://{socket}?db=0") as daemon,
    ):
        poll(lambda: read_entries(server.client, "door"), 30, daemon.output)
        assert daemon.end() == 0
        entries = read_entries(server.client, "door")
    assert_whole(entries)
    assert len(entries) == daemon.log_entries("stopped")[0]["frames_analyzed"]


@pytest.mark.slow
def test_sentinels_and_their_primary_are_asked_over_tls(tls: Tls, clip: Path, tmp_path: Path) -> None:
    with (
        Watched(tmp_path / "watched", tls) as watched,
        Daemon(tmp_path / "daemon", {"door": endless(clip, FPS)}, watched.url) as daemon,
    ):
        poll(lambda: len(read_entries(watched.primary().client, "door")) > FPS, 30, daemon.output)
        assert daemon.end() == 0
        entries = read_entries(watched.primary().client, "door")
    assert_whole(entries)
    assert len(entries) == daemon.log_entries("stopped")[0]["frames_analyzed"]


@pytest.mark.slow
def test_a_clusters_nodes_are_asked_over_tls_also_after_one_died(tls: Tls, clip: Path, tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "cluster", tls) as cluster,
        Daemon(tmp_path / "daemon", {"door": endless(clip, FPS)}, cluster.url) as daemon,
    ):
        client = cluster.client
        assert client
        poll(lambda: len(read_entries(client, "door")) > FPS, 30, daemon.output)
        old = cluster.primary_of("emotions:door")
        old.kill()
        poll(lambda: cluster.failed_over_from(old), 60, "no replica took over")
        published = daemon.scrape()("events_published_total")
        daemon.wait_for(lambda scrape: scrape("events_published_total") > published + FPS, "events go on")
        assert daemon.end() == 0
        entries = read_entries(client, "door")
    assert_whole(entries)
    assert len(entries) == daemon.log_entries("stopped")[0]["frames_analyzed"]

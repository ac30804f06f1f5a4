"""`emotiond.client` on what `redis.url` may name: Redis, the embedded Valkey, a socket, TLS, Sentinels, a Cluster."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from emotiond.client import RefusedError, Subscription, subscribe
from emotiond.config import RedisConfig
from emotiond.embedded import embedded_valkey
from emotiond.store import Client, connect
from tests.support.certificates import Tls
from tests.support.collecting import Collector
from tests.support.redis_groups import Cluster, Watched
from tests.support.redis_server import RedisServer
from tests.support.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AT_US = 1_769_860_800_000_000      # 2026-01-31T12:00:00Z
STREAMS = ("lobby", "door", "yard", "hall")


@pytest.fixture(scope="module", params=["redis", "valkey", "socket", "tls", "sentinel", "cluster"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]
) -> Iterator[str]:
    """Names a running server, or several."""
    folder = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as stack:
        if request.param == "valkey":
            yield stack.enter_context(embedded_valkey())
            return
        require_server("redis-server")
        match request.param:
            case "socket":
                stack.enter_context(RedisServer(folder, options={"unixsocket": str(folder / "socket")}))
                yield f"unix://{folder}/socket"
            case "tls":
                require_server("openssl")
                yield stack.enter_context(RedisServer(folder / "redis", tls=Tls(folder / "tls"))).url
            case "sentinel":
                yield stack.enter_context(Watched(folder)).url
            case "cluster":
                yield stack.enter_context(Cluster(folder)).url
            case _:
                yield stack.enter_context(RedisServer(folder)).url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Speaks with it; it is empty."""
    client = connect(RedisConfig(), url)
    for stream in STREAMS:
        client.delete(f"emotions:{stream}")
    yield client
    client.close()


def ids(events: Any) -> list[str]:
    return [event.id for event in events]


def test_streams_are_read_in_order_and_new_ones_are_found(url: str, client: Client) -> None:
    with Writer(url) as writer, Collector(subscribe(url)) as collector:
        begin = time.monotonic()
        for stream in STREAMS:
            writer.put(stream, 130)
        collector.wait_for(writer.ids)
        assert time.monotonic() - begin < 5
        assert {event.entry_id for event in collector.events if event.stream == "lobby"} == {
            entry_id.decode() for entry_id, _ in client.xrange("emotions:lobby")}      # pyright: ignore
        for stream in STREAMS:
            assert [event.id for event in collector.events if event.stream == stream] == [
                event_id for event_id in writer.ids if event_id.startswith(stream)]


def test_a_start_is_now_the_first_entry_one_of_them_or_a_time(url: str, client: Client) -> None:
    del client

    def read(start: str | datetime) -> list[str]:
        return sorted(ids(subscribe(url, STREAMS, start=start, follow=False)))

    with Writer(url) as writer:
        for stream in STREAMS:
            writer.put(stream, 10, at_us=AT_US, apart_us=1_000_000)
        writer.wait()
        moment = datetime(2026, 1, 31, 12, 0, 7, tzinfo=UTC)
        last = sorted(event_id for event_id in writer.ids if int(event_id.rpartition("/")[2]) >= 7)

        assert read("new") == []
        assert read("first") == sorted(writer.ids)
        assert read(moment) == read(f"{AT_US // 1000 + 6000}-0") == last


def test_a_group_shares_them_claims_what_was_left_and_keeps_nothing(url: str, client: Client) -> None:
    def member(**options: Any) -> Subscription:
        return subscribe(url, group="g", start="first", **options)

    with Writer(url) as writer:
        for stream in STREAMS:
            writer.put(stream, 30)
        writer.wait()
        with member() as left:      # hands back all but the first
            first = next(left)
            left.acknowledge(first)
        stuck = iter(member(consumer="stuck"))      # as if it was killed
        begun = {next(stuck).id}
        with Collector(member(reclaim_after=1)) as one, Collector(member(reclaim_after=1)) as other:
            for stream in STREAMS:
                writer.put(stream, 100)
            rest = [event_id for event_id in writer.ids if event_id != first.id]
            end = time.monotonic() + 20
            while set(one.ids + other.ids) != set(rest) and time.monotonic() < end:
                time.sleep(0.05)
    found = one.ids + other.ids

    assert sorted(found) == sorted(rest)
    assert begun <= set(found)
    for stream in STREAMS:
        consumers: Any = client.xinfo_consumers(f"emotions:{stream}", "g")
        assert {consumer["name"] for consumer in consumers} <= {b"released", b"stuck"}
        assert not any(consumer["pending"] for consumer in consumers)


def test_a_clusters_node_alone_is_refused_with_the_mend(url: str, client: Client) -> None:
    del client
    if "cluster" not in url:
        return
    with Writer(url) as writer:
        for stream in STREAMS:
            writer.put(stream)
        writer.wait()
    plain = f"redis://{url.removeprefix('redis+cluster://').partition(',')[0]}/0"

    with pytest.raises(RefusedError, match=r"\(moved: .*redis\+cluster://host:6379"):
        next(subscribe(plain, STREAMS))
    with pytest.raises(RefusedError, match=r"\(moved: .*redis\+cluster://host:6379"):
        next(subscribe(plain, STREAMS, start="first"))

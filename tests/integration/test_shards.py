"""Several daemons share the streams of one file and a Redis Cluster."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from emotiond.shard import shard_of
from tests.support.daemon import Daemon, endless
from tests.support.events import Entry, read_entries
from tests.support.redis_groups import Cluster
from tests.support.spool_file import read_spool
from tests.support.waiting import poll

STREAMS = [f"camera-{number}" for number in range(12)]
FPS = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, require_server: Callable[[str], None]) -> Iterator[Cluster]:
    require_server("redis-server")
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Fleet:
    """Shards that run, each with its folder, which a later one of the same index goes on with."""

    def __init__(self, folder: Path, cluster: Cluster, clip: Path) -> None:
        self._folder, self._cluster = folder, cluster
        self._streams = {name: endless(clip, FPS) for name in STREAMS}

    def daemon(self, index: int, count: int) -> Daemon:
        return Daemon(self._folder / f"shard-{index}", self._streams, self._cluster.url, instance=f"shard-{index}",
                      shard={"index": index, "count": count})

    @contextlib.contextmanager
    def run(self, count: int) -> Generator[list[Daemon]]:
        with contextlib.ExitStack() as stack:
            daemons = [stack.enter_context(self.daemon(index, count)) for index in range(count)]
            for daemon in daemons:
                daemon.wait_until_ready()
            yield daemons

    def entries(self, stream: str) -> list[Entry]:
        assert self._cluster.client
        return read_entries(self._cluster.client, stream)

    def wait_for_all(self, count: int) -> None:
        """Returns when every stream has new events, from the shard that is to run it."""
        before = {stream: len(self.entries(stream)) for stream in STREAMS}

        def have_more() -> bool:
            return all(len(self.entries(stream)) >= before[stream] + 3 for stream in STREAMS)

        poll(have_more, 60, lambda: str({s: len(self.entries(s)) - before[s] for s in STREAMS}), every_s=.2)
        for stream in STREAMS:
            assert {entry.fields["source"] for entry in self.entries(stream)[-2:]} == {
                f"/emotiond/shard-{shard_of(stream, count)}"}


def test_each_stream_runs_on_one_shard_and_what_was_spooled_comes(
    tmp_path: Path, cluster: Cluster, clip: Path
) -> None:
    fleet = Fleet(tmp_path, cluster, clip)
    with fleet.run(2) as daemons:
        assert_each_on_one(daemons)
        fleet.wait_for_all(2)

        for server in cluster.servers:
            server.freeze()
        victim = daemons[1]
        victim.wait_for(lambda scrape: scrape("spool_events") >= 20, "events in the spool")
        victim.kill()
        spooled = [event for event in read_spool(tmp_path / "shard-1/spool.db") if event.waits]
        for server in cluster.servers:
            server.thaw()
        assert len(spooled) >= 20
        assert {event.stream for event in spooled} == {s for s in STREAMS if shard_of(s, 2) == 1}

        with fleet.daemon(1, 2) as again:
            again.wait_until_ready()
            fleet.wait_for_all(2)
            assert again.end() == 0
        assert daemons[0].end() == 0

    with fleet.run(3) as daemons:
        assert_each_on_one(daemons)
        fleet.wait_for_all(3)
        assert [daemon.end() for daemon in daemons] == [0, 0, 0]

    for stream in STREAMS:
        entries = fleet.entries(stream)
        ids = [entry.id for entry in entries]
        assert ids == sorted(set(ids))
        assert len({entry.fields["id"] for entry in entries}) == len(entries)
        there = {entry.fields["id"] for entry in entries}
        assert {event.fields["id"] for event in spooled if event.stream == stream} <= there


def assert_each_on_one(daemons: list[Daemon]) -> None:
    """Asserts that pages and metrics of all shards agree on who runs what."""
    count = len(daemons)
    for index, daemon in enumerate(daemons):
        scrape = daemon.scrape()
        assert set(daemon.streams()) == {stream for stream in STREAMS if shard_of(stream, count) == index}
        assert (scrape("shard_index"), scrape("shards")) == (index, count)
        for stream in STREAMS:
            assert scrape("stream_assigned", stream=stream) == (shard_of(stream, count) == index)
        assert 0 < len(daemon.streams()) < len(STREAMS)

"""The alerts for shards, of a real Prometheus that scrapes real shards."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emotiond.shard import shard_of
from tests.support.daemon import Daemon, endless
from tests.support.prometheus_server import PrometheusServer
from tests.support.redis_server import RedisServer
from tests.support.rules import SHARD_ALERTS, hurried
from tests.support.waiting import poll

STREAMS = [f"camera-{number}" for number in range(6)]
LOST = {stream for stream in STREAMS if shard_of(stream, 2) == 1}


@pytest.mark.slow
def test_each_shard_alert_fires_for_its_fault_and_none_without(
    tmp_path: Path, redis_server: RedisServer, clip: Path, require_server: Callable[[str], None]
) -> None:
    require_server("prometheus")

    def shard(name: str, index: int, count: int) -> Daemon:
        return Daemon(tmp_path / name, {stream: endless(clip, 1) for stream in STREAMS}, redis_server.url,
                      instance=name, shard={"index": index, "count": count})

    first, second, twin, stray = shard("first", 0, 2), shard("second", 1, 2), shard("twin", 0, 2), shard("stray", 2, 3)
    targets = [f"127.0.0.1:{daemon.port}" for daemon in (first, second, twin, stray)]
    with first, second, PrometheusServer(
            tmp_path / "prometheus", *targets, job="emotiond-fleet", rules=(hurried(tmp_path),)) as server:
        def firing() -> set[tuple[str, str]]:
            alerts = server.query('ALERTS{alertstate="firing"}')
            return {(labels["alertname"], labels.get("shard", "")) for labels, _ in alerts
                    if labels["alertname"] in SHARD_ALERTS}

        def wait_for(*alerts: tuple[str, str]) -> None:
            poll(lambda: firing() == set(alerts), 60, lambda: f"{firing()} and not {alerts}", every_s=.2)

        poll(lambda: len(server.query("job_stream:emotiond_stream_assigned:sum == 1")) == len(STREAMS), 30,
             lambda: str(server.query("job_stream:emotiond_stream_assigned:sum")))
        wait_for()

        second.kill()
        wait_for(("EmotiondStreamOnNoShard", ""))
        ((_, count),) = server.query("count by (job, namespace) (job_stream:emotiond_stream_assigned:sum == 0)")
        assert count == len(LOST)
        lost = server.query("job_stream:emotiond_stream_assigned:sum == 0")
        assert {labels["stream"] for labels, _ in lost} == LOST

        second.start()
        wait_for()
        with twin:
            wait_for(("EmotiondStreamOnTwoShards", ""), ("EmotiondShardMismatch", "0"))
        with stray:
            poll(lambda: ("EmotiondShardMismatch", "") in firing(), 60, lambda: str(firing()))

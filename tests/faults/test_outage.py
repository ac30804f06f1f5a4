"""A long outage of Redis at a high rate, in short; ten minutes of it are `python -m tests.chaos.outage`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.figures import quantile
from tests.chaos.outage import run
from tests.support.daemon import Scrape


@pytest.mark.slow
def test_while_redis_is_away_analysis_goes_on_as_before_and_all_comes_in_order_afterwards(
    tmp_path: Path, require_server: Callable[[str], None]
) -> None:
    require_server("redis-server")

    outcome = run(tmp_path, seconds=3, rate=80)

    assert outcome.wrong == []
    assert outcome.dropped == 0
    assert outcome.stored == outcome.analyzed
    assert outcome.away.after("redis_up") == 0
    assert outcome.away.after("spool_events") > outcome.away.rate
    assert outcome.away.rate > outcome.base.rate / 4      # of a busy machine; the full run asks for more
    assert outcome.drain_seconds < 60


def test_a_quantile_lies_in_its_bucket() -> None:
    def histogram(*counts: int) -> Scrape:
        bounds = ("0.1", "0.2", "+Inf")
        return Scrape("# TYPE emotiond_wait histogram\n" + "".join(
            f'emotiond_wait_bucket{{of="a",le="{bound}"}} {count}\n'
            for bound, count in zip(bounds, counts, strict=True)) + f'emotiond_wait_count{{of="a"}} {counts[-1]}\n')

    before, after = histogram(5, 5, 5), histogram(95, 105, 105)

    assert quantile(0.95, "wait", before, after, of="a") == pytest.approx(0.15)
    assert quantile(0.45, "wait", before, after) == pytest.approx(0.05)
    assert quantile(0.95, "wait", before, histogram(5, 5, 105)) == pytest.approx(0.2)
    assert quantile(0.95, "wait", after, after) == 0

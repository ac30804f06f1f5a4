"""A short run of `make chaos`, and its judge, who must see what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.__main__ import judge, read_produced, run
from tests.chaos.feeder import Body
from tests.chaos.servers import KINDS

PRODUCED = {(1, "a"): 3, (2, "a"): 2}


def stored(*places: tuple[int, int]) -> dict[str, list[Body]]:
    return {"a": [Body(run, number) for run, number in places]}


@pytest.mark.parametrize(("places", "wrong"), [
    ([(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)], {}),
    ([(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)], {}),      # stored, and killed before that was told
    ([(1, 0), (1, 2), (2, 0), (2, 1)], {"missing": 1}),
    ([(1, 0), (1, 1), (1, 2)], {"missing": 2}),
    ([(1, 0), (1, 1), (1, 1), (1, 2), (2, 0), (2, 1)], {"twice": 1}),
    ([(1, 0), (1, 2), (1, 1), (2, 0), (2, 1)], {"out of order": 1}),
    ([(2, 0), (2, 1), (1, 0), (1, 1), (1, 2)], {"out of order": 1})])
def test_the_judge_sees_what_is_missing_twice_or_out_of_order(
    places: list[tuple[int, int]], wrong: dict[str, int]
) -> None:
    verdict = judge(PRODUCED, stored(*places))

    assert {name: count for name, count in verdict.items() if count and name != "stored"} == wrong
    assert verdict["stored"] == len(places)


def test_what_was_produced_is_read_back_with_its_losses(tmp_path: Path) -> None:
    (tmp_path / "produced").write_text("1 a 2\n1 a 5\n1 b 1\n1 a lost spool_full 3\n2 a 1\n")

    assert read_produced(tmp_path / "produced") == (
        {(1, "a"): 5, (1, "b"): 1, (2, "a"): 1}, ["1 a lost spool_full 3"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_random_faults_lose_nothing_and_double_nothing(
    kind: str, tmp_path: Path, require_server: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    require_server("redis-server")

    assert run(kind, seed=1, minutes=0.25, faults=0, rate=300, folder=tmp_path), capsys.readouterr().out

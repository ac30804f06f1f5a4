"""A short run of `make chaos ARGS=--daemon`, and its judge, who must see what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.daemon_kills import Judge, run
from tests.support.events import Entry
from tests.support.spool_file import Spooled

SPOOLED = "abcd"


def entry(number: int, name: str, body: str = "") -> Entry:
    return Entry((number, 0), {"id": name, "data": body})


@pytest.mark.parametrize(("there", "wrong"), [
    ("abcd", {}),
    ("abd", {"missing": 1, "gone": 1}),
    ("abc", {"missing": 1}),
    ("abccd", {"twice": 1}),
    ("acbd", {"out of order": 1}),
    ("abcde", {"unknown": 1}),
    ("abcD", {"changed": 1})])
def test_the_judge_of_kills_sees_what_is_wrong(there: str, wrong: dict[str, int]) -> None:
    judge = Judge()
    judge.look_at_spool(Spooled(number, "door", True, {"id": name, "data": ""}) for number, name in enumerate(SPOOLED))
    judge.arrived["door"] = set("abc")
    stored = [entry(number, name.lower(), "other" if name.isupper() else "") for number, name in enumerate(there)]

    verdict = judge.compare({"door": stored})

    assert {name: count for name, count in verdict.items() if count and name != "stored"} == wrong
    assert verdict["stored"] == len(there)


def test_the_judge_of_kills_sees_entry_ids_that_do_not_rise() -> None:
    assert Judge().compare({"door": [entry(2, "a"), entry(1, "b")]})["out of order"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_kills_of_the_whole_daemon_lose_nothing_and_double_nothing(
    tmp_path: Path, require_server: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    require_server("redis-server")
    require_server("rtsp-server")

    assert run("single", seed=5, kills=3, folder=tmp_path), capsys.readouterr().out

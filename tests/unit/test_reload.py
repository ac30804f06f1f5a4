"""What a new configuration changes, by name, and who is told."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from emotiond.config import Config
from emotiond.config_file import make_config
from emotiond.pipeline import Pipeline
from emotiond.reload import Changes, Reloader, compare
from emotiond.spool import Spool
from tests.support.waiting import poll


@pytest.mark.parametrize(("before", "after", "changes"), [
    ({}, {}, Changes([], [], [], [])),
    ({"streams": {"a": {"source": "a.mp4"}}}, {"streams": {"b": {"source": "a.mp4"}}}, Changes(["b"], ["a"], [], [])),
    ({"streams": {"a": {"source": "a.mp4"}, "b": {"source": "b.mp4"}}},
     {"streams": {"b": {"source": "b.mp4"}, "a": {"source": "a.mp4", "max_fps": 5}}}, Changes([], [], ["a"], [])),
    ({"streams": {"a": {"source": "a.mp4"}}}, {"streams": {"a": {"source": "a.mp4", "live": "auto"}}},
     Changes([], [], [], [])),
    ({"spool": {"max_bytes": "1GiB"}, "instance": "one"},
     {"spool": {"max_bytes": "2GiB"}, "instance": "two", "redis": {"maxlen": None}},
     Changes([], [], [], ["instance", "redis.maxlen", "spool.max_bytes"])),
    ({"streams": {}, "shard": {"index": 1, "count": 5}},
     {"streams": {"lobby": {"source": "a.mp4"}, "door": {"source": "b.mp4"}}, "shard": {"index": 2, "count": 5}},
     Changes([], [], [], ["shard.index"])),
    ({"shard": {"index": 2, "count": 5}},
     {"streams": {"lobby": {"source": "a.mp4"}, "door": {"source": "b.mp4"}}, "shard": {"index": 2, "count": 5}},
     Changes(["lobby"], [], [], [])),
], ids=["nothing", "one comes and one goes", "one changes", "a default that is written out", "other keys",
        "streams of another shard", "streams of this shard"])
def test_streams_and_keys_are_told_apart(before: dict[str, object], after: dict[str, object], changes: Changes) -> None:
    assert compare(make_config(before), make_config(after)) == changes


def test_who_asked_is_told_of_what_is_taken_over_just_when_patience_ends() -> None:
    """Told of a failure, POST /streams would take a stream that runs out of its file."""
    config = make_config({"publish_empty": True})

    def load() -> Config:
        time.sleep(1.5)
        return config

    pipeline = Pipeline(make_config({}), lambda _, __: None)
    reloader = Reloader(make_config({}), load, pipeline, Spool(None, 1 << 20, 0, pipeline.metrics))
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(reloader.request, 1)
        poll(reloader.asked, 30, "nobody asks", every_s=.01)
        reloader.read()

        assert asked.result(30).at_restart == ["publish_empty"]

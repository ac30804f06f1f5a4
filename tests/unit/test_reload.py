"""What a new configuration changes, by name."""

import pytest

from emotiond.config_file import make_config
from emotiond.reload import Changes, compare


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

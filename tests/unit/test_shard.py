"""Which shard runs a stream."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emotiond.config import ShardConfig, StreamConfig
from emotiond.shard import own_streams, shard_of, weights

NAMES = st.text("abcXYZ019_.-", min_size=1, max_size=64)


def test_the_assignment_is_the_same_for_ever() -> None:
    """A new version that assigns otherwise would move every camera of a fleet."""
    assert [shard_of(name, 5) for name in ("lobby", "door", "hall", "Lobby", "a", "x" * 64)] == [2, 0, 3, 2, 3, 3]


@given(NAMES, st.integers(1, 64))
def test_a_stream_has_one_shard_and_moves_only_to_a_new_one(name: str, count: int) -> None:
    shards = range(count)
    owners = [index for index in shards if own_streams({name: _stream()}, ShardConfig(index=index, count=count))]

    assert owners == [shard_of(name, count)]
    assert shard_of(name, count + 1) in (owners[0], count)


def test_a_hundred_thousand_streams_over_1_to_256_shards() -> None:
    """Each count moves no stream but those that the new shard takes, and of these as many as chance allows."""
    names = [f"camera-{number:06}" for number in range(100_000)]
    heaviest, owner = np.zeros(len(names), np.uint64), np.zeros(len(names), np.intp)
    of_shard = np.array([weights(name, 256) for name in names]).T

    for shard, weight in enumerate(of_shard):
        moves = weight > heaviest
        heaviest, owner = np.maximum(heaviest, weight), np.where(moves, shard, owner)
        count = shard + 1
        expected = len(names) / count
        assert abs(moves.sum() - expected) < 5 * expected**.5 + 1, count
        assert np.bincount(owner, minlength=count).max() < expected + 5 * expected**.5 + 1, count
        if count in (1, 2, 3, 7, 64, 256):
            assert [shard_of(name, count) for name in names[:500]] == owner[:500].tolist()


@pytest.mark.parametrize("count", [2, 8, 64, 256])
def test_the_fullest_of_shards_with_a_thousand_streams_has_at_most_15_percent_more(count: int) -> None:
    sizes = np.bincount([shard_of(f"site-{n % 97}.camera-{n}", count) for n in range(1000 * count)], minlength=count)

    print(f"{count} shards: {sizes.min()} to {sizes.max()} streams")
    assert sizes.max() <= 1150


def test_names_that_are_nearly_the_same_are_spread() -> None:
    """Neighbouring names and neighbouring shards must not go together."""
    sizes = np.bincount([shard_of(f"cam{n}", 4) for n in range(4000)], minlength=4)

    assert sizes.min() > 900
    assert sizes.max() < 1100


def _stream() -> StreamConfig:
    return StreamConfig(source="/dev/video0")

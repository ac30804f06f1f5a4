"""Which of several daemons with the same file runs a stream: rendezvous hashing of the streams' names.

Each shard has a weight for each name, and the heaviest runs it. So every daemon knows without asking another one, and
when a shard is added, only the streams that it takes over move.
"""

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from emotiond.config import ShardConfig, StreamConfig

_STEP = np.uint64(0x9E3779B97F4A7C15)    # SplitMix64: its state's step and the two factors of its finaliser
_FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def shard_of(stream: str, count: int) -> int:
    """Returns the shard that runs a stream; the same for ever and on every machine.

    Args:
        stream: its name.
        count: number of shards, at least 1.
    """
    return int(weights(stream, count).argmax())


def weights(stream: str, count: int) -> np.ndarray:
    """Returns the weight of each shard for a stream: SplitMix64's numbers from a seed that is the name's digest.

    Args:
        stream: its name.
        count: number of shards.

    Returns:
        (count,) uint64; those of fewer shards are its beginning.
    """
    seed = np.frombuffer(blake2b(stream.encode(), digest_size=8).digest(), "<u8")
    mixed = seed + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    for shift, factor in zip((30, 27), _FACTORS, strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * factor
    return mixed ^ (mixed >> np.uint64(31))


def own_streams(streams: Mapping[str, StreamConfig], shard: ShardConfig) -> dict[str, StreamConfig]:
    """Returns those of the streams that a shard runs."""
    return {name: stream for name, stream in streams.items() if shard_of(name, shard.count) == shard.index}

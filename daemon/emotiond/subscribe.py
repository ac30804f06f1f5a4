"""Reads entries back from Redis Streams, for `tail` and `demo`."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from redis.cluster import RedisCluster

from emotiond.store import Client

CLUSTER_POLL_SECONDS = 0.2

Replies = list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]


class StoredEntry(NamedTuple):
    """An entry of a stream: its key, its id and its fields."""

    key: str
    id: str
    fields: dict[str, bytes]


def read_entries(client: Client, positions: dict[str, str], block_ms: int) -> list[StoredEntry]:
    """Waits up to `block_ms` for entries after `positions` (key -> id) and moves these on; at most 100 of each key."""
    replies = _read_cluster(client, positions, block_ms) if isinstance(client, RedisCluster) else cast(
        Replies, client.xread(cast(Any, positions), count=100, block=block_ms) or [])
    entries = [StoredEntry(key.decode(), entry_id.decode(), {_text(name): value for name, value in fields.items()})
               for key, found in replies for entry_id, fields in found]
    positions |= {entry.key: entry.id for entry in entries}
    return entries


def _read_cluster(client: RedisCluster, positions: dict[str, str], block_ms: int) -> Replies:
    """Reads key by key, since one command cannot ask several nodes; waits only where there is nothing."""
    replies = cast(Replies, [reply for key, position in positions.items()
                             for reply in client.xread(cast(Any, {key: position}), count=100) or []])
    if not replies:
        time.sleep(min(block_ms / 1000, CLUSTER_POLL_SECONDS))
    return replies


def event_keys(client: Client, prefix: str) -> list[str]:
    """Returns the keys of all streams' events, without the status key."""
    found = cast(Iterator[bytes], client.scan_iter(match=f"{prefix}:*", _type="stream"))
    return sorted(key for key in map(_text, found) if key != f"{prefix}:status" and "\ufffd" not in key)


def _text(name: bytes) -> str:
    """Other writers may use any bytes."""
    return name.decode(errors="replace")


def last_id(client: Client, key: str) -> str:
    """Returns the id of the newest entry: events from now on come after it."""
    newest = cast(list[tuple[bytes, Any]], client.xrevrange(key, count=1))
    return newest[0][0].decode() if newest else "0"

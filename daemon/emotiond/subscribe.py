"""Reads entries back from Redis Streams, for `tail` and `demo`."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import redis


class StoredEntry(NamedTuple):
    """An entry of a stream: its key, its id and its fields."""

    key: str
    id: str
    fields: dict[str, bytes]


def read_entries(client: redis.Redis, positions: dict[str, str], block_ms: int) -> list[StoredEntry]:
    """Waits up to `block_ms` for entries after `positions` (key -> id) and moves these on; at most 100 of each key."""
    asked = cast(Any, positions)
    replies = cast(list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]],
                   client.xread(asked, count=100, block=block_ms) or [])
    entries = [StoredEntry(key.decode(), entry_id.decode(), {_text(name): value for name, value in fields.items()})
               for key, found in replies for entry_id, fields in found]
    positions |= {entry.key: entry.id for entry in entries}
    return entries


def event_keys(client: redis.Redis, prefix: str) -> list[str]:
    """Returns the keys of all streams' events, without the status key."""
    found = cast(Iterator[bytes], client.scan_iter(match=f"{prefix}:*", _type="stream"))
    return sorted(key for key in map(_text, found) if key != f"{prefix}:status" and "\ufffd" not in key)


def _text(name: bytes) -> str:
    """Other writers may use any bytes."""
    return name.decode(errors="replace")


def last_id(client: redis.Redis, key: str) -> str:
    """Returns the id of the newest entry: events from now on come after it."""
    newest = cast(list[tuple[bytes, Any]], client.xrevrange(key, count=1))
    return newest[0][0].decode() if newest else "0"

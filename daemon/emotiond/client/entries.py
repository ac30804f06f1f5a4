"""Reads entries of Redis Streams in batches, alone or as a member of a consumer group."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

from redis.cluster import RedisCluster

from emotiond.config_values import NAME
from emotiond.events import parse_id
from emotiond.store import Client

BATCH = 100                   # entries of a key at a time
CLUSTER_POLL_SECONDS = 0.2

Found = list[tuple[bytes, dict[bytes, bytes]]]
Replies = list[tuple[bytes, Found]]


class StoredEntry(NamedTuple):
    """An entry of a stream: its key, its id and its fields.

    `redelivered`: a group has given it out before. Then it has no fields if it was trimmed in the meantime.
    """

    key: str
    id: str
    fields: dict[str, bytes]
    redelivered: bool = False


def read_entries(client: Client, positions: dict[str, str], block_ms: int) -> list[StoredEntry]:
    """Waits up to `block_ms` for entries after `positions` (key -> id) and moves these on; at most 100 of each key."""
    entries = [entry for found in ask(client, client.xread, positions, block_ms).values() for entry in found]
    positions |= {entry.key: entry.id for entry in entries}
    return entries


def ask(
    client: Client, command: Callable[..., Any], positions: dict[str, str], block_ms: int
) -> dict[str, list[StoredEntry]]:
    """Has a command like XREAD read after `positions`, and returns what it found for each key that it names."""
    replies: Replies = []
    if isinstance(client, RedisCluster):    # key by key, since one command cannot ask several nodes
        for key, position in positions.items():
            replies += command({key: position}, count=BATCH) or []
        if not replies:
            time.sleep(min(block_ms / 1000, CLUSTER_POLL_SECONDS))
    else:
        replies = command(positions, count=BATCH, block=block_ms) or []
    return {key.decode(): make_entries(key.decode(), found) for key, found in replies}


def make_entries(key: str, found: Found, redelivered: bool = False) -> list[StoredEntry]:
    """Returns entries of a key as redis-py found them; Redis 6 gives nothing at all for some that were trimmed."""
    return [StoredEntry(key, entry_id.decode(), {_text(name): value for name, value in fields.items()}, redelivered)
            for entry_id, fields in found if entry_id]


def event_keys(client: Client, prefix: str) -> set[str]:
    """Returns the keys of all streams' events, without the status key."""
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", prefix)
    found = cast(Iterator[bytes], client.scan_iter(match=f"{pattern}:*", count=1000, _type="stream"))
    names = (_text(key).removeprefix(f"{prefix}:") for key in found)
    return {f"{prefix}:{name}" for name in names if re.fullmatch(NAME, name) and name != "status"}


def _text(name: bytes) -> str:
    """Other writers may use any bytes."""
    return name.decode(errors="replace")


def id_before(entry_id: str) -> str:
    """Returns the id after which an entry is the first one possible."""
    ms, n = parse_id(entry_id)
    return f"{ms}-{n - 1}" if n else f"{ms - 1}-{2**64 - 1}"


def last_id(client: Client, key: str) -> str:
    """Returns the id of the newest entry: events from now on come after it."""
    newest = cast(list[tuple[bytes, Any]], client.xrevrange(key, count=1))
    return newest[0][0].decode() if newest else "0"

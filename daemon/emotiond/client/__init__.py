"""What subscribers import: `for event in subscribe("redis://localhost:6379/0")` gives typed events; docs/client.md."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from emotiond.client.entries import id_before
from emotiond.client.event import Event
from emotiond.client.group import LONGEST_RECLAIM, RELEASED, Group
from emotiond.client.reader import Reader, RefusedError
from emotiond.client.subscription import Subscription
from emotiond.config import RedisConfig, read_secret
from emotiond.config_file import make_config
from emotiond.config_values import NAME
from emotiond.errors import ConfigError
from emotiond.events import AggregateEvent, Box, Face, FrameEvent, Smoothed, StatusEvent, parse_id

__all__ = ["AggregateEvent", "Box", "ConfigError", "Event", "Face", "FrameEvent", "RefusedError", "Smoothed",
           "StatusEvent", "Subscription", "subscribe"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def subscribe(
    url: str, streams: str | Iterable[str] | None = None, *, start: str | datetime = "new", group: str | None = None,
    consumer: str | None = None, acknowledge: Literal["auto", "manual"] = "auto", reclaim_after: float = 60.0,
    status: bool = False, follow: bool = True, key_prefix: str = "emotions", username: str | None = None,
    password_file: str | Path | None = None,
) -> Subscription:
    """Subscribes to the events of streams; docs/client.md tells more.

    Args:
        url: of Redis, as `redis.url` of the configuration: redis://, rediss://, unix://, redis+sentinel://,
            redis+cluster://.
        streams: one name or several; None for all, those too that appear later, which are read from their first event.
        start: `new` is from now on (when the subscription is entered or first asked), `first` from the oldest event
            that is kept; the `entry_id` of an event is after it, and a time with its zone from that capture time on. Of
            a group that is there it changes nothing.
        group: shares the events among all who name it, and keeps each until it is processed.
        consumer: this member's name in the group. One that stays the same finds what it had not processed before it was
            ended; without one, it is unique, and goes when the subscription is closed.
        acknowledge: `auto`: an event was processed when the next one is asked for; `manual`: when
            `Subscription.acknowledge` says so.
        reclaim_after: seconds, 0.1 to a day, after which an event that was not acknowledged goes to another consumer;
            longer than processing ever takes.
        status: also the events of the streams' lives, and heartbeats.
        follow: False ends where there are no more events.
        key_prefix: as `redis.key_prefix` of the configuration.
        username: goes before one in the URL.
        password_file: file whose first line is the password; goes before one in the URL.

    Raises:
        ConfigError: an argument is wrong.
    """
    names = [streams] if isinstance(streams, str) else None if streams is None else list(streams)
    faults = {
        "streams: none is named; leave it out for all of them": names == [] and not status,
        "group: is empty; name one, or leave it out": group == "",
        f"consumer: is empty or {RELEASED}, which is taken; name another one": consumer in ("", RELEASED),
        "consumer, acknowledge: mean nothing without a group; name one with group=":
            group is None and (consumer is not None or acknowledge == "manual"),
        f"acknowledge: {acknowledge!r} is neither auto nor manual": acknowledge not in ("auto", "manual"),
        f"reclaim_after: is {reclaim_after}; give seconds from 0.1 to {LONGEST_RECLAIM}, which is a day":
            not 0.1 <= reclaim_after <= LONGEST_RECLAIM,
    } | {f"streams: {name!r} is no stream's name; give one without the key's prefix": not _is_stream(name)
         for name in names or ()}
    if wrong := [fault for fault, is_there in faults.items() if is_there]:
        raise ConfigError("\n".join(wrong))
    config = _redis_config(
        {"url": url, "key_prefix": key_prefix, "username": username, "password_file": password_file})
    member = None if group is None else Group(group, consumer, reclaim_after)
    reader = Reader(config, url, names, _position(start), status=status, group=member, follow=follow)
    return Subscription(reader, member, manual=acknowledge == "manual")


def _redis_config(arguments: dict[str, Any]) -> RedisConfig:
    try:
        config = make_config({"redis": arguments}).redis
        if config.password_file:
            read_secret(config.password_file)
    except ConfigError as error:
        raise ConfigError(str(error).replace("redis.", "")) from None      # here they are arguments
    except ValueError as error:
        raise ConfigError(f"password_file: {error}") from None
    if config.url == "embedded":
        raise ConfigError("url: is embedded, on a port that the daemon chose; give the URL in its log")
    return config


def _is_stream(name: str) -> bool:
    return bool(re.fullmatch(NAME, name)) and name != "status"


def _position(start: str | datetime) -> str:
    """Returns `new`, `first`, or the entry id after which to begin."""
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ConfigError("start: is a time without a zone; give one like datetime.now(UTC)")
        return id_before(f"{max((start - _EPOCH) // timedelta(milliseconds=1), 1)}-0")
    if start not in ("new", "first"):
        try:
            parse_id(start)
        except ValueError:
            raise ConfigError(f"start: {start!r} is neither new, first, an entry's id nor a time") from None
    return start

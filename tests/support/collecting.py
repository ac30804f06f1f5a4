"""Subscriptions that a thread iterates, the plain way or the asynchronous one."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, Self

from emotiond.client import Event, Subscription
from tests.support.redis_server import RedisServer
from tests.support.waiting import poll

Way = Literal["for", "async for"]


class Collector:
    """Collects a subscription's events from entering to leaving, and ends it then.

    Attributes:
        events: so far.
        error: what ended it, if not its end.
    """

    def __init__(
        self, subscription: Subscription, way: Way = "for", work: Callable[[Event], object] = lambda event: None
    ) -> None:
        self.events: list[Event] = []
        self.error: BaseException | None = None
        self._subscription, self._work = subscription, work
        self._entered = threading.Event()
        iterate = self._iterate if way == "for" else lambda: asyncio.run(self._iterate_async())
        self._thread = threading.Thread(target=iterate)

    @property
    def ids(self) -> list[str]:
        """Those of the events so far."""
        return [event.id for event in self.events]

    def wait_for(self, ids: list[str], deadline_s: float = 30) -> None:
        """Returns when all these events are there."""
        poll(lambda: set(ids) <= set(self.ids), deadline_s,
             lambda: f"{len(set(ids) - set(self.ids))} of {len(ids)} events are missing; {self.error}")

    def wait_for_more(self, events: int = 50) -> None:
        """Returns when there are so many more."""
        before = len(self.events)
        poll(lambda: len(self.events) >= before + events, 30, lambda: f"no events; {self.error}")

    def end(self) -> float:
        """Closes the subscription from here, and returns the seconds that the other thread took to end."""
        begin = time.monotonic()
        self._subscription.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return time.monotonic() - begin

    def __enter__(self) -> Self:
        self._thread.start()
        self._entered.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _iterate(self) -> None:
        try:
            with self._subscription as events:
                self._entered.set()
                for event in events:
                    self._work(event)
                    self.events.append(event)
        except BaseException as error:      # the test's thread looks at it
            self.error = error
        finally:
            self._entered.set()

    async def _iterate_async(self) -> None:
        try:
            async with self._subscription as events:
                self._entered.set()
                async for event in events:
                    self._work(event)
                    self.events.append(event)
        except BaseException as error:      # the test's thread looks at it
            self.error = error
        finally:
            self._entered.set()


def ids(events: Iterable[Event]) -> list[str]:
    """Returns the ids of events, in order."""
    return [event.id for event in events]


def pending(server: RedisServer, key: str = "emotions:lobby", group: str = "g") -> dict[str, int]:
    """Returns each consumer's number of entries that were not acknowledged."""
    found: Any = server.client.xinfo_consumers(key, group)
    return {consumer["name"].decode(): consumer["pending"] for consumer in found}

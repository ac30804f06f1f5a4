"""The publisher's rounds: whatever Redis replies to an append, every event gets there, once and in order.

Each case is a few rounds against a model of the append script whose replies are replaced or lost, and then the truth.
"""

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, cast

import redis.exceptions as errors

from emotiond.config import RedisConfig
from emotiond.events import EntryId, format_id, parse_id
from emotiond.frames import FrameLedger
from emotiond.metrics import Metrics
from emotiond.publisher import Publisher
from emotiond.spool import Spool
from tests.fuzz.inputs import Inputs
from tests.fuzz.replies import any_reply

AT_US = 1_769_860_800_000_000
TRUE_ROUNDS = 4
ERRORS = (errors.ConnectionError("gone"), errors.TimeoutError("late"), errors.ResponseError("ERR"),
          errors.NoScriptError("NOSCRIPT"), errors.OutOfMemoryError("OOM"), errors.ReadOnlyError("READONLY"))

_metrics = Metrics(FrameLedger(), ["happy"])
_metrics.add_stream("lobby")


@dataclass(frozen=True)
class Round:
    """What happens in a round: events that come in, whether the append is done, and what is said of it."""

    events: int
    done: bool
    reply: Any      # None for the truth


@dataclass(frozen=True)
class Case:
    """Rounds, one after the other."""

    rounds: tuple[Round, ...]


def draw(inputs: Inputs) -> Case:
    """Makes a case; a reply that is right in every way and yet untrue is more than anybody can notice."""
    return Case(tuple(
        Round(inputs.below(4), inputs.flag(), _reply(inputs)) for _ in range(inputs.below(6))))


def _reply(inputs: Inputs) -> Any:
    match inputs.below(3):
        case 0:
            return None
        case 1:
            return inputs.choose(ERRORS)
        case _:
            reply = any_reply(inputs, None)
            return [1, b"1-1"] if isinstance(reply, list) and reply and reply[0] in (0, False) else reply or []


@dataclass
class Model:
    """A Redis with one key, in the place of a `Store`."""

    connections: int = 1
    entries: list[tuple[EntryId, dict[bytes, bytes]]] = field(default_factory=list[Any])
    round: Round = Round(0, True, None)

    def follow_sentinel(self) -> None:
        """There is none."""

    def load(self, script: str) -> str:
        """Takes the script for granted."""
        del script
        return "sha"

    def execute(self, commands: list[list[Any]]) -> list[Any]:
        """Answers as Redis would, or as the round wants it."""
        replies: list[Any] = []
        for command in commands:
            if command[0] == "XREVRANGE":
                replies.append([(format_id(entry_id).encode(), fields) for entry_id, fields in reversed(self.entries)])
                continue
            reply = self._append(*command[4:]) if self.round.done else None
            replies.append(self.round.reply if self.round.reply is not None else reply or errors.TimeoutError("late"))
        return replies

    def _append(self, known: str, most: int, width: int, *rest: Any) -> Any:
        del most
        last = self.entries[-1][0] if self.entries else (0, 0)
        if known != format_id(last):
            return [0, format_id(last).encode()]
        for at in range(0, len(rest), width + 1):
            names, values = rest[at + 1:at + width + 1:2], rest[at + 2:at + width + 1:2]
            last = parse_id(rest[at])
            self.entries.append((last, dict(zip((name.encode() for name in names), values, strict=True))))
        return [1, format_id(last).encode()]


def check(case: Case) -> None:
    """Plays the rounds, then true ones until nothing waits, and compares what is there with what came in."""
    model, spool = Model(), Spool(None, 1 << 30, 0.0, _metrics)
    try:
        spool.add_stream("lobby")
        publisher = Publisher(cast(Any, model), "redis://one", RedisConfig(max_age=None), spool, _metrics, "edge-1")
        came = acknowledged = 0
        for model.round in (*case.rounds, *[Round(0, True, None)] * TRUE_ROUNDS):
            for _ in range(model.round.events):
                fields = {"source": b"/emotiond/edge-1", "id": b"%d" % came}
                spool.put("lobby", fields, AT_US + came, time.monotonic(), None)
                came += 1
            spool.commit()
            with contextlib.suppress(errors.RedisError):
                publisher._round()
            publisher._held.clear()
            acknowledged = came - spool.figures()[0]
            assert acknowledged <= len(model.entries), f"{acknowledged} acknowledged, {len(model.entries)} there"
        assert acknowledged == came, f"{came - acknowledged} of {came} wait for ever"
        assert [int(fields[b"id"]) for _, fields in model.entries] == list(range(came)), f"{model.entries} of {came}"
    finally:
        spool.close()

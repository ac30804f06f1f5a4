"""Append replies: what Redis says of an append is understood, or refused with an UnusableKeyError alone."""

from dataclasses import dataclass
from typing import Any

from emotiond.events import EntryId, format_id, parse_id
from emotiond.publisher import UnusableKeyError, parse_reply
from tests.fuzz.entry_ids import ID, NEARLY
from tests.fuzz.inputs import Inputs

OUTCOMES = (0, 1, 2)
STRANGE = (None, 0, 1, 3, -1, 2**63, 0.5, "OK", b"OK", b"", [], {}, b"0-0", "5-5", Exception("ERR"))


@dataclass(frozen=True)
class Case:
    """A reply, and the last id that was to be appended."""

    reply: Any
    sent: EntryId | None


def draw(inputs: Inputs) -> Case:
    """Makes a case: the script's own reply, one much like it, or anything else that a server may send."""
    sent = (inputs.below(2**64), inputs.below(3)) if inputs.flag() else None
    return Case(any_reply(inputs, sent), sent)


def any_reply(inputs: Inputs, sent: EntryId | None) -> Any:
    """Returns a reply."""
    match inputs.below(4):
        case 0:
            return [inputs.choose(OUTCOMES), format_id(sent or (inputs.below(2**64), inputs.below(3))).encode()]
        case 1:
            return [inputs.choose((*OUTCOMES, *STRANGE)), inputs.text(24, NEARLY).encode()]
        case 2:
            return [inputs.choose((*OUTCOMES, *STRANGE)), inputs.choose(STRANGE)]
        case _:
            return strange(inputs, 3)


def strange(inputs: Inputs, depth: int) -> Any:
    """Returns what the script never replies."""
    if not depth or inputs.below(3) == 0:
        return inputs.choose(STRANGE)
    return [strange(inputs, depth - 1) for _ in range(inputs.below(4))]


def check(case: Case) -> None:
    """Understands the script's replies and nothing else, and "written" only where the id is what was sent."""
    reply, sent = case.reply, case.sent
    try:
        outcome, last = parse_reply(reply, sent)
    except UnusableKeyError:
        for right in OUTCOMES if sent else (0,):
            assert reply != [right, format_id(sent or (0, 0)).encode()], f"{reply!r} is refused"
    else:
        said, text = reply
        assert said == outcome
        assert outcome in OUTCOMES
        assert ID.fullmatch(text), f"{text!r} is taken for an id"
        assert parse_id(text) == last
        assert outcome == 0 or last == sent, f"{reply!r} acknowledges {sent}"

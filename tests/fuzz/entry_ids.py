"""Entry ids: they always rise, are read back as they were written, and garbage is refused with a ValueError alone."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from emotiond.events import EntryId, EntryIds, format_id, parse_id
from tests.fuzz.inputs import Inputs, alphabet

NEARLY = alphabet("00123456789" * 4 + "-----+_. \n\0٣xé")
ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")


class Event(NamedTuple):
    """When a frame was captured, and the host's clock then."""

    captured_us: int
    now_us: int | None


class Other(NamedTuple):
    """Up to where another writer came."""

    entry_id: EntryId


@dataclass(frozen=True)
class Case:
    """What happens to a key, and what may be no id.

    Attributes:
        steps: events, and other writers in between.
        text: as a server may send it.
    """

    steps: tuple[Event | Other, ...]
    text: bytes | str


def draw(inputs: Inputs) -> Case:
    """Makes a case."""
    text = inputs.bytes(24) if inputs.below(4) == 3 else inputs.text(24, NEARLY)
    return Case(tuple(_step(inputs) for _ in range(inputs.below(8))),
                text.encode() if isinstance(text, str) and inputs.flag() else text)


def _step(inputs: Inputs) -> Event | Other:
    match inputs.below(4):
        case 0:
            return Event(inputs.integer(), None)
        case 1:
            return Other((abs(inputs.integer()), abs(inputs.integer())))
        case _:
            clock = inputs.integer()
            return Event(clock + inputs.below(300_000_000) - 150_000_000, clock)


def check(case: Case) -> None:
    """Compares with what a key of Redis would take."""
    ids, last = EntryIds(), (0, 0)
    for step in case.steps:
        if isinstance(step, Other):
            ids.rise_above(step.entry_id)
            last = max(last, step.entry_id)
        else:
            new = ids.next(*step)
            assert new > last, f"{new} does not rise above {last}"
            assert parse_id(format_id(new)) == parse_id(format_id(new).encode()) == new
            last = new
    try:
        found = parse_id(case.text)
    except ValueError:
        found = None
    text = case.text if isinstance(case.text, bytes) else case.text.encode(errors="replace")
    assert (found is not None) == (ID.fullmatch(text) is not None), f"{case.text!r} is read as {found}"

"""The script that appends a batch to a key if its last id is the one expected, and what its replies mean."""

from importlib.resources import files
from itertools import chain
from typing import Any

from emotiond.events import EntryId, format_id, parse_id
from emotiond.spool import Entry

SCRIPT = files("emotiond").joinpath("append.lua").read_text(encoding="utf-8")
ASK_ONLY = ""


class UnusableKeyError(Exception):
    """A key to which nothing can be appended; the message names the mend."""


def parse_reply(reply: object, sent: EntryId | None) -> tuple[int, EntryId]:
    """Returns the outcome and the key's last id as the append script replies them.

    Args:
        reply: what came.
        sent: id of the last entry that was to be appended; None where the script was only asked.

    Raises:
        UnusableKeyError: no such script replies this, so nobody knows what became of the entries.
    """
    match reply:
        case [int(outcome), bytes(last)] if outcome in (0, 1, 2):
            try:
                last_id = parse_id(last)
            except ValueError:
                last_id = None
            if last_id and (not outcome or last_id == sent):
                return outcome, last_id
        case _:
            pass
    raise UnusableKeyError("the reply to an append is not the script's")


def script_arguments(known: EntryId | None, entries: list[Entry], maxlen: int) -> list[Any]:
    """Returns what the script takes after its key.

    Args:
        known: the key's last id; None asks for it and appends nothing.
        entries: what is to be appended, with the same number of fields each.
        maxlen: how many entries the key keeps, about; 0 keeps all.
    """
    if known is None:
        return [ASK_ONLY, 0, 0]
    arguments: list[Any] = [format_id(known), maxlen, 2 * len(entries[0].fields)]
    for entry in entries:
        arguments.append(format_id(entry.id))
        arguments += chain.from_iterable(entry.fields.items())
    return arguments

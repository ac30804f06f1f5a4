"""What the publisher makes of the append script's replies; `make fuzz` has more of them, and whole rounds."""

from typing import Any

import pytest

from emotiond.events import EntryId
from emotiond.publisher import UnusableKeyError, parse_reply

SENT = (1_769_860_800_000, 3)


@pytest.mark.parametrize(("reply", "sent", "meaning"), [
    ([0, b"0-0"], None, (0, (0, 0))),
    ([0, b"1769860800000-7"], SENT, (0, (1_769_860_800_000, 7))),
    ([1, b"1769860800000-3"], SENT, (1, SENT)),
    ([2, b"1769860800000-3"], SENT, (2, SENT)),
])
def test_the_scripts_replies_are_an_outcome_and_the_keys_last_id(
    reply: Any, sent: EntryId | None, meaning: tuple[int, EntryId]
) -> None:
    assert parse_reply(reply, sent) == meaning


@pytest.mark.parametrize("reply", [
    None, 0, b"OK", [], [1], [1, b"1769860800000-3", 0], [None, b"5-5"], [3, b"1769860800000-3"], [0, None], [0, 5],
    [0, "5-5"], [0, b"\xff-0"], [0, b"5"], {0: b"5-5"}])
def test_anything_else_is_refused(reply: Any) -> None:
    with pytest.raises(UnusableKeyError):
        parse_reply(reply, SENT)


@pytest.mark.parametrize(("reply", "sent"), [
    ([1, b"1769860800000-2"], SENT), ([2, b"9999999999999-0"], SENT), ([1, b"0-0"], None)])
def test_written_is_believed_only_of_what_was_sent(reply: Any, sent: EntryId | None) -> None:
    with pytest.raises(UnusableKeyError):
        parse_reply(reply, sent)

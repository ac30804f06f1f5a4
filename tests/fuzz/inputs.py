"""Choices made of bytes: the same bytes make the same choices, and where none are left, the first and shortest one."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def alphabet(characters: str) -> str:
    """Returns 256 characters, one for each byte: these, again and again."""
    return (characters * (256 // len(characters) + 1))[:256]


PRINTABLE = "".join(map(chr, range(32, 127)))
ODD = alphabet(PRINTABLE + (
    "@@@:://??##&&==%%%;\\\\''\"\"<>[]{}   \t\n\r\0\x07\x1b\x7f\x85\u2028\u202e\u200b\ufeffßé漢😀\ud800\udcff"))
"""What people, machines and attackers write, lone surrogates included."""


class Inputs:
    """Makes choices."""

    def __init__(self, data: bytes) -> None:
        """Takes the bytes that decide."""
        self._data, self._at = data, 0

    def bytes(self, most: int) -> bytes:
        """Returns up to `most` bytes."""
        size = self.below(most + 1)
        part = self._data[self._at:self._at + size]
        self._at += size
        return part

    def below(self, end: int) -> int:
        """Returns a number from 0 to `end` - 1."""
        width = 1 if end <= 0x100 else 2 if end <= 0x1_0000 else 8
        part = self._data[self._at:self._at + width]
        self._at += width
        return int.from_bytes(part, "little") % end

    def flag(self) -> bool:
        """Returns yes or no."""
        return self.below(2) == 1

    def choose(self, options: Sequence[T]) -> T:
        """Returns one of these."""
        return options[self.below(len(options))]

    def integer(self) -> int:
        """Returns a number of any size and sign, near a power of two as often as not."""
        value = self.below(2**64) >> self.below(64)
        if self.flag():
            value = (1 << self.below(64)) + value % 3 - 1
        return -value if self.flag() else value

    def text(self, most: int, characters: str = ODD) -> str:
        """Returns a text of up to `most` characters of an alphabet."""
        return self.bytes(most).decode("latin-1").translate(characters)

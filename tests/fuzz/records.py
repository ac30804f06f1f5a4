"""Spool records: read as they were written, or refused with a CorruptRecordError, whatever the disk made of them."""

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec

from emotiond.spool.database import CorruptRecordError, decode_record, encode_record
from tests.fuzz.inputs import Inputs

NAMES = ("data", "source", "id", "", "type", "é" * 40, "x" * 300)


@dataclass(frozen=True)
class Case:
    """Fields, and what may be read in the place of their record."""

    fields: dict[str, bytes]
    record: Any


def draw(inputs: Inputs) -> Case:
    """Makes a case."""
    fields = {inputs.choose(NAMES): inputs.bytes(200) for _ in range(inputs.below(6))}
    record = encode_record(fields)
    at, size = inputs.below(len(record)), inputs.below(5)
    match inputs.below(7):
        case 0:
            record = record[:at] + inputs.bytes(4) + record[at + size:]
        case 1:
            record = record[:at]
        case 2:
            record = bytes(value ^ 1 << size if index == at else value for index, value in enumerate(record))
        case 3:
            record = inputs.bytes(200)
        case 4:
            record = with_checksum(inputs.bytes(200))
        case 5:
            record = with_checksum(msgspec.msgpack.encode(_value(inputs, 3)))
        case _:
            record = inputs.choose((None, 0, 0.5, "", "record"))  # a damaged page may hold another type
    return Case(fields, record)


def _value(inputs: Inputs, depth: int) -> Any:
    """Makes a value that MessagePack has and a record has not."""
    match inputs.below(8):
        case 0 | 1 if depth:
            return {inputs.choose(NAMES): _value(inputs, depth - 1) for _ in range(inputs.below(4))}
        case 2 if depth:
            return [_value(inputs, depth - 1) for _ in range(inputs.below(4))]
        case 3:
            return inputs.below(2**64)
        case 4:
            return inputs.choose((None, True, 0.5, ""))
        case _:
            return inputs.bytes(20)


def with_checksum(body: bytes) -> bytes:
    """Returns a record whose checksum is right."""
    return zlib.crc32(body).to_bytes(4, "big") + body


def check(case: Case) -> None:
    """Reads both."""
    record = encode_record(case.fields)
    assert decode_record(record) == case.fields
    try:
        found = decode_record(case.record)
    except CorruptRecordError:
        assert case.record != record
    else:
        assert case.record[:4] == zlib.crc32(case.record[4:]).to_bytes(4, "big"), f"{case.record!r} is taken"
        assert all(type(name) is str and type(value) is bytes for name, value in found.items()), repr(found)

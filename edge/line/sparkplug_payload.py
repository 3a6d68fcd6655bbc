"""The Sparkplug B payload, as much of it as an edge node needs: flat metrics out, commands in.

Protocol Buffers' wire format is small, and every Python package for Sparkplug pins a paho of 2021; so the bytes are
made here, after the field numbers of the Sparkplug 3.0.0 specification, and read back in the tests by protobuf itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from inspection.errors import MessageError

MAX_BYTES = 64 * 1024
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class DataType(IntEnum):
    INT32 = 3
    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Metric:
    """One value with its own time (Unix, UTC). `historical`: it is told late."""

    name: str
    type: DataType
    value: Value
    ts_ms: int
    historical: bool = False


def encode(metrics: Iterable[Metric], ts_ms: int, seq: int | None) -> bytes:
    """A payload; `seq` None for a death certificate of the node, which has none."""
    body = _number(1, ts_ms) + b"".join(_bytes(2, _metric(metric)) for metric in metrics)
    return body if seq is None else body + _number(3, seq)


def commands(payload: bytes) -> dict[str, bool]:
    """The boolean metrics of an NCMD by name. MessageError for anything that is no payload."""
    found: dict[str, bool] = {}
    for number, value in _fields(payload):
        if number == 2 and isinstance(value, bytes):
            name, said = "", None
            for inner, content in _fields(value):
                if inner == 1 and isinstance(content, bytes):
                    name = content.decode("utf-8", "replace")
                elif inner == 14 and isinstance(content, int):
                    said = bool(content)
            if name and said is not None:
                found[name] = said
    return found


def _metric(m: Metric) -> bytes:
    head = _bytes(1, m.name.encode()) + _number(3, m.ts_ms) + _number(4, m.type)
    if m.historical:
        head += _number(5, 1)
    match m.type:
        case DataType.INT32:
            return head + _number(10, int(m.value) % 2**32)
        case DataType.INT64:
            return head + _number(11, int(m.value) % 2**64)
        case DataType.DOUBLE:
            return head + _varint(13 << 3 | FIXED64) + struct.pack("<d", float(m.value))
        case DataType.BOOLEAN:
            return head + _number(14, int(bool(m.value)))
        case DataType.STRING:
            return head + _bytes(15, str(m.value).encode())


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | LENGTH) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    if len(data) > MAX_BYTES:
        raise MessageError("NCMD", f"{len(data)} bytes", f"at most {MAX_BYTES}")
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        size, at = (8 if kind == FIXED64 else 4, at) if kind in (FIXED64, FIXED32) else _read_varint(data, at)
        if kind not in (FIXED64, FIXED32, LENGTH) or at + size > len(data):
            raise MessageError("NCMD", "is no Sparkplug B payload", "send a Payload of sparkplug_b.proto")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise MessageError("NCMD", "is no Sparkplug B payload", "send a Payload of sparkplug_b.proto")

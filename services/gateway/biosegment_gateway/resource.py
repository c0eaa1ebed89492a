"""Finds the resource that a message speaks of, without knowing the message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_NAME: Final = re.compile(rb"(?:projects|models|jobs|users)/[a-z0-9-]{1,63}(?:/[a-z]+/[a-z0-9-]{1,63}){0,3}")
_LONGEST_NAME: Final = 400
_LONGEST_MESSAGE: Final = 64 * 1024
_MAX_FIELDS: Final = 64


def find_resource(message: bytes, depth: int = 2) -> str:
    """Return the first resource name in a protobuf message; '' when there is none.

    Reads tags and lengths only, so that it costs microseconds whatever the message carries.

    Args:
        message: Serialized.
        depth: Levels of nested messages to look into.
    """
    fields = list(_fields(message))
    for field in fields:
        if len(field) <= _LONGEST_NAME and _NAME.fullmatch(field):
            return bytes(field).decode()
    if depth > 0:
        for field in fields:
            if len(field) <= _LONGEST_MESSAGE and (found := find_resource(bytes(field), depth - 1)):
                return found
    return ""


def _fields(message: bytes) -> Iterator[memoryview]:
    """Length-delimited fields at the beginning of a message; ends at what is no protobuf."""
    view, position = memoryview(message), 0
    for _ in range(_MAX_FIELDS):
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if position < 0 or tag >> 3 == 0:
            return
        if wire_type == 2:
            length, position = _varint(message, position)
            if position < 0 or position + length > len(message):
                return
            yield view[position : position + length]
            position += length
        elif wire_type == 0:
            _, position = _varint(message, position)
            if position < 0:
                return
        elif wire_type in (1, 5):
            position += 8 if wire_type == 1 else 4
        else:
            return


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Value and position after it; position -1 when there is none."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return 0, -1

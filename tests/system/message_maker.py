"""Messages for trying methods: plausible ones, with a few fields that no honest client would fill like that."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

NOBODY: Final = "01arz3ndektsv4rrffq69g5fav"
_DEPTH: Final = 4
_BITS: Final = (31, 32, 63, 64)
_TEXTS: Final = (
    "",
    " ",
    "a",
    "projects/",
    "projects/../../etc/passwd",
    "projects/%2e%2e/volumes/x",
    "projects/p/volumes/v/layers/l/annotations/a",
    f"projects/{NOBODY}",
    f"projects/{NOBODY}/volumes/{NOBODY}",
    f"jobs/datastore-{NOBODY}",
    f"jobs/trainer-{NOBODY}",
    f"models/{NOBODY}",
    f"users/{NOBODY}/tokens/{NOBODY}",
    "x" * 100_000,
    "\0",
    "a\0b",
    "\ufeff\u202e",
    "é" * 300,
    "\U0001f9e0",
    "'; DROP TABLE users; --",
    "%s%n{0}",
    "/etc/passwd",
    "file:///etc/shadow",
    "http://127.0.0.1:1/",
    "s3://bucket/key",
    "1e999",
    "nan",
    "-1",
    "2026-99-99",
    "entropy",
    "mitochondria",
)
_FLOATS: Final = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    2.0**63,
)
_KIND: Final = FieldDescriptor


class MessageMaker:
    """Makes requests from their descriptors.

    Args:
        rng: Decides everything.
        names: Resource names that exist, by what they are: `project`, `volume` and so on; the last word of a field's
            name, or of its message, says which is meant.
    """

    def __init__(self, rng: random.Random, names: Mapping[str, Sequence[str]]) -> None:
        self._rng = rng
        self._names = names
        self._all = [name for each in names.values() for name in each]
        self._strangeness = 0.0

    def request(self, descriptor: Descriptor, strangeness: float, harmless: bool) -> bytes:
        """A serialised message.

        Args:
            descriptor: Of the message.
            strangeness: Share of fields that have a strange value: 0 to 1.
            harmless: Names nothing that exists.
        """
        self._strangeness, self._harmless = strangeness, harmless
        made: bytes = self._message(descriptor, _DEPTH).SerializeToString()
        return made

    def damaged(self, message: bytes) -> bytes:
        """The message with some bytes changed, cut off, doubled or put in."""
        data = bytearray(message or self._rng.randbytes(8))
        for _ in range(self._rng.randint(1, 4)):
            place = self._rng.randrange(len(data) + 1)
            match self._rng.randrange(4):
                case 0:
                    data[place : place + 1] = self._rng.randbytes(1)
                case 1:
                    del data[place:]
                case 2:
                    data[place:place] = data[place : place + self._rng.randint(1, 64)]
                case 3:
                    data[place:place] = self._rng.randbytes(self._rng.randint(1, 16))
        return bytes(data)

    def noise(self) -> bytes:
        """Bytes that are no message, mostly."""
        return self._rng.randbytes(self._rng.choice((0, 1, 2, 7, 100, 5000)))

    def _message(self, descriptor: Descriptor, depth: int) -> Any:
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._rng.random() < self._chance(field):
                self._fill(message, field, depth)
        return message

    def _chance(self, field: FieldDescriptor) -> float:
        if field.containing_oneof is not None:
            return 1.5 / len(field.containing_oneof.fields)
        return 0.9 if field.name in ("name", "parent", "project", "request_id", "volume") else 0.6

    def _fill(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.type == _KIND.TYPE_MESSAGE and field.message_type.GetOptions().map_entry:
            self._fill_map(message, field)
            return
        if field.type == _KIND.TYPE_MESSAGE:
            if depth == 0:
                return
            for _ in range(self._rng.randint(0, 3) if field.is_repeated else 1):
                made = self._message(field.message_type, depth - 1)
                if field.is_repeated:
                    getattr(message, field.name).append(made)
                else:
                    getattr(message, field.name).CopyFrom(made)
            return
        if field.is_repeated:
            count = self._rng.choice((0, 1, 3, 3, 2000 if self._is_strange() else 3))
            getattr(message, field.name).extend(self._value(field) for _ in range(count))
            return
        setattr(message, field.name, self._value(field))

    def _fill_map(self, message: Any, field: FieldDescriptor) -> None:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if value.type == _KIND.TYPE_MESSAGE:
            getattr(message, field.name)[self._value(key)].CopyFrom(self._message(value.message_type, 1))
        else:
            getattr(message, field.name)[self._value(key)] = self._value(value)

    def _value(self, field: FieldDescriptor) -> Any:
        match field.type:
            case _KIND.TYPE_STRING:
                return self._text(field)
            case _KIND.TYPE_BYTES:
                return self._rng.randbytes(self._rng.choice((0, 1, 16, 1024, 100_000)))
            case _KIND.TYPE_BOOL:
                return self._rng.random() < 0.5
            case _KIND.TYPE_DOUBLE:
                return self._rng.choice(_FLOATS) if self._is_strange() else self._rng.uniform(0, 16)
            case _KIND.TYPE_FLOAT:
                return self._rng.choice(_FLOATS[:5]) if self._is_strange() else self._rng.uniform(0, 16)
            case _KIND.TYPE_ENUM:
                known = [value.number for value in field.enum_type.values]
                return (
                    self._rng.choice((*known, -1, 99, 2**31 - 1))
                    if self._is_strange()
                    else self._rng.choice(known)
                )
        return self._integer(field)

    def _integer(self, field: FieldDescriptor) -> int:
        signed = field.type not in (
            _KIND.TYPE_UINT32,
            _KIND.TYPE_UINT64,
            _KIND.TYPE_FIXED32,
            _KIND.TYPE_FIXED64,
        )
        wide = field.type in (
            _KIND.TYPE_INT64,
            _KIND.TYPE_UINT64,
            _KIND.TYPE_SINT64,
            _KIND.TYPE_FIXED64,
            _KIND.TYPE_SFIXED64,
        )
        bits = (64 if wide else 32) - signed
        if not self._is_strange():
            return self._rng.choice((0, 1, 2, 8, 32, 64))
        return self._rng.choice(
            (2**bits - 1, -(2**bits) if signed else 0, -1 if signed else 1, 2 ** (bits // 2))
        )

    def _text(self, field: FieldDescriptor) -> str:
        if self._is_strange():
            return self._rng.choice(_TEXTS)
        if field.name == "request_id":
            return f"{self._rng.getrandbits(128):032x}"
        if self._harmless:
            return self._rng.choice((f"projects/{NOBODY}", f"users/{NOBODY}", NOBODY))
        meant = field.name if field.name in self._names else field.containing_type.name.lower()
        for what, names in self._names.items():
            if names and what in meant:
                return self._rng.choice(names)
        return self._rng.choice(self._all)

    def _is_strange(self) -> bool:
        return self._rng.random() < self._strangeness

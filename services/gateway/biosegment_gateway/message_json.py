"""Messages as JSON, in protobuf's mapping, stricter than protobuf's own reader where that guesses.

Lower camel case and all fields that are not messages, numbers of 64 bits as text, bytes as base64. What is read may
also have the names of the proto files.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, Never

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor

from biosegment.errors import InvalidArgument

_MAX_DEPTH: Final = 24
"""Of JSON. Messages may be nested a hundred times, and an object within options is three of them."""
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}(?:==)?|[A-Za-z0-9+/_-]{3}=?)?")
_WELL_KNOWN: Final = "google.protobuf."


def from_json(body: bytes, descriptor: Any) -> bytes:
    """Read a message.

    Args:
        body: UTF-8; empty for a message without fields.
        descriptor: Of the message.

    Returns:
        The message, serialised.

    Raises:
        InvalidArgument: BAD_JSON when it is none; BAD_FIELD when it is no such message. Both say where.
    """
    message = message_factory.GetMessageClass(descriptor)()
    if body.strip():
        value = _load(body)
        _require_shallow(value)
        _check(value, descriptor, descriptor.name)
        try:
            json_format.ParseDict(value, message)
        except (
            json_format.Error,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            ArithmeticError,
        ) as error:
            raise InvalidArgument("BAD_FIELD", _plain(str(error))) from error
    serialised: bytes = message.SerializeToString()
    return serialised


def to_json(data: bytes, descriptor: Any) -> dict[str, Any]:
    """Write a serialised message; what `json.dumps` takes."""
    message = message_factory.GetMessageClass(descriptor)()
    message.ParseFromString(data)
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def _load(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument("BAD_JSON", f"the body is not UTF-8 at byte {error.start}") from error
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number)
    except RecursionError as error:
        raise InvalidArgument("BAD_JSON", "the body is nested too deeply") from error
    except ValueError as error:
        raise InvalidArgument("BAD_JSON", f"the body is no JSON: {str(error)[:200]}") from error


def _require_shallow(value: Any, depth: int = 1) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidArgument("BAD_JSON", "the body is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            if isinstance(item, dict | list):
                _require_shallow(item, depth + 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument("BAD_JSON", f"the body names {twice[:100]!r} twice in one object")
    return found


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidArgument("BAD_JSON", f"the body has {text[:40]}, which no number of 64 bits is")
    return number


def _no_number(text: str) -> Never:
    raise InvalidArgument("BAD_JSON", f"the body has {text}, which is no JSON")


def _check(value: Any, descriptor: Any, path: str, depth: int = 1) -> None:
    """Refuse what protobuf's reader takes for something else, and fields that the message does not have."""
    if not isinstance(value, dict):
        raise InvalidArgument("BAD_FIELD", f"{path} must be an object, not {_kind(value)}")
    for name, item in value.items():
        field = descriptor.fields_by_camelcase_name.get(name) or descriptor.fields_by_name.get(name)
        where = f"{path}.{name[:100]}"
        if field is None:
            raise InvalidArgument("BAD_FIELD", f"there is no field {where}")
        if item is None:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if isinstance(item, dict):
                of_value = field.message_type.fields_by_name["value"]
                for key, each in item.items():
                    _check_one(each, of_value, f"{where}[{key[:100]!r}]", depth)
        elif field.is_repeated:
            if not isinstance(item, list):
                raise InvalidArgument("BAD_FIELD", f"{where} must be a list, not {_kind(item)}")
            for number, each in enumerate(item):
                _check_one(each, field, f"{where}[{number}]", depth)
        else:
            _check_one(item, field, where, depth)


def _check_one(value: Any, field: Any, path: str, depth: int) -> None:
    if field.message_type is not None:
        if not field.message_type.full_name.startswith(_WELL_KNOWN):
            _check(value, field.message_type, path, depth + 1)
    elif field.type == FieldDescriptor.TYPE_STRING and not isinstance(value, str):
        raise InvalidArgument("BAD_FIELD", f"{path} must be a text, not {_kind(value)}")
    elif field.type == FieldDescriptor.TYPE_BYTES and (
        not isinstance(value, str) or not _BASE64.fullmatch(value)
    ):
        raise InvalidArgument("BAD_FIELD", f"{path} must be bytes in base64")


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object" if isinstance(value, dict) else "null")


def _plain(text: str) -> str:
    """The message of protobuf's reader on one line, without what it wraps around."""
    return " ".join(text.split())[:300]

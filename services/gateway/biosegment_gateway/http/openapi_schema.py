"""Messages as `message_json` reads and writes them, in JSON Schema, and methods as operations of OpenAPI."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor as F

from biosegment.errors import ERRORS
from biosegment_gateway.contract import is_unary, public_services

Schema = dict[str, Any]

ERROR: Final[Schema] = {"$ref": "#/components/schemas/Error"}

_NO_NUMBER: Final[Schema] = {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}
_REAL: Final[Schema] = {"anyOf": [{"type": "number"}, _NO_NUMBER]}
_SIGNED: Final[Schema] = {
    "type": "integer",
    "format": "int32",
    "minimum": -(1 << 31),
    "maximum": (1 << 31) - 1,
}
_UNSIGNED: Final[Schema] = {"type": "integer", "format": "int64", "minimum": 0, "maximum": (1 << 32) - 1}
_LONG: Final[Schema] = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"}
_SCALARS: Final[Mapping[int, Schema]] = {
    **dict.fromkeys((F.TYPE_DOUBLE, F.TYPE_FLOAT), _REAL),
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), _SIGNED),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), _UNSIGNED),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64, F.TYPE_UINT64, F.TYPE_FIXED64), _LONG),
    F.TYPE_BOOL: {"type": "boolean"},
    F.TYPE_STRING: {"type": "string"},
    F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Names of fields, separated by commas.",
    },
    "google.protobuf.Struct": {"type": "object"},
}


def operations() -> dict[str, Schema]:
    """Path items of all methods, by path."""
    return {
        f"/api/{service.name}/{method.name}": {"post": _operation(service, method)}
        for service in public_services().values()
        for method in service.methods
        if is_unary(method)
    }


def tags() -> list[Schema]:
    """One for each service."""
    return [
        {"name": name, "description": _text(service.full_name)} for name, service in public_services().items()
    ]


def components() -> dict[str, Schema]:
    """Schemas of all messages that methods and events speak in, and of errors, by name."""
    found = {_name(each): each for group in _described().values() for each in group.values()}
    return {"Error": _error_schema()} | {name: _schema(each) for name, each in sorted(found.items())}


def reference(descriptor: Any) -> Schema:
    """A reference to the schema of a message or enumeration."""
    return {"$ref": f"#/components/schemas/{_name(descriptor)}"}


def _operation(service: Any, method: Any) -> Schema:
    text = _text(method.full_name)
    return {
        "operationId": f"{service.name}_{method.name}",
        "tags": [service.name],
        "summary": text.partition(". ")[0].rstrip("."),
        "description": text,
        "requestBody": {"content": {"application/json": {"schema": reference(method.input_type)}}},
        "responses": {
            "200": {
                "description": _text(method.output_type.full_name) or "The answer.",
                "content": {"application/json": {"schema": reference(method.output_type)}},
            }
        },
    }


def _collect(descriptor: Any, found: dict[str, dict[str, Any]]) -> None:
    same = found.setdefault(_short(descriptor), {}) if descriptor.full_name not in _KNOWN else None
    if same is None or descriptor.full_name in same:
        return
    same[descriptor.full_name] = descriptor
    for field in getattr(descriptor, "fields", ()):
        for item in _types_of(field):
            _collect(item, found)


def _types_of(field: Any) -> list[Any]:
    if _is_map(field):
        return _types_of(field.message_type.fields_by_name["value"])
    return [item for item in (field.message_type, field.enum_type) if item is not None]


def _schema(descriptor: Any) -> Schema:
    described = {"description": _text(descriptor.full_name)} if _text(descriptor.full_name) else {}
    if hasattr(descriptor, "values_by_name"):
        texts = [
            f"`{value.name}`: {_text(f'{descriptor.full_name}.{value.name}')}" for value in descriptor.values
        ]
        return {
            "type": "string",
            "enum": [value.name for value in descriptor.values],
            "description": "\n\n".join([*described.values(), *texts]),
        }
    return {
        "type": "object",
        **described,
        "properties": {field.json_name: _property(field) for field in descriptor.fields},
        "additionalProperties": False,
    }


def _property(field: Any) -> Schema:
    text = _text(field.full_name)
    oneof = field.containing_oneof
    if oneof is not None and len(oneof.fields) > 1:
        others = ", ".join(f"`{other.json_name}`" for other in oneof.fields if other is not field)
        text = f"{text} Not together with {others}."
    if _is_map(field):
        value = _value(field.message_type.fields_by_name["value"])
        schema: Schema = {"type": "object", "additionalProperties": value}
        if field.message_type.fields_by_name["key"].type != F.TYPE_STRING:
            schema["propertyNames"] = {"pattern": "^[0-9]{1,9}$"}
    elif field.is_repeated:
        schema = {"type": "array", "items": _value(field)}
    else:
        schema = _value(field)
    return {**schema, "description": text} if text else schema


def _value(field: Any) -> Schema:
    if field.message_type is not None:
        return dict(_KNOWN.get(field.message_type.full_name) or reference(field.message_type))
    if field.enum_type is not None:
        return reference(field.enum_type)
    return dict(_SCALARS[field.type])


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _name(descriptor: Any) -> str:
    """Without the package, `Job`, `Job.State`; with that of its service where two have one name, `sampler.Review`."""
    short = _short(descriptor)
    if len(_described()[short]) == 1:
        return short
    return f"{descriptor.file.package.split('.')[-2]}.{short}"


def _short(descriptor: Any) -> str:
    return str(descriptor.full_name.removeprefix(f"{descriptor.file.package}."))


@functools.cache
def _described() -> Mapping[str, Mapping[str, Any]]:
    """Messages and enumerations by short name and then by full name."""
    found: dict[str, dict[str, Any]] = {}
    for service in public_services().values():
        for method in service.methods:
            _collect(method.output_type, found)
            if not method.client_streaming:
                _collect(method.input_type, found)
    return found


def _error_schema() -> Schema:
    codes = sorted({error.grpc_code for error in ERRORS} | {"UNKNOWN"})
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "What went wrong.",
        "required": ["code", "reason", "message", "details"],
        "properties": {
            "code": {**text, "enum": codes, "description": "Kind of the error, as gRPC has it."},
            "reason": {**text, "description": "UPPER_SNAKE, stable, for programs."},
            "message": {**text, "description": "For people: what was wrong, with which value, what to do."},
            "details": {"type": "object", "additionalProperties": text, "description": "For programs."},
        },
    }


@functools.cache
def _texts() -> Mapping[str, str]:
    found: dict[str, str] = json.loads(files("biosegment_gateway.http").joinpath("api_text.json").read_text())
    return found


def _text(full_name: str) -> str:
    return _texts().get(full_name, "")

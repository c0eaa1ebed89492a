"""Generate TypeScript types of the API for the web page from the descriptors of its messages.

usage: python scripts/generate_web_types.py      (writes clients/web/src/api/messages.ts)

The page speaks JSON: 64-bit integers, bytes and times are strings there, enumerations their names. A wrong field name
in the page is an error of the TypeScript compiler, and so is a change of the contract that the page has not followed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterable
from typing import Final

from generate_api import ROOT
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    ServiceDescriptor,
)

import biosegment.api

TYPES: Final = ROOT / "clients" / "web" / "src" / "api" / "messages.ts"

_HEAD: Final = "// Generated from proto/ by scripts/generate_web_types.py; do not edit.\n"
_KNOWN: Final = {
    "google.protobuf.Timestamp": "string",
    "google.protobuf.Duration": "string",
    "google.protobuf.FieldMask": "string",
    "google.protobuf.Struct": "Record<string, unknown>",
}
_F: Final = FieldDescriptor
_SCALARS: Final = {
    **dict.fromkeys((_F.TYPE_DOUBLE, _F.TYPE_FLOAT), "number"),
    **dict.fromkeys(
        (_F.TYPE_INT32, _F.TYPE_UINT32, _F.TYPE_FIXED32, _F.TYPE_SFIXED32, _F.TYPE_SINT32), "number"
    ),
    **dict.fromkeys(
        (_F.TYPE_INT64, _F.TYPE_UINT64, _F.TYPE_FIXED64, _F.TYPE_SFIXED64, _F.TYPE_SINT64), "string"
    ),
    _F.TYPE_BOOL: "boolean",
    _F.TYPE_STRING: "string",
    _F.TYPE_BYTES: "string",
}


def generate() -> str:
    """The text of `messages.ts`."""
    services = _services()
    found: dict[str, Descriptor | EnumDescriptor] = {}
    for service in services:
        for method in service.methods:
            _collect(method.input_type, found)
            _collect(method.output_type, found)
    names = _Names(found.values())
    parts = [_HEAD]
    for item in sorted(found.values(), key=names.of):
        parts.append(_enum(item, names) if isinstance(item, EnumDescriptor) else _interface(item, names))
    rows = [
        f'  "{service.name}/{method.name}": '
        f"{{ request: {names.of(method.input_type)}; response: {names.of(method.output_type)} }};"
        for service in services
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    ]
    parts.append("\n".join(["export interface Methods {", *sorted(rows), "}\n"]))
    return "\n".join(parts)


class _Names:
    """What types are called: as the messages, after the service's package where two have the same name."""

    def __init__(self, items: Iterable[Descriptor | EnumDescriptor]) -> None:
        self._count = Counter(_short(item) for item in items)

    def of(self, item: Descriptor | EnumDescriptor) -> str:
        short = _short(item)
        return short if self._count[short] == 1 else item.file.package.split(".")[2].title() + short


def _services() -> list[ServiceDescriptor]:
    services: dict[str, ServiceDescriptor] = {}
    for module in pkgutil.walk_packages(biosegment.api.__path__, "biosegment.api."):
        if module.name.endswith("_pb2"):
            file: FileDescriptor = importlib.import_module(module.name).DESCRIPTOR
            services.update(file.services_by_name)
    return [services[name] for name in sorted(services)]


def _collect(item: Descriptor | EnumDescriptor, found: dict[str, Descriptor | EnumDescriptor]) -> None:
    if item.full_name in _KNOWN or item.full_name in found:
        return
    if isinstance(item, EnumDescriptor) or not item.GetOptions().map_entry:
        found[item.full_name] = item
    if isinstance(item, Descriptor):
        for field in item.fields:
            other = field.message_type or field.enum_type
            if other is not None:
                _collect(other, found)


def _short(item: Descriptor | EnumDescriptor) -> str:
    outer = item.containing_type
    return (_short(outer) if outer is not None else "") + item.name


def _enum(item: EnumDescriptor, names: _Names) -> str:
    rows = "".join(f'\n  | "{value.name}"' for value in item.values)
    return f"export type {names.of(item)} ={rows};\n"


def _interface(item: Descriptor, names: _Names) -> str:
    if not item.fields:
        return f"export type {names.of(item)} = object;\n"
    rows = [
        f"  {field.json_name}{'?' if _may_lack(field) else ''}: {_type(field, names)};"
        for field in item.fields
    ]
    return "\n".join([f"export interface {names.of(item)} {{", *rows, "}\n"])


def _may_lack(field: FieldDescriptor) -> bool:
    """The server prints defaults, but not what has presence and is not set."""
    return bool(field.has_presence)


def _type(field: FieldDescriptor, names: _Names) -> str:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return f"Record<string, {_single(message.fields_by_name['value'], names)}>"
    return _single(field, names) + ("[]" if field.is_repeated else "")


def _single(field: FieldDescriptor, names: _Names) -> str:
    if field.message_type is not None:
        return _KNOWN.get(field.message_type.full_name) or names.of(field.message_type)
    return names.of(field.enum_type) if field.enum_type is not None else _SCALARS[field.type]


if __name__ == "__main__":
    TYPES.write_text(generate())

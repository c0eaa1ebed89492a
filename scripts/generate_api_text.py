"""Write what the protos say in comments, by full name, for the OpenAPI document of the gateway.

usage: python scripts/generate_api_text.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from generate_api import ROOT
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

TEXT = ROOT / "services" / "gateway" / "biosegment_gateway" / "http" / "api_text.json"

# Field numbers within the descriptors: how `source_code_info` names a place.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED_MESSAGES, _NESTED_ENUMS, _ONEOFS = 2, 3, 4, 8
_MEMBERS = 2

_Found = Iterator[tuple[tuple[int, ...], str]]


def generate() -> str:
    """The text of `api_text.json`."""
    found = {name: text for file in _files() for name, text in _texts(file)}
    return json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False) + "\n"


def _files() -> Sequence[FileDescriptorProto]:
    protos = [str(path.relative_to(ROOT / "proto")) for path in sorted((ROOT / "proto").rglob("*.proto"))]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        tool = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto"]
        subprocess.run(
            [*tool, "--include_source_info", f"--descriptor_set_out={out}", *protos], cwd=ROOT, check=True
        )
        return FileDescriptorSet.FromString(out.read_bytes()).file


def _texts(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    names = dict(_names(file))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        text = " ".join(location.leading_comments.split())
        if name and text:
            yield f"{file.package}.{name}", text


def _names(file: FileDescriptorProto) -> _Found:
    yield from _messages((_MESSAGES,), "", file.message_type)
    yield from _enums((_ENUMS,), "", file.enum_type)
    services: Iterable[ServiceDescriptorProto] = file.service
    for number, service in enumerate(services):
        yield (_SERVICES, number), service.name
        yield from _members((_SERVICES, number, _MEMBERS), service.name, service.method)


def _messages(path: tuple[int, ...], prefix: str, messages: Iterable[DescriptorProto]) -> _Found:
    for number, message in enumerate(messages):
        here, name = (*path, number), f"{prefix}{message.name}"
        yield here, name
        yield from _members((*here, _FIELDS), name, message.field)
        yield from _members((*here, _ONEOFS), name, message.oneof_decl)
        yield from _enums((*here, _NESTED_ENUMS), f"{name}.", message.enum_type)
        yield from _messages((*here, _NESTED_MESSAGES), f"{name}.", message.nested_type)


def _enums(path: tuple[int, ...], prefix: str, enums: Iterable[EnumDescriptorProto]) -> _Found:
    for number, enum in enumerate(enums):
        yield (*path, number), f"{prefix}{enum.name}"
        yield from _members((*path, number, _MEMBERS), f"{prefix}{enum.name}", enum.value)


def _members(path: tuple[int, ...], prefix: str, members: Iterable[Any]) -> _Found:
    for number, member in enumerate(members):
        yield (*path, number), f"{prefix}.{member.name}"


if __name__ == "__main__":
    TEXT.write_text(generate())

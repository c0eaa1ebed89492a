"""Projects and who works in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.datastore.v1alpha1 import project_pb2
from biosegment.client.resources.wire import time_of, word_of


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One thing to segment; `value` is its label value (2..255)."""

    value: int
    display_name: str
    color_rgb: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    display_name: str
    description: str
    classes: tuple[LabelClass, ...]
    working_resolution_nm: float
    create_time: datetime | None
    etag: str

    @classmethod
    def from_proto(cls, message: project_pb2.Project) -> Project:
        classes = tuple(LabelClass(item.value, item.display_name, item.color_rgb) for item in message.classes)
        return cls(
            message.name,
            message.display_name,
            message.description,
            classes,
            message.working_resolution_nm,
            time_of(message.create_time),
            message.etag,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A user's role in a project: owner, manager, annotator, reviewer or viewer."""

    name: str
    role: str

    @classmethod
    def from_proto(cls, message: project_pb2.Member) -> Member:
        return cls(message.name, word_of(project_pb2.Role, message.role))

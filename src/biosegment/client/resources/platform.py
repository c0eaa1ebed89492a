"""The platform itself, and who may use it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.identity.v1alpha1 import identity_pb2
from biosegment.api.platform.v1alpha1 import platform_pb2
from biosegment.client.resources.wire import time_of, word_of


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """Health is serving, not_serving or unreachable."""

    service: str
    health: str
    version: str
    address: str

    @classmethod
    def from_proto(cls, message: platform_pb2.ServiceStatus) -> ServiceStatus:
        return cls(
            message.service,
            word_of(platform_pb2.ServiceStatus.Health, message.health),
            message.version,
            message.address,
        )


@dataclass(frozen=True, slots=True)
class User:
    """A person or program; `disabled` ones may not sign in."""

    name: str
    display_name: str
    is_admin: bool
    disabled: bool = False

    @classmethod
    def from_proto(cls, message: identity_pb2.User) -> User:
        return cls(message.name, message.display_name, message.is_admin, message.disabled)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; `secret` is known only when it is made; without `scopes` it may do all that its user may."""

    name: str
    display_name: str
    create_time: datetime | None
    expire_time: datetime | None
    last_use_time: datetime | None
    secret: str = ""
    scopes: tuple[str, ...] = ()

    @classmethod
    def from_proto(cls, message: identity_pb2.Token, secret: str = "") -> Token:
        return cls(
            message.name,
            message.display_name,
            time_of(message.create_time),
            time_of(message.expire_time),
            time_of(message.last_use_time),
            secret,
            tuple(message.scopes),
        )


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Who did what to which resource, from where; `outcome` is OK or the name of a gRPC code."""

    sequence: int
    time: datetime | None
    user: str
    action: str
    resource: str
    outcome: str
    peer: str

    @classmethod
    def from_proto(cls, message: identity_pb2.AuditEvent) -> AuditEvent:
        return cls(
            message.sequence,
            time_of(message.time),
            message.user,
            message.action,
            message.resource,
            message.outcome,
            message.peer,
        )


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects of the storage that nothing refers to; `prefixes` are the first 1000 of their places."""

    objects: int
    size_bytes: int
    prefixes: tuple[str, ...] = ()

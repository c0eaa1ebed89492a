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
    name: str
    display_name: str
    is_admin: bool

    @classmethod
    def from_proto(cls, message: identity_pb2.User) -> User:
        return cls(message.name, message.display_name, message.is_admin)


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; `secret` is known only when it is made."""

    name: str
    display_name: str
    create_time: datetime | None
    expire_time: datetime | None
    last_use_time: datetime | None
    secret: str = ""

    @classmethod
    def from_proto(cls, message: identity_pb2.Token, secret: str = "") -> Token:
        return cls(
            message.name,
            message.display_name,
            time_of(message.create_time),
            time_of(message.expire_time),
            time_of(message.last_use_time),
            secret,
        )


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects of the storage that nothing refers to; `prefixes` are the first 1000 of their places."""

    objects: int
    size_bytes: int
    prefixes: tuple[str, ...] = ()

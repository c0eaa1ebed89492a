"""The methods of the public port, read from the generated API: a new RPC needs nothing here."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Final

import biosegment.api

INTERNAL_SERVICES: Final = frozenset({"biosegment.api.trainer.v1alpha1.WorkerService"})
"""Of the contract, but not of the public port."""


@functools.cache
def public_services() -> Mapping[str, Any]:
    """Descriptors of the services by short name (`DatastoreService`), in the order of their names."""
    found: dict[str, Any] = {}
    for module in _modules():
        for service in module.DESCRIPTOR.services_by_name.values():
            if service.full_name not in INTERNAL_SERVICES:
                if service.name in found:
                    raise RuntimeError(f"two services are called {service.name}")
                found[service.name] = service
    return dict(sorted(found.items()))


@functools.cache
def public_methods() -> Mapping[str, Any]:
    """Descriptors of the methods by `/package.Service/Method`, as gRPC has it."""
    return {path_of(method): method for service in public_services().values() for method in service.methods}


def is_unary(method: Any) -> bool:
    """Whether a method, by its descriptor, has one request and one response."""
    return not method.client_streaming and not method.server_streaming


def path_of(method: Any) -> str:
    """`/package.Service/Method`, as gRPC has it."""
    return f"/{method.containing_service.full_name}/{method.name}"


def _modules() -> list[Any]:
    """All generated modules; importing them also tells the descriptor pool what there is."""
    names = [
        module.name
        for module in pkgutil.walk_packages(biosegment.api.__path__, "biosegment.api.")
        if module.name.endswith("_pb2")
    ]
    return [importlib.import_module(name) for name in sorted(names)]

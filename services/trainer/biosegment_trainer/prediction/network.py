"""What the trainer itself must know of a network, without loading torch: read from the model's bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from biosegment.errors import NotFound
from biosegment.storage.objects import Objects

_DROPOUT: Final = (
    "dropout",
    "dropout_prob",
    "dropout_rate",
    "drop_rate",
    "attn_drop_rate",
    "dropout_path_rate",
)


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What decides how a network can be used.

    Attributes:
        spatial_dims: 2 or 3.
        has_dropout: Passes with dropout differ from each other.
    """

    spatial_dims: int = 2
    has_dropout: bool = False


async def network_facts(objects: Objects, bundle_key: str) -> NetworkFacts:
    """Of the model whose bundle lies at a key."""
    network = await network_def(objects, bundle_key)
    return NetworkFacts() if network is None else _facts(network)


async def network_def(objects: Objects, bundle_key: str) -> Mapping[str, Any] | None:
    """What the bundle at a key says of its network; None when it does not."""
    try:
        config = json.loads(await objects.get(f"{bundle_key}/configs/inference.json"))
    except NotFound:
        return None
    network = config.get("network_def")
    return network if isinstance(network, Mapping) else None


def _facts(network: Mapping[str, Any]) -> NetworkFacts:
    return NetworkFacts(
        3 if network.get("spatial_dims") == 3 else 2, any(_rate(network.get(name)) for name in _DROPOUT)
    )


def _rate(value: Any) -> float:
    """A number, or the second of `[name, {"p": 0.1}]`, as MONAI takes both."""
    if isinstance(value, list | tuple):
        return max((_rate(each) for each in value), default=0.0)
    if isinstance(value, Mapping):
        return _rate(value.get("p"))
    return float(value) if isinstance(value, int | float) else 0.0

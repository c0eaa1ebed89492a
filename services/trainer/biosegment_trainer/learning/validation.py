"""Which annotations are held out to validate a model, without leaking: neighbouring EM slices are almost
copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.dataset import AnnotatedRegion


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """How annotations are held out.

    Slabs of slices are drawn by a hash of volume and position, so that every round holds out the same ones.

    Attributes:
        fraction: Share of slabs that validate; 0 trains on everything.
        slab: Slices in a slab.
        gap: Slices next to a validating slab that neither train nor validate.
        minimum: With fewer annotations than this, everything trains: labels are worth more than a shaky
            number.
    """

    fraction: float = 0.1
    slab: int = 16
    gap: int = 4
    minimum: int = 40

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1 or self.slab < 1 or self.gap < 0 or self.minimum < 2:
            raise InvalidArgument(
                "BAD_VALIDATION", f"{self}: fraction in 0..1, slab >= 1, gap >= 0, minimum >= 2"
            )


@dataclass(frozen=True, slots=True)
class Split:
    """Training and validation regions, and a sentence that says why validation is empty (or empty itself)."""

    training: tuple[AnnotatedRegion, ...]
    validation: tuple[AnnotatedRegion, ...]
    reason: str


def split(regions: Sequence[AnnotatedRegion], config: ValidationConfig) -> Split:
    """Hold out whole slabs that the parent has not seen; nothing within `gap` slices of them trains."""
    everything = tuple(regions)
    if config.fraction == 0:
        return Split(everything, (), "validation is switched off")
    if len(everything) < config.minimum:
        return Split(everything, (), f"{len(everything)} annotations, validation needs {config.minimum}")
    slabs = {slab for r in everything for slab in _slabs(r, config, 0)}
    seen = {slab for r in everything if r.seen_by_parent for slab in _slabs(r, config, config.gap)}
    held = {slab for slab in slabs - seen if _draw(slab) < config.fraction}
    validation = tuple(r for r in everything if held.issuperset(_slabs(r, config, 0)))
    training = tuple(r for r in everything if held.isdisjoint(_slabs(r, config, config.gap)))
    if not validation or 2 * len(training) < len(everything):
        why = "the parent was trained on every slab" if slabs <= seen else "no slab can be held out"
        return Split(everything, (), why)
    return Split(training, validation, "")


def _slabs(region: AnnotatedRegion, config: ValidationConfig, margin: int) -> set[tuple[str, int]]:
    first = max(region.region.start.z - margin, 0) // config.slab
    last = (region.region.stop.z - 1 + margin) // config.slab
    return {(region.volume_id, number) for number in range(first, last + 1)}


def _draw(slab: tuple[str, int]) -> float:
    digest = hashlib.sha256(f"{slab[0]}/{slab[1]}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

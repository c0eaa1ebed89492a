"""Which annotations are held out to validate a model, without leaking: neighbouring EM slices are almost
copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """How annotations are held out, and what is made of them.

    Slabs of slices are drawn by a hash of volume and position, so that every round holds out the same ones.

    Attributes:
        fraction: Share of slabs that validate, at least one where that is possible; 0 trains on everything.
        slab: Slices in a slab.
        gap: Slices next to a validating slab that neither train nor validate, beyond what networks see.
        minimum: With fewer annotations than this, everything trains: labels are worth more than a shaky
            number.
        every: Steps between validations; 0 for a tenth of the run.
        patience: The run ends after so many validations in a row without a better one; they count in its second
            half, when the learning rate falls and weights settle. 0 never ends it early.
        tolerance: A smaller difference in IoU is taken for chance: of weights that are as good, those that
            learned longer are kept, and any child before its parent.
        max_voxels: Working voxels that a validation computes at most; with more held out, tiles of them are
            chosen once, evenly.
    """

    fraction: float = 0.1
    slab: int = 16
    gap: int = 4
    minimum: int = 40
    every: int = 0
    patience: int = 3
    tolerance: float = 0.01
    max_voxels: int = 1 << 21

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1 or self.slab < 1 or self.gap < 0 or self.minimum < 2:
            raise InvalidArgument(
                "BAD_VALIDATION", f"{self}: fraction in 0..1, slab >= 1, gap >= 0, minimum >= 2"
            )
        if self.every < 0 or self.patience < 0 or not 0 <= self.tolerance < 1 or self.max_voxels < 1:
            raise InvalidArgument(
                "BAD_VALIDATION",
                f"{self}: every and patience are not negative, tolerance in 0..1, max_voxels >= 1",
            )


@dataclass(frozen=True, slots=True)
class Split:
    """Training and validation regions, and a sentence that says why validation is empty (or empty itself)."""

    training: tuple[AnnotatedRegion, ...]
    validation: tuple[AnnotatedRegion, ...]
    reason: str


def split(
    regions: Sequence[AnnotatedRegion], config: ValidationConfig, classes: Sequence[LabelClass] = ()
) -> Split:
    """Hold out whole slabs that the parent has not seen; nothing within `gap` slices of them trains.

    A region's context counts as far as it reaches: what a network sees around a held-out slice is not what
    another one trained on. Each of `classes` that is annotated somewhere is left in training.
    """
    everything = tuple(regions)
    if config.fraction == 0:
        return Split(everything, (), "validation is switched off")
    if len(everything) < config.minimum:
        return Split(everything, (), f"{len(everything)} annotations, validation needs {config.minimum}")
    reach = max((_reach(region) for region in everything), default=0)
    margin = config.gap + 2 * reach
    slabs = {slab for r in everything for slab in _slabs(r, config, 0)}
    seen = {slab for r in everything if r.seen_by_parent for slab in _slabs(r, config, margin)}
    candidates = sorted(slabs - seen, key=_draw)
    drawn = {slab for slab in candidates if _draw(slab) < config.fraction}
    # A shallow volume may have no slab that is drawn, or one whose neighbours are most of it.
    choices = [drawn, *({slab} for slab in candidates)]
    shown = _shown(everything, classes)
    prevented: set[str] = set()
    for number, held in enumerate(choices):
        validation = tuple(r for r in everything if held.issuperset(_slabs(r, config, 0)))
        training = tuple(r for r in everything if held.isdisjoint(_slabs(r, config, margin)))
        if not validation or 2 * len(training) < len(everything):
            continue
        trained = {id(region) for region in training}
        lost = [name for name, where in shown.items() if trained.isdisjoint(map(id, where))]
        if not lost:
            return Split(training, validation, "")
        prevented.update(lost)
        if number == 0:
            # The other slabs of the draw shall validate all the same, now and in later rounds.
            near = {slab for name in lost for r in shown[name] for slab in _slabs(r, config, margin)}
            choices.insert(1, drawn - near)
    why = "no slab can be held out" if candidates else "the parent was trained on every slab"
    if prevented:
        names = " or ".join(repr(name) for name in sorted(prevented))
        why = f"whichever slab is held out, no annotation of {names} would be left to train on"
    return Split(everything, (), why)


def _shown(
    regions: Sequence[AnnotatedRegion], classes: Sequence[LabelClass]
) -> dict[str, list[AnnotatedRegion]]:
    """The regions in which a class is labelled, of each that occurs."""
    found = {c.name: [r for r in regions if (r.labels == c.value).any()] for c in classes if c.value}
    return {name: where for name, where in found.items() if where}


def _reach(region: AnnotatedRegion) -> int:
    """Slices beyond the annotation that are seen with it."""
    inner, outer = region.region, region.context
    return max(inner.start.z - outer.start.z, outer.stop.z - inner.stop.z)


def _slabs(region: AnnotatedRegion, config: ValidationConfig, margin: int) -> set[tuple[str, int]]:
    first = max(region.region.start.z - margin, 0) // config.slab
    last = (region.region.stop.z - 1 + margin) // config.slab
    return {(region.volume_id, number) for number in range(first, last + 1)}


def _draw(slab: tuple[str, int]) -> float:
    digest = hashlib.sha256(f"{slab[0]}/{slab[1]}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

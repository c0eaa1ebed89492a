"""How well a model agrees with annotations that are new to it: tested first, and trained on afterwards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from biosegment_trainer.learning.annotated_tile import AnnotatedTile, count, spread, tiles_of
from biosegment_trainer.learning.dataset import AnnotatedRegion, training_parts
from biosegment_trainer.learning.metrics import Confusion
from biosegment_trainer.learning.network import LabelClass, NetworkModel, pick_device
from biosegment_trainer.learning.optimisation import Run, TrainingConfig


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Agreement in one class.

    Attributes:
        iou: Of the voxels of all regions together; a mean of the regions' own would let a speck weigh as much as a
            field full of objects.
        error: Standard error of `iou` over regions, None with fewer than two.
        regions: Those in which the annotator or the model has the class.
        seen: Those in which the model has it.
    """

    iou: float
    error: float | None
    regions: int
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """What `agreement` found; `voxels` are working voxels that were compared, in `regions` annotations."""

    classes: Mapping[str, ClassAgreement]
    regions: int
    voxels: int


def agreement(
    model: NetworkModel,
    regions: Sequence[AnnotatedRegion],
    *,
    classes: Sequence[LabelClass],
    config: TrainingConfig,
    device: str | None = None,
) -> Agreement:
    """Compare a model with annotations that it has not seen (prequential evaluation: Dawid 1984; Gama, Sebastiao
    and Rodrigues 2013, "On evaluating stream learning algorithms").

    Counts are pooled over voxels. The standard error is the jackknife's over regions (Tukey 1958): each is left out
    once, so that it counts how much single regions matter, however unequal they are. It takes regions for
    independent; neighbours are not quite, and it is then too small.

    Args:
        model: What is tested, by its averaged weights.
        regions: New annotations with their surroundings.
        classes: Of the project, by whose names the model's outputs are understood; only classes that both know, and
            that the annotator looked for, are compared.
        config: Gives `validation.max_voxels`, which bounds the work: of more, regions, and tiles of them, are chosen
            at even distances.
        device: As in `train`.
    """
    values = {c.name.casefold(): c.value for c in classes}
    known = tuple(LabelClass(values.get(c.name.casefold(), 0), c.name) for c in model.classes)
    if not regions or not any(c.value for c in known):
        return Agreement({}, 0, 0)
    model = NetworkModel(model.network, known, model.weights)
    regions = _few(regions, config.validation.max_voxels)
    places: dict[AnnotatedTile, int] = {}
    for number, region in enumerate(regions):
        for part in training_parts([region], known, model.network):
            places |= dict.fromkeys(tiles_of(part, model.network), number)
    chosen = spread(list(places), config.validation.max_voxels)
    # A run that takes no step.
    plain = dataclasses.replace(config, network=model.network, shards=1)
    with torch.random.fork_rng(devices=[]):
        run = Run(plain, model, known, 0, pick_device(device))
    found = [Confusion(known) for _ in regions]
    compared, voxels = set(), 0
    for tile in chosen:
        if tile.looked_for(known):
            count(run, tile, found[places[tile]])
            compared.add(places[tile])
            voxels += int(np.count_nonzero(tile.labels))
    names = {c.value: c.name for c in classes}
    judged: dict[str, ClassAgreement] = {}
    for value in (c.value for c in known if c.value):
        if one := pooled(_counts(found, value)):
            seen = sum(bool(each.predicted.get(value)) for each in found)
            judged[names[value]] = dataclasses.replace(one, seen=seen)
    return Agreement(judged, len(compared), voxels)


def pooled(counts: Sequence[tuple[int, int]]) -> ClassAgreement | None:
    """From the voxels in the intersection and the union of each region; None when no region has the class."""
    present = [(both, union) for both, union in counts if union]
    if not present:
        return None
    both, union = (sum(column) for column in zip(*present, strict=True))
    if len(present) == 1:
        return ClassAgreement(both / union, None, 1)
    without = np.array([(both - b) / (union - u) for b, u in present])
    squares = float(((without - without.mean()) ** 2).sum())
    error = math.sqrt(squares * (len(present) - 1) / len(present))
    return ClassAgreement(both / union, error, len(present))


def _few(regions: Sequence[AnnotatedRegion], max_voxels: int) -> Sequence[AnnotatedRegion]:
    """As many as have so many voxels, before any of them is prepared: an import may bring very many."""
    total = sum(region.region.size // region.factor**2 for region in regions)
    if total <= max_voxels:
        return regions
    kept = max(1, int(len(regions) * max_voxels / total))
    return [regions[i] for i in np.linspace(0, len(regions) - 1, kept).round().astype(int)]


def _counts(found: Sequence[Confusion], value: int) -> list[tuple[int, int]]:
    both = [one.both.get(value, 0) for one in found]
    return [
        (b, one.truth.get(value, 0) + one.predicted.get(value, 0) - b)
        for b, one in zip(both, found, strict=True)
    ]

"""What is checked of an edit before it is stored, against the objects as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from biosegment.errors import FailedPrecondition, InvalidArgument, NotFound
from biosegment.volume import Index, Region
from biosegment_datastore.annotations.annotation import MAX_VOXELS, Labels
from biosegment_datastore.instances.catalogue import Catalogue, slabs
from biosegment_datastore.instances.edit import MAX_IDS, Edit, EditKind, Step
from biosegment_datastore.instances.history import History
from biosegment_datastore.instances.reading import EditedArray
from biosegment_datastore.instances.seeds import parts_by_seeds

MAX_PARTS = 256
_READ_BYTES = 16 << 20

Seeds = tuple[tuple[Index, ...], ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to do; see `InstanceEdit` in the contract.

    Attributes:
        instances: Merge: the objects, that which stays first. Split: the object. Delete, reclassify: the objects.
        target: Reassign: the object that gets the voxels; 0 for a new one.
        region: Split, reassign: what the labels cover; None when a split has seeds and no region.
        seeds: Split: points of each part.
        class_value: Reclassify.
    """

    kind: EditKind
    instances: tuple[int, ...]
    comment: str
    target: int = 0
    region: Region | None = None
    seeds: Seeds = ()
    class_value: int = 0

    @property
    def known(self) -> tuple[int, ...]:
        """The objects that it names."""
        return (*self.instances, *((self.target,) if self.target else ()))

    def check(self) -> None:
        """What does not depend on the layer; InvalidArgument BAD_EDIT."""
        if len(self.known) > MAX_IDS:
            raise _bad(f"{len(self.known)} objects in one edit are more than {MAX_IDS}; use several edits")
        if 0 in self.instances:
            raise _bad("0 is background and no object; leave it out")
        twice, count = max(Counter(self.instances).items(), key=itemgetter(1), default=(0, 0))
        if count > 1:
            raise _bad(f"object {twice} is named twice; an object cannot be merged with itself")
        if self.kind is EditKind.MERGE and len(self.instances) < 2:
            raise _bad(f"a merge needs two objects at least, not {list(self.instances)}")
        if not self.instances and self.kind is not EditKind.REASSIGN:
            raise _bad(f"a {self.kind} needs the id of an object")
        if self.seeds:
            if not 2 <= len(self.seeds) <= MAX_PARTS or not all(self.seeds):
                raise _bad(f"seeds of 2 to {MAX_PARTS} parts are needed, one point for each at least")
        elif self.kind in (EditKind.SPLIT, EditKind.REASSIGN) and self.region is None:
            raise _bad(
                f"a {self.kind} needs a region and labels for its voxels, or a split seeds of its parts"
            )


def require_alive(instances: Collection[int], layer: str, catalogue: Catalogue, history: History) -> None:
    """Return when all of these are objects of the layer now.

    Raises:
        NotFound: INSTANCE_NOT_FOUND.
        FailedPrecondition: INSTANCE_GONE; its metadata names the edit.
    """
    made = history.composition.made
    for each in instances:
        end = history.composition.end_of(each)
        if end is not None:
            edit = next(edit for edit in history.edits if edit.step.sequence == end.sequence)
            what = f"is part of object {end.target} since" if end.target else f"is gone since the {end.kind}"
            raise _gone(f"object {each} of {layer} {what} {edit.name}; take that back first", edit)
        if each in made or each in catalogue:
            continue
        for edit in history.edits:
            if each in edit.step.new_ids:
                raise _gone(f"object {each} of {layer} is gone: {edit.name} made it and was taken back", edit)
        raise NotFound("INSTANCE_NOT_FOUND", f"{layer} has no object {each}")


def require_parts(labels: Labels) -> int:
    """Number of new objects that a split's labels ask for.

    Raises:
        InvalidArgument: PART_EMPTY.
    """
    counts = np.bincount(labels.reshape(-1), minlength=256)
    last = int(np.flatnonzero(counts)[-1])
    if not last:
        raise InvalidArgument(
            "PART_EMPTY",
            "the labels give no voxel to a new object: 0 keeps the id, 1, 2 ... become new ones",
        )
    empty = np.flatnonzero(counts[1 : last + 1] == 0)
    if empty.size:
        raise InvalidArgument(
            "PART_EMPTY",
            f"part {int(empty[0]) + 1} of {last} has no voxel; number the parts 1, 2 ... without a gap",
        )
    return last


def require_object(
    chosen: npt.NDArray[np.bool_], ids: npt.NDArray[np.unsignedinteger], instance: int, region: Region
) -> None:
    """InvalidArgument PARTS_NOT_OF_OBJECT unless all chosen voxels are the object's."""
    wrong = chosen & (ids != instance)
    if count := int(np.count_nonzero(wrong)):
        inside = tuple(int(each) for each in np.unravel_index(int(wrong.argmax()), wrong.shape))
        found = int(ids[inside])
        place = tuple(low + offset for low, offset in zip(region.start, inside, strict=True))
        raise InvalidArgument(
            "PARTS_NOT_OF_OBJECT",
            f"{count} voxels are given to new parts that are not of object {instance}; the first one, {place}, is "
            f"{f'of object {found}' if found else 'background'}",
        )


def cropped(labels: Labels, region: Region) -> tuple[Labels, Region]:
    """The part of labels that is not 0, and where it lies."""
    start, stop = [], []
    for axis in range(3):
        used = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        start.append(int(used[0]))
        stop.append(int(used[-1]) + 1)
    inner = Region(Index(*start), Index(*stop))
    return labels[inner.slices], inner.shifted(region.start)


def place_of(instance: int, catalogue: Catalogue, history: History, layer: str) -> Region:
    """A box that holds an object as it is now, perhaps with some room; FailedPrecondition OBJECT_EMPTY."""
    members = history.composition.members(instance)
    boxes = [box for each in members if (box := catalogue.place(each)) is not None]
    boxes += history.composition.blocks_of(members)
    if not boxes:
        raise FailedPrecondition("OBJECT_EMPTY", f"object {instance} of {layer} has no voxels")
    starts = np.min([box.start for box in boxes], axis=0).tolist()
    stops = np.max([box.stop for box in boxes], axis=0).tolist()
    return Region(Index(*starts), Index(*stops))


def seeded_parts(
    ids: npt.NDArray[np.unsignedinteger],
    region: Region,
    instance: int,
    seeds: Seeds,
    voxel_size_nm: tuple[float, float, float],
) -> Labels:
    """Labels of a split from seeds, of the region's shape.

    Raises:
        InvalidArgument: BAD_SEED, PART_EMPTY.
    """
    is_object = ids == instance
    owners: dict[Index, int] = {}
    for part, points in enumerate(seeds):
        for point in points:
            if not all(
                low <= p < high for low, p, high in zip(region.start, point, region.stop, strict=True)
            ):
                raise InvalidArgument("BAD_SEED", f"seed {tuple(point)} is outside of {region}")
            inside = tuple(p - low for low, p in zip(region.start, point, strict=True))
            if not is_object[inside]:
                found = int(ids[inside])
                what = f"of object {found}" if found else "background"
                raise InvalidArgument(
                    "BAD_SEED", f"seed {tuple(point)} is {what} and not of object {instance}"
                )
            if owners.setdefault(point, part) != part:
                raise InvalidArgument("BAD_SEED", f"seed {tuple(point)} is given to two parts")
    inner = [
        [tuple(p - low for low, p in zip(region.start, point, strict=True)) for point in part]
        for part in seeds
    ]
    return parts_by_seeds(is_object, inner, voxel_size_nm)  # type: ignore[arg-type]


async def require_rest(
    array: EditedArray, instance: int, place: Region, labels: Labels, region: Region, layer: str
) -> None:
    """FailedPrecondition SPLIT_LEAVES_NOTHING unless the object keeps a voxel.

    Args:
        array: The objects as they are.
        instance: The object.
        place: A box that holds it.
        labels: Of the split, which are 0 where the voxel keeps its id.
        region: Where they lie.
        layer: For the message.
    """
    for part in (region, *_parts(array, place)):
        rest = await array.read_async(part) == instance
        shared = part.intersection(region)
        if shared is not None:
            rest[shared.relative_to(part).slices] &= labels[shared.relative_to(region).slices] == 0
        if rest.any():
            return
    raise FailedPrecondition(
        "SPLIT_LEAVES_NOTHING",
        f"all voxels of object {instance} of {layer} are given to new objects; leave those of one part 0",
    )


def _parts(array: EditedArray, place: Region) -> Iterator[Region]:
    shape = tuple(place.shape)
    for part in slabs(shape, array.dtype.itemsize, array.layout.shard, _READ_BYTES):
        yield part.shifted(place.start)


def require_size(region: Region) -> None:
    """InvalidArgument REGION_TOO_LARGE."""
    if region.size > MAX_VOXELS:
        raise InvalidArgument(
            "REGION_TOO_LARGE",
            f"region {region} has {region.size} voxels; an edit looks at {MAX_VOXELS} at most: give a smaller region",
        )


def sources_of(
    ids: npt.NDArray[np.unsignedinteger], chosen: npt.NDArray[np.bool_], target: int
) -> Sequence[int]:
    """The objects, 0 for background, that lose voxels to a target, or with 0 to a new object.

    Raises:
        InvalidArgument: NOTHING_CHANGES, BAD_EDIT.
    """
    if not chosen.any():
        raise InvalidArgument("NOTHING_CHANGES", "the labels choose no voxel: 1 is for those to reassign")
    sources = [each for each in np.unique(ids[chosen]).tolist() if not target or each != target]
    if not sources:
        raise InvalidArgument(
            "NOTHING_CHANGES", f"all voxels that were chosen are of object {target} already"
        )
    if len(sources) > MAX_IDS:
        raise InvalidArgument(
            "BAD_EDIT",
            f"the voxels are of {len(sources)} objects; one edit takes them from {MAX_IDS} at most",
        )
    return sources


def step_of(wish: Wish) -> Step:
    """The step of an edit that has no block."""
    target = wish.instances[0] if wish.kind is EditKind.MERGE else 0
    return Step(0, wish.kind, wish.instances, target, class_value=wish.class_value)


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument("BAD_EDIT", message)


def _gone(message: str, edit: Edit) -> FailedPrecondition:
    return FailedPrecondition("INSTANCE_GONE", message, edit=edit.name)

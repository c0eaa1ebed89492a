"""What trainings and pretrainings gather before a worker begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from biosegment.jobs import JobContext
from biosegment.storage.objects import Objects
from biosegment.volume import VoxelSize
from biosegment_trainer.compute.dispatch import volume_array
from biosegment_trainer.compute.task import VolumeArray
from biosegment_trainer.datastore_client import DatastoreClient, volume_id_of
from biosegment_trainer.learning.factor import working_factor
from biosegment_trainer.registry.model import Model, bundle_key
from biosegment_trainer.training.option import Option

_OBLONG: Final = 1.1
"""Longer by shorter edge of a voxel in plane, beyond which it is said."""


@dataclass(frozen=True, slots=True)
class GatheredVolumes:
    """Volumes by id with their factors, the voxel size of the first one named, and what a user should know."""

    volumes: Mapping[str, tuple[VolumeArray, int]]
    voxel_size_nm: tuple[float, float, float]
    remarks: tuple[str, ...] = ()


def volumes_of(annotations: Iterable[str]) -> list[str]:
    """Names of the volumes of some annotations, the one with most first: it matters most."""
    counts = Counter(name.rpartition("/annotations/")[0] for name in annotations)
    return [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


async def gather_volumes(
    datastore: DatastoreClient,
    names: Sequence[str],
    working_resolution_nm: float,
    parent: Model | None = None,
) -> GatheredVolumes:
    """Look up volumes, the one that matters most first; NotFound when one is gone.

    Args:
        datastore: Where they are.
        names: Theirs.
        working_resolution_nm: Wanted size of a pixel in plane.
        parent: Model to start from.
    """
    found: dict[str, tuple[VolumeArray, int]] = {}
    remarks = _other_resolution(parent, working_resolution_nm)
    sizes = []
    for name in names:
        volume = await datastore.volume(name)
        sizes.append(volume.voxel_size)
        remarks += _oblong(name, volume.voxel_size)
        factor = working_factor(working_resolution_nm, volume.voxel_size.y_nm)
        found[volume_id_of(name)] = (await volume_array(datastore, volume), factor)
    size = sizes[0]
    return GatheredVolumes(found, (size.z_nm, size.y_nm, size.x_nm), tuple(remarks))


def _other_resolution(parent: Model | None, working_resolution_nm: float) -> list[str]:
    known = parent.new.working_resolution_nm if parent else working_resolution_nm
    if parent is None or known == working_resolution_nm:
        return []
    return [
        f"{parent.name} knows pixels of {known:g} nm, and its weights go on with {working_resolution_nm:g} nm: what it "
        "looks for has another size in them, and its child may need more annotations than one of the same resolution"
    ]


def _oblong(name: str, size: VoxelSize) -> list[str]:
    if max(size.y_nm, size.x_nm) <= _OBLONG * min(size.y_nm, size.x_nm):
        return []
    return [
        f"voxels of {name} are {size.y_nm:g} nm high and {size.x_nm:g} nm wide: the working resolution holds for their "
        "height alone, and tissue looks stretched"
    ]


def processes(gpus: int, options: Mapping[str, Option]) -> int:
    """Processes of a training: one for each GPU, or as many as are asked for."""
    return int(options.get("workers", 0)) or max(1, gpus)


def model_id(context: JobContext) -> str:
    """Id of the model that an attempt makes: an orphan of an older one writes elsewhere."""
    return f"{context.job.job_id.partition('-')[2]}-{context.attempt}"


async def forget_older_attempts(objects: Objects, context: JobContext) -> None:
    """Delete bundles of older attempts.

    Nothing refers to them: an attempt that registered one is never followed by another.
    """
    ulid = context.job.job_id.partition("-")[2]
    for attempt in range(1, context.attempt):
        await objects.delete_prefix(f"{bundle_key(f'{ulid}-{attempt}')}/")

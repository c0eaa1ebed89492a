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
from biosegment_trainer.learning.factor import NEAR, other_size, times, working_factor, working_pixel_nm
from biosegment_trainer.registry.model import Model, bundle_key
from biosegment_trainer.training.option import Option

_OBLONG: Final = 1.1
"""Longer by shorter edge of a voxel in plane, beyond which it is said."""
_UNLIKE: Final = 1.5
"""Largest by smallest pixel of a training's volumes, beyond which it is said."""


@dataclass(frozen=True, slots=True)
class GatheredVolumes:
    """What a worker is to know of volumes.

    Attributes:
        volumes: By id, with their factors.
        voxel_size_nm: Of the first one named.
        working_resolution_nm: Of the model: what was asked for, or the size of the pixels that all volumes really have
            where that is another.
        remarks: What a user should know.
    """

    volumes: Mapping[str, tuple[VolumeArray, int]]
    voxel_size_nm: tuple[float, float, float]
    working_resolution_nm: float
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
    remarks: list[str] = []
    sizes: list[VoxelSize] = []
    for name in names:
        volume = await datastore.volume(name)
        sizes.append(volume.voxel_size)
        remarks += _oblong(name, volume.voxel_size)
        remarks += other_size(name, volume.voxel_size.y_nm, working_resolution_nm, "the working resolution")
        factor = working_factor(working_resolution_nm, volume.voxel_size.y_nm)
        found[volume_id_of(name)] = (await volume_array(datastore, volume), factor)
    edges = [size.y_nm for size in sizes]
    remarks += _unlike(names, edges, working_resolution_nm)
    real = real_resolution(edges, working_resolution_nm)
    if real != working_resolution_nm:
        remarks.append(f"the model is recorded with the pixels of {real:.4g} nm that it is trained at")
    remarks = _other_resolution(parent, real) + remarks
    size = sizes[0]
    return GatheredVolumes(found, (size.z_nm, size.y_nm, size.x_nm), real, tuple(remarks))


def real_resolution(edges_nm: Sequence[float], working_resolution_nm: float) -> float:
    """The pixel size that a model of volumes with such voxels is of: that of the first where all agree in another one
    than is asked for, and what is asked for otherwise.

    A prediction averages as many voxels for the one as for the other.
    """
    pixels = [working_pixel_nm(working_resolution_nm, edge) for edge in edges_nm]
    real = pixels[0]
    if times(real, working_resolution_nm) <= NEAR or times(max(pixels), min(pixels)) > NEAR:
        return working_resolution_nm
    same = all(working_factor(real, edge) == working_factor(working_resolution_nm, edge) for edge in edges_nm)
    return real if same else working_resolution_nm


def _unlike(names: Sequence[str], edges_nm: Sequence[float], working_resolution_nm: float) -> list[str]:
    pixels = [(working_pixel_nm(working_resolution_nm, e), n) for n, e in zip(names, edges_nm, strict=True)]
    (least, fine), (most, coarse) = min(pixels), max(pixels)
    if times(least, most) <= _UNLIKE:
        return []
    return [
        f"pixels of the volumes differ, from {least:.4g} nm in {fine} to {most:.4g} nm in {coarse}: the same objects "
        f"have sizes in them that differ by a factor of {times(least, most):.2g}"
    ]


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

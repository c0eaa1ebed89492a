"""What is checked of labels that come in, to be kept as an annotation or as a draft."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass

from biosegment.errors import InvalidArgument
from biosegment_datastore.annotations.annotation import (
    NewAnnotation,
    complete_scope,
    count_labels,
    decode_labels,
    encode_block,
)
from biosegment_datastore.project import Project, check_text
from biosegment_datastore.volume import Volume

INLINE_BYTES = 1 << 18
"""Larger label blocks are handled in a thread, so that others need not wait."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Checked labels.

    Attributes:
        scope: The classes that were looked for.
        voxel_counts: Voxels by class value, 0 left out.
        sha256: Of the decoded labels, hexadecimal.
        block: What is stored.
    """

    scope: tuple[int, ...]
    voxel_counts: dict[int, int]
    sha256: str
    block: bytes


async def take_in(new: NewAnnotation, data: bytes, is_zlib: bool, project: Project, volume: Volume) -> Intake:
    """Check labels and what is said about them; InvalidArgument says what is wrong, as in the contract."""
    new.region.require_within(volume.shape, volume.name)
    scope = complete_scope(new.class_scope, project.class_values, new.kind)
    check_text("comment", new.comment, 0, 10_000)
    if not (math.isfinite(new.work_time_s) and new.work_time_s >= 0):
        raise InvalidArgument("BAD_WORK_TIME", f"work_time_s {new.work_time_s} is not a duration")
    if new.region.size * new.kind.data_type.itemsize <= INLINE_BYTES:
        return _packed(new, data, is_zlib, scope)
    return await asyncio.to_thread(_packed, new, data, is_zlib, scope)


def _packed(new: NewAnnotation, data: bytes, is_zlib: bool, scope: Collection[int]) -> Intake:
    labels = decode_labels(data, is_zlib, new.region, new.kind)
    counts = count_labels(labels, scope)
    digest = hashlib.sha256(labels.tobytes()).hexdigest()
    # What came as a zlib stream and was read to its end is stored as it is.
    return Intake(tuple(scope), counts, digest, encode_block(labels, data if is_zlib else b""))

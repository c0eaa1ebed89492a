"""Annotations: records, their present state, leases, and how label blocks lie upon each other."""

from __future__ import annotations

import enum
import hashlib
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biosegment.errors import FailedPrecondition, Internal, InvalidArgument
from biosegment.volume import BACKGROUND, FIRST_CLASS, NOT_ANNOTATED, Region

Labels = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.uint32]
"""Instance ids: 0 leaves a voxel as it is, `NO_INSTANCE` says that no object of the class is there."""

NO_INSTANCE = 0xFFFFFFFF
MAX_VOXELS = 64 << 20
MAX_SENT_BYTES = 4 << 20
_BLOCK_TYPES: dict[bytes, np.dtype[Any]] = {b"BSL1": np.dtype(np.uint8), b"BSI1": np.dtype("<u4")}
_BLOCK_MAGICS = {data_type: magic for magic, data_type in _BLOCK_TYPES.items()}


class AnnotationKind(enum.StrEnum):
    DENSE = "dense"
    SCRIBBLES = "scribbles"
    INSTANCES = "instances"

    @property
    def data_type(self) -> np.dtype[Any]:
        """Of the labels: uint8 class values, or uint32 ids, little-endian."""
        return _BLOCK_TYPES[b"BSI1" if self is AnnotationKind.INSTANCES else b"BSL1"]


class AnnotationState(enum.StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVERTED = "reverted"

    @property
    def holds(self) -> bool:
        """Whether it is shown, exported and trained on."""
        return self in (AnnotationState.PENDING, AnnotationState.ACCEPTED)


HOLDING = tuple(state.value for state in AnnotationState if state.holds)


class Action(enum.StrEnum):
    COMMITTED = "committed"
    REVERTED = "reverted"
    REVIEWED = "reviewed"


@dataclass(frozen=True, slots=True)
class NewAnnotation:
    """What an annotator says; `class_scope` empty means all classes of the project."""

    region: Region
    kind: AnnotationKind
    class_scope: tuple[int, ...]
    sample: str
    work_time_s: float
    comment: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """One immutable annotation and its present state.

    Attributes:
        sequence: Place in the project's order of records.
        key: Of its label block in the object storage.
        labels_sha256: Of the decoded labels, hexadecimal.
        voxel_counts: Voxels by class value, 0 left out; of instances, too, by the class that they are of.
    """

    project_id: str
    volume_id: str
    id: str
    sequence: int
    region: Region
    kind: AnnotationKind
    class_scope: tuple[int, ...]
    author: str
    create_time_us: int
    sample: str
    strategy: str
    model: str
    work_time_s: float
    labels_sha256: str
    voxel_counts: dict[int, int]
    comment: str
    key: str
    state: AnnotationState = AnnotationState.PENDING
    review_comment: str = ""

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}/annotations/{self.id}"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a project's order of records; `accepted` and `comment` belong to reviews."""

    sequence: int
    action: Action
    annotation: Annotation
    accepted: bool
    comment: str
    author: str
    create_time_us: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What the sampler signed: this holder may annotate this sample. `term` grows when somebody takes it over."""

    holder: str
    sample: str
    volume: str
    region: Region
    strategy: str
    model: str
    term: int = 0

    def check(self, user: str, volume_name: str, new: NewAnnotation) -> None:
        """Raise FailedPrecondition LEASE_MISMATCH unless the lease is for exactly this."""
        for what, leased, used in (
            ("holder", self.holder, user),
            ("sample", self.sample, new.sample),
            ("volume", self.volume, volume_name),
        ):
            if leased != used:
                raise FailedPrecondition(
                    "LEASE_MISMATCH",
                    f"the lease is for {what} {leased!r}, not {used!r}; claim the sample first",
                )
        if not self.region.contains(new.region):
            raise FailedPrecondition(
                "LEASE_MISMATCH",
                f"region {new.region} leaves the leased region {self.region}; annotate what was leased",
            )


def complete_scope(
    scope: Collection[int], class_values: Collection[int], kind: AnnotationKind = AnnotationKind.DENSE
) -> tuple[int, ...]:
    """The classes that were looked for.

    Raises:
        InvalidArgument: UNKNOWN_CLASS when the project lacks one; BAD_SCOPE unless instances are of one class.
    """
    if unknown := set(scope) - set(class_values):
        raise InvalidArgument(
            "UNKNOWN_CLASS", f"class_scope holds {sorted(unknown)}; the project has {sorted(class_values)}"
        )
    complete = tuple(sorted(set(scope))) or tuple(sorted(class_values))
    if kind is AnnotationKind.INSTANCES and len(complete) != 1:
        raise InvalidArgument(
            "BAD_SCOPE", f"instances are of exactly one class; class_scope has {list(complete)}, send one"
        )
    return complete


def decode_labels(
    data: bytes, is_zlib: bool, region: Region, kind: AnnotationKind = AnnotationKind.DENSE
) -> Labels | Ids:
    """Turn what was sent into an array of the region's shape: uint8 class values, or uint32 ids of instances.

    Raises:
        InvalidArgument: REGION_TOO_LARGE, LABELS_TOO_LARGE, BAD_LABELS_ENCODING, LABELS_WRONG_SIZE.
    """
    if region.size > MAX_VOXELS:
        raise InvalidArgument(
            "REGION_TOO_LARGE",
            f"region {region} has {region.size} voxels; an annotation has at most {MAX_VOXELS}",
        )
    if len(data) > MAX_SENT_BYTES:
        raise InvalidArgument(
            "LABELS_TOO_LARGE", f"labels are {len(data)} bytes; compress or split them to {MAX_SENT_BYTES}"
        )
    size = region.size * kind.data_type.itemsize
    if is_zlib:
        data = _inflate(data, size)
    if len(data) != size:
        raise InvalidArgument(
            "LABELS_WRONG_SIZE",
            f"region {region} has {region.size} voxels of {kind.data_type.itemsize} bytes for kind {kind}; "
            f"{size} bytes are needed, not {len(data)}",
        )
    return np.frombuffer(data, kind.data_type).reshape(region.shape)


def _inflate(data: bytes, size: int) -> bytes:
    decoder = zlib.decompressobj()
    try:
        # One byte more than allowed tells a bomb from the right size without unpacking it.
        decoded = decoder.decompress(data, size + 1)
    except zlib.error as error:
        raise InvalidArgument("BAD_LABELS_ENCODING", f"labels are no zlib stream: {error}") from error
    if len(decoded) <= size and not decoder.eof:
        raise InvalidArgument("BAD_LABELS_ENCODING", "labels are a zlib stream that ends early")
    if decoder.unused_data:
        raise InvalidArgument("BAD_LABELS_ENCODING", "labels go on after the end of their zlib stream")
    return decoded


def count_labels(labels: Labels | Ids, scope: Collection[int]) -> dict[int, int]:
    """Voxels by class value, 0 left out; InvalidArgument UNKNOWN_CLASS for values outside of the scope."""
    counts = np.bincount(class_labels(labels, scope).reshape(-1), minlength=256)
    present = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    if unknown := set(present) - {NOT_ANNOTATED, BACKGROUND, *scope}:
        raise InvalidArgument(
            "UNKNOWN_CLASS",
            f"labels hold {sorted(unknown)}; allowed are 0, 1 and the classes that were looked for: {sorted(scope)}",
        )
    present.pop(NOT_ANNOTATED, None)
    return present


def class_labels(labels: Labels | Ids, scope: Collection[int]) -> Labels:
    """What labels say in class values; instances are of the only class in their scope."""
    if labels.dtype == np.uint8:
        return labels.view(np.uint8)
    (value,) = scope
    classes = np.full(labels.shape, value, np.uint8)
    classes[labels == 0] = NOT_ANNOTATED
    classes[labels == NO_INSTANCE] = BACKGROUND
    return classes


def encode_block(labels: Labels | Ids, stream: bytes = b"") -> bytes:
    """The label block as it is stored: magic by type, SHA-256 of the decoded labels, zlib stream.

    Args:
        labels: (z, y, x).
        stream: The same labels as a zlib stream, when there is one already.
    """
    raw = np.ascontiguousarray(labels).tobytes()
    magic = _BLOCK_MAGICS[labels.dtype]
    return magic + hashlib.sha256(raw).digest() + (stream or zlib.compress(raw, 6))


def block_stream(block: bytes) -> bytes:
    """The zlib stream inside of a block."""
    return block[36:]


def decode_block(block: bytes, annotation: Annotation) -> Labels | Ids:
    """Labels of a stored block; Internal ANNOTATION_CORRUPT when it is not what the record says."""
    return decode_labels_block(block, annotation.labels_sha256, annotation.region, annotation.name)


def decode_labels_block(block: bytes, sha256: str, region: Region, name: str) -> Labels | Ids:
    """Labels of a stored block with this checksum; Internal ANNOTATION_CORRUPT."""
    data_type = _BLOCK_TYPES.get(block[:4])
    try:
        raw = zlib.decompress(block_stream(block))
    except zlib.error as error:
        raise _corrupt(name) from error
    digest = hashlib.sha256(raw).digest()
    if data_type is None or block[4:36] != digest or digest.hex() != sha256:
        raise _corrupt(name)
    labels: Labels | Ids = np.frombuffer(raw, data_type).reshape(region.shape)
    return labels


def _corrupt(name: str) -> Internal:
    return Internal("ANNOTATION_CORRUPT", f"the label block of {name} is damaged; restore it from a backup")


def overlay(below: Labels, labels: Labels | Ids, scope: Collection[int]) -> None:
    """Lay `labels` upon `below`, in place; those of instances as the class that they are of.

    Voxels that were not annotated stay. 'None of the scope's classes' says nothing about a class outside the scope, so
    that such a class stays too. Applying a run of blocks twice gives what applying it once gives.
    """
    values = class_labels(labels, scope)
    foreign = (below >= FIRST_CLASS) & ~np.isin(below, list(scope))
    keep = (values == NOT_ANNOTATED) | ((values == BACKGROUND) & foreign)
    np.copyto(below, values, where=~keep)

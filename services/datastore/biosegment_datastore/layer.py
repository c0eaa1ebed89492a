"""Layers: arrays aligned with a volume, written by one attempt and then immutable."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from biosegment.errors import Conflict, FailedPrecondition, InvalidArgument
from biosegment.volume import FIRST_CLASS, Index, Region
from biosegment_datastore.project import check_text

ANNOTATIONS_LAYER = "annotations"
"""Id of the projection of the annotation records."""

MAX_CHUNK_BYTES = 64 << 20
MAX_SHARD_BYTES = 2 << 30
MAX_CHANNELS = 4096


class LayerKind(enum.StrEnum):
    ANNOTATIONS = "annotations"
    PROBABILITIES = "probabilities"
    LABELS = "labels"
    INSTANCES = "instances"
    SCORE_MAP = "score_map"


class LayerState(enum.StrEnum):
    WRITING = "writing"
    COMMITTED = "committed"


DATA_TYPES: dict[LayerKind, tuple[str, ...]] = {
    LayerKind.ANNOTATIONS: ("uint8",),
    LayerKind.PROBABILITIES: ("uint8",),
    LayerKind.LABELS: ("uint8",),
    LayerKind.INSTANCES: ("uint32", "uint64"),
    LayerKind.SCORE_MAP: ("float16", "float32"),
}


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """What the maker of a layer says about it; `data_type` '' means the kind's own."""

    display_name: str
    kind: LayerKind
    data_type: str
    downsampling: Index
    class_value: int
    measure: str
    model: str
    job: str
    region: Region | None
    chunk: Index | None
    shard: Index | None
    channels: int = 1
    source_layer: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """An array of a volume.

    Attributes:
        shape: Voxels of the layer, ceil(volume shape / downsampling).
        region: Part of the volume that was computed, in voxels of level 0; None for all of it.
        attempt: Who may write: the last attempt only.
        storage_key: Prefix of all of its attempts.
        creator: The principal that made it; sees it before it is committed.
        channels: Values per voxel, beside each other along x of the array.
        source_layer: Name of the layer that the objects of an instances layer were found in; '' when there is none.
        edit_time_us: When its objects were last edited, or an edit was taken back; 0 for never.
    """

    project_id: str
    volume_id: str
    id: str
    display_name: str
    kind: LayerKind
    state: LayerState
    data_type: str
    downsampling: Index
    shape: Index
    class_value: int
    measure: str
    model: str
    job: str
    region: Region | None
    chunk: Index
    shard: Index
    attempt: int
    storage_key: str
    creator: str
    create_time_us: int
    commit_time_us: int = 0
    projected_sequence: int = 0
    channels: int = 1
    source_layer: str = ""
    edit_time_us: int = 0

    @property
    def name(self) -> str:
        return f"projects/{self.project_id}/volumes/{self.volume_id}/layers/{self.id}"

    @property
    def key(self) -> str:
        """Key of the array of the present attempt."""
        return f"{self.storage_key}/{self.attempt}"

    @property
    def array_shape(self) -> Index:
        """Of the stored array; regions to read and write lie in it."""
        return Index(self.shape.z, self.shape.y, self.shape.x * self.channels)

    @property
    def fill(self) -> float:
        return float("nan") if self.kind is LayerKind.SCORE_MAP else 0.0

    def require_attempt(self, attempt: int) -> None:
        """Return when `attempt` may write.

        Raises:
            Conflict: ATTEMPT_OUTDATED.
            FailedPrecondition: LAYER_COMMITTED.
        """
        self.require_newest(attempt)
        if self.state is LayerState.COMMITTED:
            raise FailedPrecondition(
                "LAYER_COMMITTED", f"{self.name} is committed and cannot change; make a new layer"
            )

    def require_newest(self, attempt: int) -> None:
        """Raise Conflict ATTEMPT_OUTDATED unless `attempt` is the last one."""
        if attempt != self.attempt:
            raise Conflict(
                "ATTEMPT_OUTDATED",
                f"{self.name} is at attempt {self.attempt}, not {attempt}; stop writing, a newer attempt took over",
                attempt=str(self.attempt),
            )


def edits_key(storage_key: str) -> str:
    """Prefix of the blocks of a layer's edits, beside the layer that is written once."""
    head, _, tail = storage_key.rpartition("/layers/")
    return f"{head}/edits/{tail}"


def check_request(request: LayerRequest, volume_shape: Index, class_values: frozenset[int]) -> str:
    """Check what a maker says about a layer and return its data type.

    Raises:
        InvalidArgument: BAD_LAYER, UNKNOWN_CLASS, REGION_OUT_OF_BOUNDS.
    """
    if request.kind is LayerKind.ANNOTATIONS:
        raise InvalidArgument(
            "BAD_LAYER", "the annotations layer is made by the datastore from the annotations"
        )
    check_text("display_name", request.display_name, 0, 200)
    allowed = DATA_TYPES[request.kind]
    data_type = request.data_type or allowed[0]
    if data_type not in allowed:
        raise InvalidArgument(
            "BAD_LAYER", f"a {request.kind} layer holds {' or '.join(allowed)}, not {data_type}"
        )
    if any(
        not 1 <= factor <= max(1, size)
        for factor, size in zip(request.downsampling, volume_shape, strict=True)
    ):
        raise InvalidArgument(
            "BAD_LAYER",
            f"downsampling {tuple(request.downsampling)} must be between 1 and the volume's shape",
        )
    if request.class_value and request.class_value not in class_values:
        raise InvalidArgument(
            "UNKNOWN_CLASS", f"the project has no class {request.class_value}; it has {sorted(class_values)}"
        )
    if request.kind is LayerKind.PROBABILITIES and request.class_value < FIRST_CLASS:
        raise InvalidArgument("BAD_LAYER", "a probabilities layer needs the class_value that it speaks of")
    if (request.kind is LayerKind.SCORE_MAP) != bool(request.measure):
        raise InvalidArgument("BAD_LAYER", "a score map needs its measure, and only a score map has one")
    if not 1 <= request.channels <= MAX_CHANNELS:
        raise InvalidArgument(
            "BAD_LAYER", f"{request.channels} channels are not between 1 and {MAX_CHANNELS}"
        )
    if request.channels > 1 and request.kind is not LayerKind.SCORE_MAP:
        raise InvalidArgument(
            "BAD_LAYER", f"only a score map has several channels, not a {request.kind} layer"
        )
    if request.source_layer and request.kind is not LayerKind.INSTANCES:
        raise InvalidArgument(
            "BAD_LAYER", f"only an instances layer has a source_layer, not a {request.kind} layer"
        )
    for field in ("measure", "model", "job"):
        check_text(field, getattr(request, field), 0, 200)
    if request.region is not None:
        request.region.require_within(volume_shape, "the volume")
    return data_type


def check_layout(chunk: Index | None, shard: Index | None, item_bytes: int) -> None:
    """InvalidArgument BAD_LAYER unless chunk and shard are of a size that can be held in memory."""
    for what, edges, limit in (("chunk", chunk, MAX_CHUNK_BYTES), ("shard", shard, MAX_SHARD_BYTES)):
        if edges is None:
            continue
        if min(edges) < 1 or edges.z * edges.y * edges.x * item_bytes > limit:
            raise InvalidArgument(
                "BAD_LAYER", f"{what} {tuple(edges)} must be at least 1 and at most {limit >> 20} MiB"
            )

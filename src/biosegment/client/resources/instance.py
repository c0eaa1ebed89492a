"""Edits of objects in layers of instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from biosegment.api.datastore.v1alpha1 import instance_pb2
from biosegment.client.resources.wire import time_of
from biosegment.rpc.geometry import region_from_proto
from biosegment.volume import Region


@dataclass(frozen=True, slots=True)
class InstanceEdit:
    """One immutable edit of the objects of a layer.

    Attributes:
        sequence: Place in the layer's order of edits.
        kind: merge, split, delete, reassign, reclassify, or revert.
        instances: Objects that it changed; of a reassignment those that lost voxels, 0 for background.
        into: Id after a merge or reassignment, 0 otherwise.
        new_instances: Objects that it made.
        class_value: After a reclassification.
        region: Smallest box around the voxels of a split or reassignment, in voxels of the layer; None for others.
        reverts: Name of the edit that a revert takes back.
        reverted: Whether it was taken back itself.
    """

    name: str
    sequence: int
    kind: str
    instances: tuple[int, ...]
    into: int
    new_instances: tuple[int, ...]
    class_value: int
    region: Region | None
    author: str
    create_time: datetime | None
    comment: str
    reverts: str
    reverted: bool

    @classmethod
    def from_proto(cls, message: instance_pb2.InstanceEdit) -> InstanceEdit:
        kind = message.WhichOneof("change") or ""
        instances: tuple[int, ...] = ()
        new: tuple[int, ...] = ()
        into, region = 0, None
        match kind:
            case "merge":
                instances, into = tuple(message.merge.instances), message.merge.into
            case "split":
                instances = (message.split.instance,)
                new = tuple(message.split.new_instances)
                region = region_from_proto(message.split.region)
            case "delete":
                instances = tuple(message.delete.instances)
            case "reassign":
                instances, into = tuple(message.reassign.sources), message.reassign.instance
                new = (message.reassign.new_instance,) if message.reassign.new_instance else ()
                region = region_from_proto(message.reassign.region)
            case "reclassify":
                instances = tuple(message.reclassify.instances)
        return cls(
            name=message.name,
            sequence=message.sequence,
            kind="revert" if kind == "reverts" else kind,
            instances=instances,
            into=into,
            new_instances=new,
            class_value=message.reclassify.class_value,
            region=region,
            author=message.author,
            create_time=time_of(message.create_time),
            comment=message.comment,
            reverts=message.reverts,
            reverted=message.reverted,
        )


@dataclass(frozen=True, slots=True)
class InstanceAt:
    """The object that a voxel belongs to.

    Attributes:
        instance: Its id, edits applied; 0 for background.
        stored_instance: What the layer says, without edits.
        sequence: Number of the last edit that was taken into account; edits go on from it as their `base_sequence`.
    """

    instance: int
    stored_instance: int
    sequence: int

    @classmethod
    def from_proto(cls, message: instance_pb2.GetInstanceAtResponse) -> InstanceAt:
        return cls(message.instance, message.stored_instance, message.sequence)

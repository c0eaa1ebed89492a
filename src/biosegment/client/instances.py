"""Correcting the objects of a layer of instances."""

from __future__ import annotations

import builtins
import uuid
import zlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.datastore.v1alpha1 import instance_pb2 as pb
from biosegment.api.datastore.v1alpha1.instance_pb2_grpc import InstanceEditServiceStub
from biosegment.client.resources import InstanceAt, InstanceEdit
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import index_to_proto, region_to_proto
from biosegment.volume import Region

_PAGE: Final = 1000


class Instances:
    """Edits of the objects of layers of instances: immutable records; undo adds to them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InstanceEditServiceStub(channel)

    async def merge(
        self,
        layer: str,
        instances: Sequence[int],
        *,
        into: int = 0,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
    ) -> InstanceEdit:
        """Make several objects one.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            instances: Their ids, two at least.
            into: The one of them whose id all get; the first when 0.
            comment: For people.
            base_sequence: Number of the last edit that was seen: a later one of the same objects refuses this one.
            request_id: UUID; give the same again to repeat a call whose answer was lost. Made up when empty.

        Raises:
            NotFound: INSTANCE_NOT_FOUND.
            FailedPrecondition: INSTANCE_GONE; it was merged or deleted by the edit that `metadata["edit"]` names.
            Conflict: BASE_OUTDATED; `metadata["edit"]` names the later edit.
        """
        edit = pb.InstanceEdit(merge=pb.InstanceMerge(instances=instances, into=into), comment=comment)
        return await self._commit(layer, edit, base_sequence, request_id)

    async def split(
        self,
        layer: str,
        instance: int,
        *,
        parts: NDArray[Any] | None = None,
        seeds: Sequence[Sequence[tuple[int, int, int]]] = (),
        region: Region | None = None,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
    ) -> InstanceEdit:
        """Make several objects of one.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            instance: Its id, which the first part keeps.
            parts: (z, y, x) of the region's shape: 0 keeps the id, 1, 2 ... 255 become a new object each. Or
            seeds: points (zyx, voxels of the layer) of each part, for two parts at least: a voxel belongs to the part
                whose points are nearest on a way within the object.
            region: What `parts` cover; with `seeds`, where to look, the whole object when None.
            comment: For people.
            base_sequence: Number of the last edit that was seen.
            request_id: UUID, made up when empty.

        Raises:
            InvalidArgument: PARTS_NOT_OF_OBJECT, PART_EMPTY, BAD_SEED.
            FailedPrecondition: INSTANCE_GONE, SPLIT_LEAVES_NOTHING.
        """
        if (parts is None) == (not seeds):
            raise InvalidArgument("BAD_EDIT", "a split needs either `parts` with their `region`, or `seeds`")
        split = pb.InstanceSplit(
            instance=instance,
            region=None if region is None else region_to_proto(region),
            seeds=[pb.InstanceSeeds(points=map(index_to_proto, points)) for points in seeds],
        )
        labels = None if parts is None else _packed(parts, region)
        edit = pb.InstanceEdit(split=split, comment=comment)
        return await self._commit(layer, edit, base_sequence, request_id, labels)

    async def delete(
        self,
        layer: str,
        instances: Sequence[int],
        *,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
    ) -> InstanceEdit:
        """Make objects background; in the segmentation, too. Arguments and errors as for `merge`."""
        edit = pb.InstanceEdit(delete=pb.InstanceDelete(instances=instances), comment=comment)
        return await self._commit(layer, edit, base_sequence, request_id)

    async def reassign(
        self,
        layer: str,
        mask: NDArray[Any],
        *,
        region: Region,
        instance: int = 0,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
    ) -> InstanceEdit:
        """Give voxels to another object, whatever they belong to now, background included.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            mask: (z, y, x) of the region's shape, true or 1 for the voxels.
            region: Where, in voxels of the layer.
            instance: The object that gets them; a new one when 0.
            comment: For people.
            base_sequence: Number of the last edit that was seen.
            request_id: UUID, made up when empty.

        Raises:
            InvalidArgument: NOTHING_CHANGES, REGION_OUT_OF_BOUNDS.
            FailedPrecondition: INSTANCE_GONE.
        """
        reassign = pb.InstanceReassign(region=region_to_proto(region), instance=instance or None)
        edit = pb.InstanceEdit(reassign=reassign, comment=comment)
        return await self._commit(layer, edit, base_sequence, request_id, _packed(mask, region))

    async def reclassify(
        self,
        layer: str,
        instances: Sequence[int],
        class_value: int,
        *,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
    ) -> InstanceEdit:
        """Make objects of another class: they leave the layer, and are of that class in the segmentation.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            instances: Their ids.
            class_value: A class of the project.
            comment: For people.
            base_sequence: Number of the last edit that was seen.
            request_id: UUID, made up when empty.

        Raises:
            InvalidArgument: UNKNOWN_CLASS, NOTHING_CHANGES.
            FailedPrecondition: INSTANCE_GONE, LAYER_HAS_NO_CLASS.
        """
        move = pb.InstanceReclassify(instances=instances, class_value=class_value)
        edit = pb.InstanceEdit(reclassify=move, comment=comment)
        return await self._commit(layer, edit, base_sequence, request_id)

    async def revert(self, name: str) -> InstanceEdit:
        """Take an edit back; it stays in the record. FailedPrecondition ALREADY_REVERTED."""
        request = pb.RevertInstanceEditRequest(name=name, request_id=str(uuid.uuid4()))
        return InstanceEdit.from_proto((await self._stub.RevertInstanceEdit(request)).edit)

    async def get(self, name: str) -> InstanceEdit:
        """Return an edit by its name."""
        request = pb.GetInstanceEditRequest(name=name)
        return InstanceEdit.from_proto((await self._stub.GetInstanceEdit(request)).edit)

    async def labels(self, name: str) -> NDArray[np.uint8]:
        """Return the block of a split or reassignment, (z, y, x) uint8 of its region's shape.

        Raises:
            InvalidArgument: NO_BLOCK when the edit is of another kind.
        """
        request = pb.GetInstanceEditRequest(name=name, with_labels=True)
        answer = await self._stub.GetInstanceEdit(request)
        found = InstanceEdit.from_proto(answer.edit)
        if not answer.labels or found.region is None:
            raise InvalidArgument("NO_BLOCK", f"{name} is a {found.kind}, which has no block of voxels")
        return np.frombuffer(zlib.decompress(answer.labels), np.uint8).reshape(found.region.shape)

    async def list(
        self, layer: str, *, instance: int = 0, after_sequence: int = 0
    ) -> builtins.list[InstanceEdit]:
        """Return the edits of a layer in order, reverts included.

        Args:
            layer: `projects/{p}/volumes/{v}/layers/{l}`.
            instance: Only those that touched this object: its history.
            after_sequence: Only later ones.
        """
        found: builtins.list[InstanceEdit] = []
        token = ""
        while True:
            request = pb.ListInstanceEditsRequest(
                parent=layer,
                instance=instance,
                after_sequence=after_sequence,
                page_size=_PAGE,
                page_token=token,
            )
            page = await self._stub.ListInstanceEdits(request)
            found.extend(map(InstanceEdit.from_proto, page.edits))
            token = page.next_page_token
            if not token:
                return found

    async def at(self, layer: str, position: tuple[int, int, int]) -> InstanceAt:
        """Return which object a voxel belongs to, edits applied; `position` is zyx in voxels of the layer."""
        request = pb.GetInstanceAtRequest(parent=layer, position=index_to_proto(position))
        return InstanceAt.from_proto(await self._stub.GetInstanceAt(request))

    async def _commit(
        self,
        layer: str,
        edit: pb.InstanceEdit,
        base_sequence: int | None,
        request_id: str,
        labels: bytes | None = None,
    ) -> InstanceEdit:
        request = pb.CommitInstanceEditRequest(
            parent=layer,
            edit=edit,
            labels=labels or b"",
            encoding=annotation_pb2.LABELS_ENCODING_ZLIB if labels else None,
            request_id=request_id or str(uuid.uuid4()),
            base_sequence=base_sequence,
        )
        return InstanceEdit.from_proto((await self._stub.CommitInstanceEdit(request)).edit)


def _packed(labels: NDArray[Any], region: Region | None) -> bytes:
    if region is None or labels.dtype.kind not in "uib" or tuple(labels.shape) != tuple(region.shape):
        shape = None if region is None else tuple(region.shape)
        raise InvalidArgument(
            "LABELS_WRONG_SIZE",
            f"labels are {labels.dtype} {labels.shape}; they need whole numbers in the shape of their region, {shape}",
        )
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise InvalidArgument(
            "BAD_EDIT", f"labels go from {labels.min()} to {labels.max()}; the parts are numbered 0 to 255"
        )
    return zlib.compress(np.ascontiguousarray(labels, np.uint8).tobytes(), 1)

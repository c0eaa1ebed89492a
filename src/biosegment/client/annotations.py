"""Committing, listing and reviewing annotations."""

from __future__ import annotations

import builtins
import uuid
import zlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.client.resources import Annotation, AnnotationRecord, Draft, Sample
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region

_PAGE: Final = 1000


class Annotations:
    """Annotations: immutable records; undo and review add to them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AnnotationServiceStub(channel)

    async def commit(
        self,
        labels: NDArray[np.uint8] | NDArray[np.uint32],
        *,
        sample: Sample | None = None,
        volume: str = "",
        region: Region | None = None,
        kind: str = "dense",
        class_scope: Sequence[int] = (),
        work_time_s: float = 0.0,
        comment: str = "",
        base_sequence: int | None = None,
        request_id: str = "",
        draft: str = "",
    ) -> Annotation:
        """Store an annotation; it is durable when this returns.

        Args:
            labels: (z, y, x) of the region's shape. uint8: 0 not annotated, 1 background, 2.. classes. For instances
                uint32: 0 leaves a voxel as it is, 4294967295 says that no object of the class is there, others are ids.
            sample: The leased sample that this answers; or give
            volume: and
            region: where the labels belong, in voxels of level 0.
            kind: dense, scribbles or instances.
            class_scope: Classes that were looked for; all of the project when empty. Instances are of one class.
            work_time_s: Seconds that it took.
            comment: For people.
            base_sequence: Refuse when a record after this one overlaps.
            request_id: UUID; give the same again to repeat a call whose answer was lost. Made up when empty.
            draft: Name of the draft that this finishes; it is deleted in the same step.

        Raises:
            FailedPrecondition: LEASE_EXPIRED; renew the lease and commit again.
            Conflict: BASE_OUTDATED; `metadata["annotation"]` names the newer annotation, so that a person can merge:
                read its labels, and commit with a newer base.
        """
        if sample is not None:
            volume, region = volume or sample.volume, region or sample.region
        if not volume or region is None:
            raise InvalidArgument("NO_REGION", "give either a sample, or a volume and a region")
        request = pb.CommitAnnotationRequest(
            parent=volume,
            annotation=pb.Annotation(
                region=region_to_proto(region),
                kind=_kind(kind),
                class_scope=class_scope,
                sample=sample.name if sample else "",
                work_time_s=work_time_s,
                comment=comment,
            ),
            labels=_packed(labels, region, kind),
            encoding=pb.LABELS_ENCODING_ZLIB,
            lease_token=sample.lease_token if sample else "",
            request_id=request_id or str(uuid.uuid4()),
            base_sequence=base_sequence,
            draft=draft,
        )
        return Annotation.from_proto((await self._stub.CommitAnnotation(request)).annotation)

    async def get(self, name: str) -> Annotation:
        """Return an annotation by its name."""
        return Annotation.from_proto(
            (await self._stub.GetAnnotation(pb.GetAnnotationRequest(name=name))).annotation
        )

    async def labels(self, name: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
        """Return the labels of an annotation, (z, y, x): uint8 class values, or uint32 ids of instances."""
        answer = await self._stub.GetAnnotation(pb.GetAnnotationRequest(name=name, with_labels=True))
        found = Annotation.from_proto(answer.annotation)
        return _unpacked(answer.labels, found.region, found.kind)

    async def list(
        self, parent: str, *, region: Region | None = None, sample: str = ""
    ) -> builtins.list[Annotation]:
        """Return the annotations of a volume or of a whole project, oldest first."""
        found: builtins.list[Annotation] = []
        token = ""
        while True:
            request = pb.ListAnnotationsRequest(
                parent=parent, sample=sample, page_size=_PAGE, page_token=token
            )
            if region is not None:
                request.region.CopyFrom(region_to_proto(region))
            page = await self._stub.ListAnnotations(request)
            found.extend(map(Annotation.from_proto, page.annotations))
            token = page.next_page_token
            if not token:
                return found

    async def revert(self, name: str) -> Annotation:
        """Take an annotation back; it stays in the record."""
        request = pb.RevertAnnotationRequest(name=name, request_id=str(uuid.uuid4()))
        return Annotation.from_proto((await self._stub.RevertAnnotation(request)).annotation)

    async def review(self, name: str, *, accepted: bool, comment: str = "") -> Annotation:
        """Accept an annotation, or reject it with a comment."""
        request = pb.ReviewAnnotationRequest(
            name=name, accepted=accepted, comment=comment, request_id=str(uuid.uuid4())
        )
        return Annotation.from_proto((await self._stub.ReviewAnnotation(request)).annotation)

    async def rebuild(self, volume: str) -> str:
        """Make the annotations layer anew from the records; returns the layer's name."""
        request = pb.RebuildAnnotationsLayerRequest(parent=volume)
        return (await self._stub.RebuildAnnotationsLayer(request)).layer

    async def history(
        self, volume: str, region: Region | None = None, *, after_sequence: int = 0
    ) -> builtins.list[AnnotationRecord]:
        """Return all that was done to the annotations of a volume, oldest first.

        Args:
            volume: `projects/{p}/volumes/{v}`.
            region: Only what was done to annotations that share a voxel with it; voxels of level 0.
            after_sequence: Only later records.
        """
        found: builtins.list[AnnotationRecord] = []
        while True:
            request = pb.ListAnnotationRecordsRequest(
                parent="/".join(volume.split("/")[:2]),
                volume=volume,
                after_sequence=after_sequence,
                page_size=_PAGE,
            )
            if region is not None:
                request.region.CopyFrom(region_to_proto(region))
            records = (await self._stub.ListAnnotationRecords(request)).records
            found.extend(map(AnnotationRecord.from_proto, records))
            if len(records) < _PAGE:
                return found
            after_sequence = records[-1].sequence

    async def save_draft(
        self,
        name: str,
        labels: NDArray[np.uint8] | NDArray[np.uint32],
        *,
        region: Region,
        kind: str = "dense",
        class_scope: Sequence[int] = (),
        sample: str = "",
        work_time_s: float = 0.0,
        comment: str = "",
        base_sequence: int = 0,
        etag: str = "",
    ) -> Draft:
        """Keep unfinished work, which only the caller can see; it is durable when this returns.

        Args:
            name: `projects/{p}/volumes/{v}/drafts/{d}`; the last part is of one's own choice, a-z, 0-9, '-'.
            labels: As for `commit`; what is not annotated yet is 0.
            region: Where the labels belong, in voxels of level 0.
            kind: dense, scribbles or instances.
            class_scope: As for `commit`.
            sample: Name of the sample that is being answered.
            work_time_s: Seconds that it took until now.
            comment: For people.
            base_sequence: Number of the last record that was seen.
            etag: Of the draft that this goes on from; '' replaces whatever is there.

        Raises:
            Conflict: ETAG_MISMATCH; another machine saved it since.
            ResourceExhausted: TOO_MANY_DRAFTS.
        """
        content = pb.Annotation(
            region=region_to_proto(region),
            kind=_kind(kind),
            class_scope=class_scope,
            sample=sample,
            work_time_s=work_time_s,
            comment=comment,
        )
        request = pb.SaveDraftRequest(
            draft=pb.Draft(name=name, annotation=content, base_sequence=base_sequence, etag=etag),
            labels=_packed(labels, region, kind),
            encoding=pb.LABELS_ENCODING_ZLIB,
        )
        return Draft.from_proto((await self._stub.SaveDraft(request)).draft)

    async def draft(self, name: str) -> tuple[Draft, NDArray[np.uint8] | NDArray[np.uint32]]:
        """Return one of the caller's drafts and its labels, as they were saved."""
        answer = await self._stub.GetDraft(pb.GetDraftRequest(name=name))
        found = Draft.from_proto(answer.draft)
        return found, _unpacked(answer.labels, found.region, found.kind)

    async def drafts(self, parent: str) -> builtins.list[Draft]:
        """Return the caller's drafts of a volume or of a whole project, newest first."""
        found: builtins.list[Draft] = []
        token = ""
        while True:
            request = pb.ListDraftsRequest(parent=parent, page_size=_PAGE, page_token=token)
            page = await self._stub.ListDrafts(request)
            found.extend(map(Draft.from_proto, page.drafts))
            token = page.next_page_token
            if not token:
                return found

    async def delete_draft(self, name: str) -> None:
        """Throw a draft away."""
        await self._stub.DeleteDraft(pb.DeleteDraftRequest(name=name))


def _kind(kind: str) -> Any:
    key = f"KIND_{kind.upper()}"
    if key not in pb.Annotation.Kind.keys():
        raise InvalidArgument(
            "UNKNOWN_KIND", f"annotation kind {kind!r} is none of dense, scribbles, instances"
        )
    return pb.Annotation.Kind.Value(key)


def _packed(labels: NDArray[np.uint8] | NDArray[np.uint32], region: Region, kind: str) -> bytes:
    data_type = _data_type(kind)
    if labels.dtype != data_type or tuple(labels.shape) != tuple(region.shape):
        raise InvalidArgument(
            "LABELS_WRONG_SIZE",
            f"labels are {labels.dtype} {labels.shape}; {kind} in {region} are {data_type} {tuple(region.shape)}",
        )
    return zlib.compress(np.ascontiguousarray(labels, data_type.newbyteorder("<")).tobytes(), 1)


def _unpacked(data: bytes, region: Region, kind: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    return np.frombuffer(zlib.decompress(data), _data_type(kind).newbyteorder("<")).reshape(region.shape)


def _data_type(kind: str) -> np.dtype[Any]:
    return np.dtype(np.uint32 if kind == "instances" else np.uint8)

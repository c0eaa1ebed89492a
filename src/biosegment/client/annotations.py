"""Committing, listing and reviewing annotations."""

from __future__ import annotations

import builtins
import uuid
import zlib
from collections.abc import Sequence

import grpc
import numpy as np
from numpy.typing import NDArray

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.client.resources import Annotation, Sample
from biosegment.errors import InvalidArgument
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Region


class Annotations:
    """Annotations: immutable records; undo and review add to them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = AnnotationServiceStub(channel)

    async def commit(
        self,
        labels: NDArray[np.uint8],
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
    ) -> Annotation:
        """Store an annotation; it is durable when this returns.

        Args:
            labels: (z, y, x) uint8 of the region's shape: 0 not annotated, 1 background, 2.. classes.
            sample: The leased sample that this answers; or give
            volume: and
            region: where the labels belong, in voxels of level 0.
            kind: dense or scribbles.
            class_scope: Classes that were looked for; all of the project when empty.
            work_time_s: Seconds that it took.
            comment: For people.
            base_sequence: Refuse (Conflict BASE_OUTDATED) when a newer record overlaps.
            request_id: UUID; give the same again to repeat a call whose answer was lost. Made up when empty.

        Raises:
            FailedPrecondition: LEASE_EXPIRED; renew the lease and commit again.
        """
        if sample is not None:
            volume, region = volume or sample.volume, region or sample.region
        if not volume or region is None:
            raise InvalidArgument("NO_REGION", "give either a sample, or a volume and a region")
        if labels.dtype != np.uint8 or tuple(labels.shape) != tuple(region.shape):
            raise InvalidArgument(
                "LABELS_WRONG_SIZE",
                f"labels are {labels.dtype} {labels.shape}; region {region} needs uint8 {tuple(region.shape)}",
            )
        key = f"KIND_{kind.upper()}"
        if key not in pb.Annotation.Kind.keys():
            raise InvalidArgument("UNKNOWN_KIND", f"annotation kind {kind!r} is none of dense, scribbles")
        request = pb.CommitAnnotationRequest(
            parent=volume,
            annotation=pb.Annotation(
                region=region_to_proto(region),
                kind=key,
                class_scope=class_scope,
                sample=sample.name if sample else "",
                work_time_s=work_time_s,
                comment=comment,
            ),
            labels=zlib.compress(np.ascontiguousarray(labels).tobytes(), 1),
            encoding=pb.LABELS_ENCODING_ZLIB,
            lease_token=sample.lease_token if sample else "",
            request_id=request_id or str(uuid.uuid4()),
            base_sequence=base_sequence,
        )
        return Annotation.from_proto((await self._stub.CommitAnnotation(request)).annotation)

    async def get(self, name: str) -> Annotation:
        """Return an annotation by its name."""
        return Annotation.from_proto(
            (await self._stub.GetAnnotation(pb.GetAnnotationRequest(name=name))).annotation
        )

    async def labels(self, name: str) -> NDArray[np.uint8]:
        """Return the labels of an annotation, (z, y, x) uint8."""
        answer = await self._stub.GetAnnotation(pb.GetAnnotationRequest(name=name, with_labels=True))
        shape = Annotation.from_proto(answer.annotation).region.shape
        return np.frombuffer(zlib.decompress(answer.labels), np.uint8).reshape(shape)

    async def list(
        self, parent: str, *, region: Region | None = None, sample: str = ""
    ) -> builtins.list[Annotation]:
        """Return the annotations of a volume or of a whole project, oldest first."""
        found: builtins.list[Annotation] = []
        token = ""
        while True:
            request = pb.ListAnnotationsRequest(
                parent=parent, sample=sample, page_size=1000, page_token=token
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

"""The datastore over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from biosegment.api.datastore.v1alpha1 import (
    annotation_pb2,
    annotation_pb2_grpc,
    datastore_pb2,
    datastore_pb2_grpc,
    volume_pb2,
)
from biosegment.ids import parse_name
from biosegment.rpc.geometry import index_from_proto, region_from_proto, voxel_size_from_proto
from biosegment_sampler.domain.agreement import Comparison, Overlap
from biosegment_sampler.domain.annotation import Annotation, Committed, Record, Reverted, Reviewed
from biosegment_sampler.domain.pool import VolumeGeometry
from biosegment_sampler.ports import ScoreLayer

_PAGE = 500
_DEFAULT_RESOLUTION_NM = 10.0


class DatastoreClient:
    """`ports.Datastore` over a channel in the sampler's own name."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._data = datastore_pb2_grpc.DatastoreServiceStub(channel)
        self._annotations = annotation_pb2_grpc.AnnotationServiceStub(channel)

    async def volumes(self, project_id: str) -> Sequence[VolumeGeometry]:
        name = f"projects/{project_id}"
        project = (await self._data.GetProject(datastore_pb2.GetProjectRequest(name=name))).project
        resolution_nm = project.working_resolution_nm or _DEFAULT_RESOLUTION_NM
        found: list[VolumeGeometry] = []
        token = ""
        while True:
            request = datastore_pb2.ListVolumesRequest(parent=name, page_size=_PAGE, page_token=token)
            page = await self._data.ListVolumes(request)
            found.extend(_geometry(volume, resolution_nm) for volume in page.volumes)
            token = page.next_page_token
            if not token:
                return sorted(found, key=lambda volume: volume.volume_id)

    async def records(self, project_id: str, after: int, limit: int) -> Sequence[Record]:
        request = annotation_pb2.ListAnnotationRecordsRequest(
            parent=f"projects/{project_id}", after_sequence=after, page_size=limit
        )
        answer = await self._annotations.ListAnnotationRecords(request)
        return [_record(record) for record in answer.records]

    async def score_layers(self, project_id: str, volume_id: str, model: str) -> Sequence[ScoreLayer]:
        found: list[ScoreLayer] = []
        token = ""
        while True:
            request = datastore_pb2.ListLayersRequest(
                parent=f"projects/{project_id}/volumes/{volume_id}",
                kinds=[volume_pb2.Layer.KIND_SCORE_MAP],
                model=model,
                page_size=_PAGE,
                page_token=token,
            )
            page = await self._data.ListLayers(request)
            found.extend(
                ScoreLayer(
                    layer.name,
                    volume_id,
                    layer.measure,
                    layer.uri,
                    index_from_proto(layer.downsampling),
                    job=layer.job,
                )
                for layer in page.layers
                # Services see layers that are still being written, too.
                if layer.state == volume_pb2.Layer.STATE_COMMITTED
            )
            token = page.next_page_token
            if not token:
                return found

    async def end_lease(self, sample: str, term: int, successor: str, successor_name: str) -> None:
        request = annotation_pb2.EndLeaseRequest(
            sample=sample, term=term, successor=successor, successor_name=successor_name
        )
        await self._annotations.EndLease(request)

    async def compare(self, first: str, second: str) -> Comparison:
        request = annotation_pb2.CompareAnnotationsRequest(first=first, second=second)
        answer = await self._annotations.CompareAnnotations(request)
        classes = {
            each.class_value: Overlap(each.intersection_voxels, each.union_voxels) for each in answer.classes
        }
        return Comparison(answer.compared_voxels, answer.agreed_voxels, classes)


def _geometry(volume: volume_pb2.Volume, working_resolution_nm: float) -> VolumeGeometry:
    _, volume_id = parse_name(volume.name, "projects/*/volumes/*")
    return VolumeGeometry(
        volume_id,
        index_from_proto(volume.shape),
        voxel_size_from_proto(volume.voxel_size),
        working_resolution_nm,
    )


def _record(record: annotation_pb2.AnnotationRecord) -> Record:
    kind = record.WhichOneof("record")
    if kind == "annotation":
        return Committed(record.sequence, _annotation(record))
    if kind == "reverted":
        return Reverted(record.sequence, record.reverted, record.author, _seconds(record.create_time))
    review = record.review
    return Reviewed(
        record.sequence,
        review.annotation,
        review.accepted,
        review.comment,
        record.author,
        _seconds(record.create_time),
    )


def _seconds(time: Timestamp) -> float:
    return time.ToNanoseconds() / 1e9


def _annotation(record: annotation_pb2.AnnotationRecord) -> Annotation:
    message = record.annotation
    _, volume_id, _ = parse_name(message.name, "projects/*/volumes/*/annotations/*")
    created = message.create_time if message.HasField("create_time") else record.create_time
    return Annotation(
        name=message.name,
        sequence=record.sequence,
        volume_id=volume_id,
        region=region_from_proto(message.region),
        author=message.author or record.author,
        sample_id=parse_name(message.sample, "projects/*/samples/*")[1] if message.sample else "",
        work_time_s=message.work_time_s,
        voxel_counts=dict(message.voxel_counts),
        created_at=_seconds(created),
    )

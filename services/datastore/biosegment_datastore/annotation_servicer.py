"""AnnotationService over gRPC: messages in, use case, messages out."""

from __future__ import annotations

from typing import Any, Final

from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1 import annotation_pb2_grpc
from biosegment.errors import InvalidArgument
from biosegment.ids import parse_name
from biosegment.rpc import current_principal
from biosegment.rpc.geometry import region_from_proto
from biosegment_datastore.annotations.commit_service import CommitService
from biosegment_datastore.annotations.draft_service import DraftService
from biosegment_datastore.annotations.service import AnnotationService
from biosegment_datastore.convert_annotation import (
    annotation_to_proto,
    comparison_to_proto,
    draft_to_proto,
    is_zlib,
    new_annotation_from_proto,
    record_to_proto,
    states_from_proto,
)
from biosegment_datastore.layer_service import LayerService

ANNOTATION_SERVICE: Final = "biosegment.api.datastore.v1alpha1.AnnotationService"
_NAME: Final = "projects/*/volumes/*/annotations/*"
_DRAFT: Final = "projects/*/volumes/*/drafts/*"


class AnnotationServicer(annotation_pb2_grpc.AnnotationServiceServicer):
    """Serves annotations and drafts."""

    def __init__(
        self,
        annotations: AnnotationService,
        commits: CommitService,
        drafts: DraftService,
        layers: LayerService,
    ) -> None:
        self._annotations = annotations
        self._commits = commits
        self._drafts = drafts
        self._layers = layers

    async def CommitAnnotation(
        self, request: pb.CommitAnnotationRequest, context: Any
    ) -> pb.CommitAnnotationResponse:
        project_id, volume_id = parse_name(request.parent, "projects/*/volumes/*")
        annotation = await self._commits.commit(
            current_principal(),
            project_id,
            volume_id,
            new_annotation_from_proto(request.annotation),
            request.labels,
            is_zlib(request.encoding),
            request.lease_token,
            request.request_id,
            request.base_sequence if request.HasField("base_sequence") else None,
            _draft_of(request),
        )
        return pb.CommitAnnotationResponse(annotation=annotation_to_proto(annotation))

    async def GetAnnotation(self, request: pb.GetAnnotationRequest, context: Any) -> pb.GetAnnotationResponse:
        annotation, labels = await self._annotations.get(
            current_principal(), *_ids(request.name), request.with_labels
        )
        return pb.GetAnnotationResponse(annotation=annotation_to_proto(annotation), labels=labels)

    async def ListAnnotations(
        self, request: pb.ListAnnotationsRequest, context: Any
    ) -> pb.ListAnnotationsResponse:
        project_id, volume_id = _parent(request.parent)
        page = await self._annotations.list(
            current_principal(),
            project_id,
            volume_id,
            states_from_proto(request.states),
            region_from_proto(request.region) if request.HasField("region") else None,
            request.sample,
            request.page_size,
            request.page_token,
        )
        items = [annotation_to_proto(item) for item in page.items]
        return pb.ListAnnotationsResponse(annotations=items, next_page_token=page.next_token)

    async def RevertAnnotation(
        self, request: pb.RevertAnnotationRequest, context: Any
    ) -> pb.RevertAnnotationResponse:
        annotation = await self._annotations.revert(
            current_principal(), *_ids(request.name), request.request_id
        )
        return pb.RevertAnnotationResponse(annotation=annotation_to_proto(annotation))

    async def ReviewAnnotation(
        self, request: pb.ReviewAnnotationRequest, context: Any
    ) -> pb.ReviewAnnotationResponse:
        annotation = await self._annotations.review(
            current_principal(), *_ids(request.name), request.accepted, request.comment, request.request_id
        )
        return pb.ReviewAnnotationResponse(annotation=annotation_to_proto(annotation))

    async def CompareAnnotations(
        self, request: pb.CompareAnnotationsRequest, context: Any
    ) -> pb.CompareAnnotationsResponse:
        project_id, volume_id, first = _ids(request.first)
        other_project, other_volume, second = _ids(request.second)
        if (other_project, other_volume) != (project_id, volume_id):
            raise InvalidArgument(
                "DIFFERENT_VOLUMES", f"{request.first} and {request.second} are not of one volume"
            )
        comparison = await self._annotations.compare(
            current_principal(), project_id, volume_id, first, second
        )
        return comparison_to_proto(comparison)

    async def EndLease(self, request: pb.EndLeaseRequest, context: Any) -> pb.EndLeaseResponse:
        (project_id, _) = parse_name(request.sample, "projects/*/samples/*")
        await self._annotations.end_lease(
            current_principal(),
            project_id,
            request.sample,
            request.term,
            request.successor,
            request.successor_name,
        )
        return pb.EndLeaseResponse()

    async def ListAnnotationRecords(
        self, request: pb.ListAnnotationRecordsRequest, context: Any
    ) -> pb.ListAnnotationRecordsResponse:
        (project_id,) = parse_name(request.parent, "projects/*")
        records = await self._annotations.records(
            current_principal(),
            project_id,
            request.after_sequence,
            request.page_size,
            _volume_of(request.volume, project_id),
            region_from_proto(request.region) if request.HasField("region") else None,
        )
        return pb.ListAnnotationRecordsResponse(records=[record_to_proto(record) for record in records])

    async def RebuildAnnotationsLayer(
        self, request: pb.RebuildAnnotationsLayerRequest, context: Any
    ) -> pb.RebuildAnnotationsLayerResponse:
        project_id, volume_id = parse_name(request.parent, "projects/*/volumes/*")
        layer = await self._layers.rebuild(current_principal(), project_id, volume_id)
        return pb.RebuildAnnotationsLayerResponse(
            layer=layer.name, projected_sequence=layer.projected_sequence
        )

    async def SaveDraft(self, request: pb.SaveDraftRequest, context: Any) -> pb.SaveDraftResponse:
        project_id, volume_id, draft_id = parse_name(request.draft.name, _DRAFT)
        draft = await self._drafts.save(
            current_principal(),
            project_id,
            volume_id,
            draft_id,
            new_annotation_from_proto(request.draft.annotation),
            request.draft.base_sequence,
            request.labels,
            is_zlib(request.encoding),
            request.draft.etag,
        )
        return pb.SaveDraftResponse(draft=draft_to_proto(draft))

    async def GetDraft(self, request: pb.GetDraftRequest, context: Any) -> pb.GetDraftResponse:
        draft, labels = await self._drafts.get(current_principal(), *parse_name(request.name, _DRAFT))
        return pb.GetDraftResponse(draft=draft_to_proto(draft), labels=labels)

    async def ListDrafts(self, request: pb.ListDraftsRequest, context: Any) -> pb.ListDraftsResponse:
        page = await self._drafts.list(
            current_principal(), *_parent(request.parent), request.page_size, request.page_token
        )
        items = [draft_to_proto(item) for item in page.items]
        return pb.ListDraftsResponse(drafts=items, next_page_token=page.next_token)

    async def DeleteDraft(self, request: pb.DeleteDraftRequest, context: Any) -> pb.DeleteDraftResponse:
        await self._drafts.delete(current_principal(), *parse_name(request.name, _DRAFT))
        return pb.DeleteDraftResponse()


def _parent(name: str) -> tuple[str, str]:
    """Ids of a project and of its volume, '' for all volumes."""
    if name.count("/") > 1:
        project_id, volume_id = parse_name(name, "projects/*/volumes/*")
        return project_id, volume_id
    return parse_name(name, "projects/*")[0], ""


def _volume_of(name: str, project_id: str) -> str:
    """Id of a volume of the project; '' for none."""
    if not name:
        return ""
    of_project, volume_id = parse_name(name, "projects/*/volumes/*")
    if of_project != project_id:
        raise InvalidArgument("BAD_PARENT", f"volume {name} is not one of projects/{project_id}")
    return volume_id


def _draft_of(request: pb.CommitAnnotationRequest) -> str:
    """Id of the draft that a commit finishes; '' for none."""
    if not request.draft:
        return ""
    *_, draft_id = parse_name(request.draft, _DRAFT)
    if request.draft != f"{request.parent}/drafts/{draft_id}":
        raise InvalidArgument("BAD_DRAFT", f"{request.draft} is no draft of {request.parent}")
    return draft_id


def _ids(name: str) -> tuple[str, str, str]:
    project_id, volume_id, annotation_id = parse_name(name, _NAME)
    return project_id, volume_id, annotation_id
